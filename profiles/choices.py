"""What a profile lets people choose: numbers within limits, named things, and free-form choices."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from profiles import syntax
from profiles.parts import (
    QUANTITY_SCHEMA,
    Access,
    Bytes,
    Cores,
    Environment,
    Frozen,
    Key,
    Overrides,
    Part,
    Pieces,
    Text,
    Title,
)
from profiles.syntax import SyntaxProblem

__all__ = ["Choice", "ChoiceOption", "NamedOption", "NumberOption", "Options", "Pattern", "Unlisted"]

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(syntax.check_pattern)]
"""A regular expression that the whole of a text must match."""


def _nothing() -> Mapping[str, Any]:
    return {}


class NumberOption(Part):
    """A number to choose: one of `choices`, or anything from `minimum` to `maximum`.

    CPU counts cores, memory bytes, accelerators whole cards.
    """

    choices: tuple[Decimal, ...] = ()
    """What may be picked; empty means a range."""
    minimum: Decimal | None = Field(default=None, alias="min")
    maximum: Decimal | None = Field(default=None, alias="max")
    default: Decimal
    """What is taken when nothing is picked: the first choice or the minimum where not given."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, data: object) -> object:
        """`2`, `[1, 2, 4]` and a mapping without `default` become the full form."""
        if isinstance(data, Mapping):
            data = dict(data)
            first = _first(data.get("choices")) if data.get("choices") else data.get("min", data.get("minimum"))
            return data if "default" in data or first is None else {**data, "default": first}
        if isinstance(data, list | tuple):
            return {"choices": data, "default": _first(data)} if data else {"choices": data, "default": 1}
        return {"choices": [data], "default": data}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ranged = self.minimum is not None or self.maximum is not None
        if ranged and self.choices:
            raise SyntaxProblem("has choices and a range: write `choices`, or `min` and `max`")
        if not ranged and not self.choices:
            raise SyntaxProblem("lets nobody choose anything: write at least one choice, or `min` and `max`")
        if ranged:
            self._range()
        else:
            _no_doubles(self.choices)
            if self.default not in self.choices:
                raise SyntaxProblem("the default is none of the choices", "default")
        return self

    def _range(self) -> None:
        if self.minimum is None or self.maximum is None:
            raise SyntaxProblem("a range needs both `min` and `max`")
        if self.minimum > self.maximum:
            raise SyntaxProblem("the minimum is larger than the maximum", "min")
        if not self.minimum <= self.default <= self.maximum:
            raise SyntaxProblem("the default lies outside of `min` to `max`", "default")

    def allows(self, value: Decimal) -> bool:
        """Whether the number may be picked."""
        if self.choices:
            return value in self.choices
        return self.minimum is not None and self.maximum is not None and self.minimum <= value <= self.maximum


def _first(data: object) -> object:
    return data[0] if isinstance(data, list | tuple) and data else data


def _no_doubles(choices: tuple[object, ...]) -> None:
    for index, choice in enumerate(choices):
        if choice in choices[:index]:
            raise SyntaxProblem("the same choice was given before", "choices", index)


_ONLY_ALIASES = ConfigDict(validate_by_name=False, validate_by_alias=True)
# In YAML the limits are called min and max only.


class _Cpu(NumberOption):
    model_config = _ONLY_ALIASES

    choices: tuple[Cores, ...] = ()
    minimum: Cores | None = Field(default=None, alias="min")
    maximum: Cores | None = Field(default=None, alias="max")
    default: Cores


class _Memory(NumberOption):
    model_config = _ONLY_ALIASES

    choices: tuple[Bytes, ...] = ()
    minimum: Bytes | None = Field(default=None, alias="min")
    maximum: Bytes | None = Field(default=None, alias="max")
    default: Bytes


class _Count(NumberOption):
    model_config = _ONLY_ALIASES

    choices: tuple[Pieces, ...] = ()
    minimum: Pieces | None = Field(default=None, alias="min")
    maximum: Pieces | None = Field(default=None, alias="max")
    default: Pieces


def _read_as(kind: type[NumberOption]) -> BeforeValidator:
    """Reads the shorthands in the unit of the option; a ready-made NumberOption passes as it is."""
    return BeforeValidator(
        lambda value: value if value is None or isinstance(value, NumberOption) else kind.model_validate(value)
    )


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _shorthands(one: dict[str, Any], *more: dict[str, Any]) -> WithJsonSchema:
    many = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    return WithJsonSchema(
        {"anyOf": [{"type": "null"}, one, many, _object({"choices": many, "default": one}, "choices"), *more]}
    )


