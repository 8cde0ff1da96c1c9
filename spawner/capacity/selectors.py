"""CEL selectors of DRA devices, evaluated as the scheduler does (k8s.io/dynamic-resource-allocation/cel). Pure.

Whatever this cannot evaluate the way Kubernetes would is an `Unevaluable`, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import cel
from cel.stdlib import add_stdlib_to_context

from profiles.quantities import QuantityError, parse_quantity

__all__ = ["Selectors", "Unevaluable"]

Json = Mapping[str, Any]

_TEXTS = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""")
_DOMAIN_ASKED_FOR = re.compile(r"\bin\s+device\.(attributes|capacity)\b(?!\s*\[)")
_WHOLE_MAP = re.compile(r"\b(exists|exists_one|all|map|filter|size)\s*\(|\+")
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_QUANTITY, _VERSION = "k8s.quantity", "k8s.semver"
_REMEMBERED = 10_000


class Unevaluable(Exception):
    """A selector, or one of its devices, is beyond what this can evaluate; the text says what, in a few words."""


class Selectors:
    """Expressions that a device must all meet.

    Raises
    ------
    Unevaluable
        One of them cannot be compiled.
    """

    def __init__(self, expressions: Iterable[str]) -> None:
        self._programs: list[cel.Program] = []
        self._sources: list[str] = []
        for expression in expressions:
            if _DOMAIN_ASKED_FOR.search(_TEXTS.sub('""', expression)):
                raise Unevaluable("a selector asks which domains a device has")
            try:
                self._programs.append(cel.compile(expression))
            except ValueError as error:
                raise Unevaluable(f"a selector cannot be read: {_first_line(error)}") from None
            self._sources.append(expression)
        # A domain that a device knows nothing of is an empty one; every text of an expression may name a domain.
        self._domains = {double or single for text in self._sources for double, single in _TEXTS.findall(text)}
        self._looks_at_all = any(_WHOLE_MAP.search(text) for text in self._sources)
        self._context = cel.Context()
        add_stdlib_to_context(self._context)
        for name, function in _FUNCTIONS.items():
            self._context.add_function(name, function)
        self._known: dict[str, bool] = {}

    def match(self, driver: str, attributes: Json, capacity: Json, *, many: bool = False) -> bool:
        """Return whether a device meets all expressions, the first one that is not met deciding.

        Parameters
        ----------
        attributes, capacity
            As a ResourceSlice has them.
        many
            Whether several claims may share the device.

        Raises
        ------
        Unevaluable
            It cannot be told; Kubernetes gives an error for such a device too, or knows more than this.
        """
        attributes, capacity = self._mentioned(attributes), self._mentioned(capacity)
        # Devices that differ only in what no expression mentions, such as their serial number, need one evaluation.
        key = json.dumps([driver, attributes, capacity, many], sort_keys=True, default=str)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = self._evaluate({
                "driver": driver,
                "attributes": self._by_domain(driver, attributes, _attribute),
                "capacity": self._by_domain(driver, capacity, _capacity),
                "allowMultipleAllocations": many,
            })  # fmt: skip
        return self._known[key]

    def _mentioned(self, named: Json) -> Json:
        if self._looks_at_all:
            return named
        return {name: value for name, value in named.items() if any(_local(name) in text for text in self._sources)}

    def _by_domain(self, driver: str, named: Json, read: Callable[[Json], Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {domain: {} for domain in self._domains}
        for name, value in named.items():
            domain = name.rpartition("/")[0] or driver
            found.setdefault(domain, {})[_local(name)] = read(value)
        return found

    def _evaluate(self, device: Json) -> bool:
        self._context.add_variable("device", device)
        for program in self._programs:
            try:
                outcome = program.execute(self._context)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # a panic of the library is no Exception
                raise Unevaluable(f"a selector cannot be evaluated: {_first_line(error)}") from None
            if not isinstance(outcome, bool):
                raise Unevaluable("a selector is neither true nor false")
            if not outcome:
                return False
        return True


def _local(name: str) -> str:
    return name.rpartition("/")[2]


def _first_line(error: BaseException) -> str:
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    return (said.splitlines() or [type(error).__name__])[0][:160]


def _attribute(value: Json) -> Any:
    for kind in ("string", "bool", "int"):
        if value.get(kind) is not None:
            return value[kind]
    return _semver(str(value.get("version")))


def _capacity(value: Json) -> Any:
    return _quantity(str(value.get("value")))


# --- what Kubernetes adds to CEL: quantities and versions ------------------------------------------------------------
# As mappings with one key, because those compare by value in CEL as well.


def _quantity(text: str) -> dict[str, str]:
    try:
        return _as_quantity(parse_quantity(text))
    except QuantityError as error:
        raise Unevaluable(str(error)) from None


def _as_quantity(number: Decimal) -> dict[str, str]:
    return {_QUANTITY: format(number.normalize(), "f")}


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except QuantityError:
        return False
    return True


def _semver(text: str) -> dict[str, str]:
    if not _SEMVER.fullmatch(text):
        raise Unevaluable(f"{text[:40]!r} is no version")
    return {_VERSION: text.partition("+")[0]}


def _order(value: Json) -> Any:
    """Return what two quantities, or two versions, are compared by."""
    if _QUANTITY in value:
        return Decimal(value[_QUANTITY])
    match = _SEMVER.fullmatch(value[_VERSION])
    if match is None:
        raise Unevaluable("no version")
    release, identifiers = tuple(int(match[part]) for part in (1, 2, 3)), match[4]
    if identifiers is None:
        return release, (1,)  # a release comes after what was before it (semver.org, 11)
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in identifiers.split("."))
    return release, (0, parts)


def _compare(one: Json, other: Json) -> int:
    if one.keys() != other.keys():
        raise Unevaluable("a quantity compared to a version")
    left, right = _order(one), _order(other)
    return int(left > right) - int(left < right)


def _release(part: int) -> Callable[[Json], int]:
    return lambda value: int(_order(value)[0][part])


def _added(sign: int) -> Callable[[Json, Any], Json]:
    def add(one: Json, other: Any) -> Json:
        more = Decimal(other) if isinstance(other, int) else _order(other)
        return _as_quantity(_order(one) + sign * more)

    return add


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantity": _quantity,
    "isQuantity": _is_quantity,
    "compareTo": _compare,
    "isGreaterThan": lambda one, other: _compare(one, other) > 0,
    "isLessThan": lambda one, other: _compare(one, other) < 0,
    "asInteger": lambda one: int(_order(one)),
    "asApproximateFloat": lambda one: float(_order(one)),
    "isInteger": lambda one: _order(one) == _order(one).to_integral_value(),
    "sign": lambda one: (_order(one) > 0) - (_order(one) < 0),
    "add": _added(1),
    "sub": _added(-1),
    "semver": _semver,
    "isSemver": lambda text: _SEMVER.fullmatch(text) is not None,
    "major": _release(0),
    "minor": _release(1),
    "patch": _release(2),
}
