"""What every model of the catalogue is made of: frozen parts, read-only mappings, checked texts, access rules."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from profiles import syntax
from profiles.kubespawner_settings import canonical
from profiles.quantities import QuantityError, parse_quantity
from profiles.syntax import SyntaxProblem

__all__ = [
    "QUANTITY_SCHEMA",
    "Access",
    "Bytes",
    "Cores",
    "DefaultUrl",
    "Engine",
    "Environment",
    "Frozen",
    "Key",
    "MemorySize",
    "Overrides",
    "Part",
    "Pieces",
    "Text",
    "Title",
]

Engine = Literal["kubernetes", "local"]
"""What starts servers: a Kubernetes cluster, or processes on this machine."""

K = TypeVar("K")
V = TypeVar("V")


class Part(BaseModel):
    """A frozen piece of the catalogue that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_by_name=True, validate_by_alias=True
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: it never changes, and traitlets deep-copies every configured value for every server."""
        return self


def _frozen(mapping: Mapping[K, V]) -> Mapping[K, V]:
    return MappingProxyType(dict(mapping))


Frozen = Annotated[Mapping[K, V], AfterValidator(_frozen), PlainSerializer(dict)]
"""A mapping that keeps its order and cannot be changed."""

Key = Annotated[str, WithJsonSchema({"type": "string", "maxLength": 63, "pattern": f"^{syntax.KEY}$"})]
"""A key as catalogues write it. Checked by the loader: keys of a translated KubeSpawner profile_list are free text."""

Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(syntax.check_plain_text)
]
Text = Annotated[str, StringConstraints(max_length=4000)]
DefaultUrl = Annotated[str, AfterValidator(syntax.check_default_url)]


def _variable(value: str) -> str:
    if "\0" in value:
        raise SyntaxProblem("holds a zero byte, which no environment can")
    return value


VariableName = Annotated[str, AfterValidator(syntax.check_environment_name)]
VariableValue = Annotated[str, AfterValidator(_variable)]
Environment = Frozen[VariableName, VariableValue]
"""Environment variables; the values are literal text."""

Overrides = Annotated[Mapping[str, Any], AfterValidator(canonical), AfterValidator(_frozen), PlainSerializer(dict)]
"""Settings of KubeSpawner by name, as `kubespawner_override` in a profile_list. Read them through
`profiles.overrides`."""


def _quantity(value: object, example: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise SyntaxProblem(f"must be {example}, got {syntax.shown(value)}")
    try:
        return parse_quantity(value)
    except QuantityError as error:
        raise SyntaxProblem(str(error)) from None


def _cores(value: object) -> Decimal:
    cores = _quantity(value, "a number of CPU cores such as 0.5, 500m or 2")
    if cores <= 0 or cores > 10_000:
        raise SyntaxProblem(f"{syntax.shown(value)} is no number of CPU cores: write more than 0 and at most 10000")
    if cores % Decimal("0.001"):
        raise SyntaxProblem(f"{syntax.shown(value)} is finer than Kubernetes allows, a thousandth of a core (1m)")
    return cores


def _bytes(value: object) -> Decimal:
    size = _quantity(value, "an amount of memory such as 512Mi or 2Gi")
    if size < 2**20:
        raise SyntaxProblem(
            f"{syntax.shown(value)} is {size:f} bytes; memory is at least 1Mi{_meant_memory(value)}"
            if size > 0
            else f"{syntax.shown(value)} is no amount of memory: write one such as 512Mi or 2Gi"
        )
    if size % 1:
        raise SyntaxProblem(f"{syntax.shown(value)} is no whole number of bytes")
    return size


def _meant_memory(value: object) -> str:
    text = str(value)
    if text.endswith("m"):
        return f" ('m' is a thousandth; did you mean {text[:-1]}Mi?)"
    return f" (did you mean {text}{'Gi' if int(text) <= 64 else 'Mi'}?)" if text.isdecimal() else ""


def _pieces(value: object) -> Decimal:
    pieces = _quantity(value, "a whole number of cards such as 1 or 2")
    if pieces % 1 or not 1 <= pieces <= 1024:
        raise SyntaxProblem(f"{syntax.shown(value)} is no number of cards: write a whole number from 1 to 1024")
    return pieces


_NOTATION = r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?$"

QUANTITY_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "maxLength": 64, "pattern": _NOTATION}]
}
"""A positive quantity in JSON Schema: the notation only, the loader also checks the size."""

Cores = Annotated[Decimal, BeforeValidator(_cores)]
"""CPU in cores."""
Bytes = Annotated[Decimal, BeforeValidator(_bytes)]
"""Memory in bytes."""
Pieces = Annotated[Decimal, BeforeValidator(_pieces)]
"""Whole cards."""
MemorySize = Annotated[int, BeforeValidator(lambda value: int(_bytes(value))), WithJsonSchema(QUANTITY_SCHEMA)]
"""Memory in bytes, of a thing that has so much of it."""


class Access(Part):
    """Who may pick a thing: `everyone`, or who is in one of the groups or is one of the users. Administrators always
    may."""

    everyone: Annotated[bool, Field(strict=True)] = False
    groups: tuple[Title, ...] = ()
    """Names of groups as the login provider gives them; membership in one is enough."""
    users: tuple[Title, ...] = ()
    """Names of users."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, data: object) -> object:
        if isinstance(data, str):
            if data != "everyone":
                raise SyntaxProblem(f"{syntax.shown(data)}: write 'everyone', or a mapping with 'groups' or 'users'")
            return {"everyone": True}
        return data

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        named = bool(self.groups or self.users)
        if self.everyone and named:
            raise SyntaxProblem("says everyone and names groups or users: write one of the two")
        if not self.everyone and not named:
            raise SyntaxProblem("names nobody: write 'everyone', or a mapping with 'groups' or 'users'")
        return self

    @classmethod
    def for_everyone(cls) -> "Access":
        return cls(everyone=True)