_RANGE = _object({"min": QUANTITY_SCHEMA, "max": QUANTITY_SCHEMA, "default": QUANTITY_SCHEMA}, "min", "max")
_NUMBER_SCHEMA = _shorthands(QUANTITY_SCHEMA, _RANGE)
_NAME_SCHEMA = _shorthands({"type": "string", "maxLength": 63, "pattern": f"^{syntax.KEY}$"})


class NamedOption(Part):
    """One of several named things: images, or accelerators, where `none` stands for a session without one."""

    choices: tuple[Annotated[str, AfterValidator(syntax.check_key)], ...]
    default: str

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, data: object) -> object:
        """`a`, `[a, b]` and a mapping without `default` become the full form."""
        if isinstance(data, Mapping):
            first = _first(data.get("choices"))
            return dict(data) if "default" in data or not isinstance(first, str) else {**data, "default": first}
        if isinstance(data, list | tuple):
            return {"choices": data, "default": _first(data) if data and isinstance(data[0], str) else ""}
        return {"choices": [data], "default": data}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.choices:
            raise SyntaxProblem("lets nobody choose anything: write at least one choice", "choices")
        _no_doubles(self.choices)
        if self.default not in self.choices:
            raise SyntaxProblem(f"{syntax.shown(self.default)} is none of the choices", "default")
        return self


class Choice(Part):
    """One entry of a free-form option and what it changes."""

    title: Title
    description: Text = ""
    access: Access = Field(default_factory=Access.for_everyone)
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner that this choice changes, on top of the profile's."""


class Unlisted(Part):
    """A field for what is not on the list; the whole text that is typed must match `pattern`."""

    title: Title
    """Label of the field."""
    in_choices: Title = "Other…"
    """How the field is offered among the choices."""
    pattern: Pattern
    """Python regular expression that the whole text must match."""
    message: Text = ""
    """What to write, in words, for whoever wrote something else."""
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    """Environment variables; `{value}` stands for what was typed."""
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner; `{value}` stands for what was typed."""


class ChoiceOption(Part):
    """A free-form option: named choices, each with its own changes to the session."""

    RESERVED: ClassVar[frozenset[str]] = frozenset({"profile", "image", "cpu", "memory", "accelerator", "count", "app"})
    """Names that mean something else in a request."""
    UNLISTED: ClassVar[str] = "unlisted-choice"
    """What forms send instead of a choice when the text field was used, so no choice may have this name."""

    title: Title
    description: Text = ""
    choices: Frozen[Key, Choice] = Field(default_factory=_nothing, validate_default=True)
    default: str | None = None
    """Key of the choice that is taken when nothing is picked; the first one where not given."""
    unlisted: Unlisted | None = None

    @model_validator(mode="before")
    @classmethod
    def _first_is_default(cls, data: object) -> object:
        if isinstance(data, Mapping) and data.get("default") is None and isinstance(data.get("choices"), Mapping):
            return {**data, "default": next(iter(data["choices"]), None)}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.choices and self.unlisted is None:
            raise SyntaxProblem("lets nobody choose anything: write `choices` or `unlisted`")
        if self.default is not None and self.default not in self.choices:
            raise SyntaxProblem(f"{syntax.shown(self.default)} is none of the choices", "default")
        return self


class Options(Part):
    """What people may choose in a profile. What is absent is not offered; the engine's own default holds."""

    image: Annotated[NamedOption | None, _NAME_SCHEMA] = None
    """Key of an image, a list of keys (the first is the default), or a mapping with `choices` and `default`."""
    cpu: Annotated[NumberOption | None, _read_as(_Cpu), _NUMBER_SCHEMA] = None
    """CPU cores: a number, a list of numbers (the first is the default), or a mapping with `choices`, or `min` and
    `max`, and `default`."""
    memory: Annotated[NumberOption | None, _read_as(_Memory), _NUMBER_SCHEMA] = None
    """Memory, such as 2Gi; written like `cpu`."""
    accelerator: Annotated[NamedOption | None, _NAME_SCHEMA] = None
    """Key of an accelerator or `none`; written like `image`."""
    count: Annotated[NumberOption | None, _read_as(_Count), _NUMBER_SCHEMA] = None
    """How many of the accelerator; written like `cpu`; 1 where absent."""
    choices: Frozen[Key, ChoiceOption] = Field(default_factory=_nothing, validate_default=True)
    """Free-form options by key."""
