"""Limits as values: which there are, whose they are, and how much each allows. Knows no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Literal, NewType, cast, get_args

from profiles.syntax import SyntaxProblem, check_key, shown
from profiles.wording import did_you_mean

__all__ = [
    "HEADS",
    "WINDOWS",
    "Field",
    "Limit",
    "Limits",
    "Parts",
    "QuotaProblem",
    "QuotaRow",
    "Quotas",
    "Window",
    "in_order",
    "parse_field",
    "parts",
]

Window = Literal["day", "week", "month", "24h", "7d", "30d"]
"""A day, week (from Monday) or month of the calendar, or so many hours or days that slide along with the clock."""

WINDOWS: tuple[Window, ...] = get_args(Window)

Head = Literal["servers", "accelerators", "cpu", "memory", "hours", "session_s", "queued", "jobs"]

HEADS: tuple[Head, ...] = get_args(Head)
"""What can be limited, in the order in which limits are told."""

_NOT_OF_SERVERS: frozenset[Head] = frozenset({"queued", "jobs"})

Field = NewType("Field", str)
"""A head, and for `accelerators` and `hours` what it is narrowed to: `accelerators:t4`, `hours:week`,
`hours:week:t4`. Only `parse_field` makes one."""

_LEGAL = (
    "servers, accelerators, accelerators:KIND, cpu, memory, hours:WINDOW, hours:WINDOW:KIND, session_s, queued, jobs"
)


class QuotaProblem(ValueError):
    """A subject, field or value that is none; the text says what would be legal."""


@dataclass(frozen=True)
class Parts:
    """A field taken apart; `kind` is an accelerator's key, None: all of them together."""

    head: Head
    window: Window | None = None
    kind: str | None = None


def parse_field(text: str, kinds: Iterable[str] | None = None) -> Field:
    """Return the field that is written here.

    Parameters
    ----------
    kinds
        The accelerators that there are; None: any key will do.

    Raises
    ------
    QuotaProblem
        It is none.
    """
    found = _take_apart(text)
    if kinds is not None and found.kind is not None:
        legal = sorted(kinds)
        if found.kind not in legal:
            there_are = ", ".join(legal) or "none"
            raise QuotaProblem(
                f"there is no accelerator {shown(found.kind)}{did_you_mean(found.kind, legal)}; legal here: {there_are}"
            )
    return Field(text)


@lru_cache(maxsize=4096)
def parts(field: Field) -> Parts:
    """Return what a field consists of."""
    return _take_apart(field)


def _take_apart(text: str) -> Parts:
    head, *more = text.split(":", 2)
    if head not in HEADS:
        raise QuotaProblem(f"{shown(text)} is no limit{did_you_mean(head, HEADS)}; legal: {_LEGAL}")
    if head == "hours":
        return _hours(text, more)
    if not more:
        return Parts(cast(Head, head))
    if head != "accelerators":
        raise QuotaProblem(f"{shown(text)} is no limit: {head} stands alone; legal: {_LEGAL}")
    return Parts("accelerators", kind=_kind(text, ":".join(more)))


def _hours(text: str, more: list[str]) -> Parts:
    if not more or more[0] not in WINDOWS:
        raise QuotaProblem(
            f"{shown(text)} is no limit: hours need a window{did_you_mean(more[0], WINDOWS) if more else ''}; "
            f"legal: {', '.join(f'hours:{window}' for window in WINDOWS)}"
        )
    return Parts("hours", more[0], _kind(text, more[1]) if len(more) > 1 else None)


def _kind(text: str, kind: str) -> str:
    try:
        return check_key(kind)
    except SyntaxProblem:
        raise QuotaProblem(f"{shown(text)} is no limit: {shown(kind)} is no key of an accelerator") from None


def in_order(fields: Iterable[Field]) -> list[Field]:
    """Return fields in the order in which people are told them."""

    def place(field: Field) -> tuple[int, int, str]:
        found = parts(field)
        return HEADS.index(found.head), WINDOWS.index(found.window) if found.window else -1, found.kind or ""

    return sorted(fields, key=place)


@dataclass(frozen=True)
class Limit:
    """How much is allowed at most, in the unit of the field (cores, bytes, hours, seconds, pieces).

    `value` 0: nothing is allowed; None: no limit, said expressly so that a wider limit does not hold.
    `source`: the subject whose limit it is, such as `default` or `group:cms`.
    """

    value: Decimal | None
    source: str


class Limits(Mapping[Field, Limit]):
    """The limits that hold for somebody, by field, in the order in which they are told. What has none is not in it."""

    def __init__(self, limits: Mapping[Field, Limit] | None = None) -> None:
        given = limits or {}
        self._limits: Mapping[Field, Limit] = MappingProxyType({field: given[field] for field in in_order(given)})

    def __getitem__(self, field: Field) -> Limit:
        return self._limits[field]

    def __iter__(self) -> Iterator[Field]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def __repr__(self) -> str:
        return f"Limits({dict(self._limits)})"

    def value(self, field: str) -> Decimal | None:
        """Return how much is allowed; None: no limit."""
        found = self._limits.get(Field(field))
        return None if found is None else found.value

    @cached_property
    def bind_starts(self) -> bool:
        """Whether any of these can keep a server from starting: not so those of places in the queue and remote jobs."""
        heads = (parts(field).head for field, limit in self._limits.items() if limit.value is not None)
        return any(head not in _NOT_OF_SERVERS for head in heads)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The windows over which somebody's hours must be known to check these."""
        found = {parts(field).window for field, limit in self._limits.items() if limit.value is not None}
        return tuple(window for window in WINDOWS if window in found)


@dataclass(frozen=True)
class QuotaRow:
    """One limit as it is stored: whose, of what, how much, and who wrote it when."""

    subject: str
    field: Field
    value: Decimal | None
    declared: bool = False
    """By the file of quotas, which says it again at every start."""
    changed_at: float = 0.0
    changed_by: str = ""


class Quotas:
    """All limits that are set, or those of some subjects. Frozen.

    Raises
    ------
    ValueError
        Two rows are about the same.
    """

    def __init__(self, rows: Iterable[QuotaRow] = ()) -> None:
        self.rows: tuple[QuotaRow, ...] = tuple(rows)
        found: dict[str, dict[Field, QuotaRow]] = {}
        for row in self.rows:
            if found.setdefault(row.subject, {}).setdefault(row.field, row) is not row:
                raise ValueError(f"{row.subject} {row.field} is there twice")
        self._by_subject = MappingProxyType({subject: MappingProxyType(fields) for subject, fields in found.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotas) and self._by_subject == other._by_subject

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody of whom a limit is set, by name."""
        return tuple(sorted(self._by_subject))

    def of(self, subject: str) -> Mapping[Field, QuotaRow]:
        """Return the limits that are set of this subject itself."""
        return self._by_subject.get(subject, MappingProxyType({}))

    def row(self, subject: str, field: str) -> QuotaRow | None:
        """Return one limit; None: it is not set."""
        return self.of(subject).get(Field(field))
