"""The documents that the front end is given; `src/state.ts` has the same, with who asks for what.

Two parts are put together in `State`. `session`, `budgets`, `notices`, `ticket` and `links` are what Armillary's
service said last, at `as_of`; `here` is what this session measured of itself. Moments are seconds since 1970 by the
service's clock, and so is `now`, carried on by this machine's monotonic clock since it spoke: a page counts down by
`moment - now`, and no two clocks are compared.

Unknown keys are passed over and missing ones have the defaults below, so that a session's image may be older or newer
than the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

__all__ = [
    "Budget",
    "Choice",
    "Choices",
    "Device",
    "Here",
    "Keep",
    "Links",
    "Notice",
    "Said",
    "Session",
    "State",
    "Switched",
    "Ticket",
    "Wanted",
    "read",
    "written",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Keep:
    """Whether *Keep my session* would do something now."""

    possible: bool = False
    left: int | None = None
    """How often it may still be asked; None: as often as one likes."""


@dataclass(frozen=True)
class Session:
    """The session that this server is."""

    server: str = ""
    """Its name; empty: the one without a name."""
    accelerator: str = ""
    """Key; empty: none."""
    title: str = ""
    """What it is called on screen; empty: none."""
    count: int = 0
    share: float = 0.0
    """Of whole cards, all of the count together."""
    simulated: bool = False
    profile: str = ""
    """Title of what was started."""
    account: str = ""
    """What is charged: `user:NAME` or `group:NAME`."""
    started_at: float | None = None
    ends_at: float | None = None
    """By the limit of its length; None: no limit."""
    stop_at: float | None = None
    """When it will be stopped, announced; None: it will not."""
    stop_because: str = ""
    """idle, limit, budget, switch or admin; empty: it will not be stopped."""
    keep: Keep = field(default_factory=Keep)


@dataclass(frozen=True)
class Budget:
    """How much of one limit over a time is used, in share-hours: hours of a whole card."""

    whose: str = ""
    """"you" or, for example, "group cms"."""
    what: str = ""
    """What is counted; empty: accelerators of every kind."""
    window: str = ""
    """In words: "this week", "the last 24 hours"."""
    used_h: float = 0.0
    limit_h: float = 0.0
    renews_at: float | None = None
    """When it begins anew; None: it slides."""
    field: str = ""
    """As in the API of quotas: `hours:week:a100`."""


@dataclass(frozen=True)
class Notice:
    """Something that the person should read."""

    id: str = ""
    kind: str = ""
    """idle, budget, limit, stopped, queue or maintenance."""
    level: str = "info"
    """info, warning or danger."""
    text: str = ""
    made_at: float = 0.0
    until: float | None = None
    """Not shown from then on; None: until it is dismissed."""


@dataclass(frozen=True)
class Ticket:
    """A place in the queue for what this session is to be switched to."""

    id: str = ""
    title: str = ""
    place: int = 0
    of: int = 0
    text: str = ""


@dataclass(frozen=True)
class Links:
    """Pages of the service: paths that begin with a slash."""

    usage: str = ""
    queue: str = ""


@dataclass(frozen=True)
class Device:
    """One accelerator as the session sees it."""

    name: str = ""
    utilisation: float | None = None
    """0 to 1; None: the driver does not tell, as for slices of a card."""
    memory_used: int | None = None
    memory_total: int | None = None


@dataclass(frozen=True)
class Here:
    """What this session measured of itself last; memory in bytes."""

    cpu: float | None = None
    """Cores in use, over the last interval."""
    cpu_limit: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    devices: list[Device] = field(default_factory=list)
    kernels: int = 0
    busy_kernels: int = 0
    terminals: int = 0
    busy_terminals: int = 0
    connections: int = 0
    """Of applications such as VS Code."""


@dataclass(frozen=True)
class State:
    """All that is known of this session."""

    now: float = 0.0
    as_of: float | None = None
    """When the service spoke last; None: never."""
    problem: str = ""
    """Why nothing newer is known; empty: all is well."""
    session: Session = field(default_factory=Session)
    budgets: list[Budget] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    ticket: Ticket | None = None
    links: Links = field(default_factory=Links)
    here: Here = field(default_factory=Here)


@dataclass(frozen=True)
class Choice:
    """An accelerator that this session could be switched to."""

    accelerator: str = ""
    """Key; empty: none."""
    title: str = ""
    simulated: bool = False
    current: bool = False
    free: int | None = None
    """None: nobody can tell now."""
    total: int | None = None
    ahead: int = 0
    """How many wait for it."""
    estimate: str = ""
    """When one that asks now would have it, in words; empty: at once, or not known."""
    refused: str = ""
    """Why this person cannot have it; empty: they can."""
    most: int = 1
    """How many one may ask for."""


@dataclass(frozen=True)
class Choices:
    """All of them."""

    choices: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """What somebody chose."""

    accelerator: str = ""
    count: int = 1


@dataclass(frozen=True)
class Switched:
    """What came of it."""

    outcome: str = "waiting"
    """waiting: there is a ticket; starting: the present session is about to be stopped."""
    text: str = ""


@dataclass(frozen=True)
class Said:
    """One sentence for the person."""

    text: str = ""


def written(value: Any) -> dict[str, Any]:
    """Return one of the values above as it goes into JSON."""
    made: dict[str, Any] = asdict(value)
    return made


def read(kind: type[T], said: object) -> T:
    """Return a value from JSON; what is missing or of a wrong type has its default."""
    given = said if isinstance(said, Mapping) else {}
    hints = get_type_hints(kind)
    found = {}
    for one in fields(kind):  # type: ignore[arg-type]  # every kind here is a dataclass
        if one.name in given:
            value = _value(hints[one.name], given[one.name])
            if value is not _WRONG:
                found[one.name] = value
    return kind(**found)


_WRONG = object()


def _value(hint: Any, said: Any) -> Any:
    """Return what was said as a value of this type, `_WRONG` if it is none."""
    parts = getattr(hint, "__args__", ())
    if said is None:
        return None if type(None) in parts else _WRONG
    if getattr(hint, "__origin__", None) is list:
        made = [_value(parts[0], each) for each in said] if isinstance(said, list) else [_WRONG]
        return _WRONG if any(each is _WRONG for each in made) else made
    plain = next((part for part in parts if part is not type(None)), hint)
    if is_dataclass(plain):
        return read(plain, said) if isinstance(said, Mapping) else _WRONG  # type: ignore[arg-type]
    if plain is bool or isinstance(said, bool):
        return said if isinstance(said, bool) and plain is bool else _WRONG
    if plain is float:
        return float(said) if isinstance(said, int | float) else _WRONG
    return said if isinstance(said, plain) else _WRONG
