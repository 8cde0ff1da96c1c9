"""The catalogue: accelerators, images and profiles, as frozen values.

Built by `profiles.loader` from YAML, or by `profiles.profile_list` from a KubeSpawner profile_list. What concerns one
object is checked here; what concerns several (an option that names an unknown image) in `profiles.checks`.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from profiles import syntax
from profiles.choices import Choice, ChoiceOption, NamedOption, NumberOption, Options, Unlisted
from profiles.parts import (
    Access,
    DefaultUrl,
    Engine,
    Environment,
    Frozen,
    Key,
    MemorySize,
    Overrides,
    Part,
    Text,
    Title,
)
from profiles.syntax import SyntaxProblem

__all__ = [
    "NO_ACCELERATOR",
    "Accelerator",
    "Access",
    "Catalogue",
    "Choice",
    "ChoiceOption",
    "Engine",
    "Image",
    "KubernetesDevice",
    "LocalImage",
    "NamedOption",
    "NumberOption",
    "Options",
    "Profile",
    "Toleration",
    "Unlisted",
]

NO_ACCELERATOR = "none"
"""What stands for no accelerator among an option's choices; no accelerator may have this key."""


def _nothing() -> Mapping[str, Any]:
    return {}


class Toleration(Part):
    """Lets a pod onto nodes with a taint (Kubernetes, "Taints and Tolerations")."""

    key: Annotated[str, AfterValidator(syntax.check_label_key)]
    operator: Literal["Exists", "Equal"] = "Exists"
    """`Exists` where not given, `Equal` where a value is given."""
    value: Annotated[str, AfterValidator(syntax.check_label_value)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Every effect where not given."""

    @model_validator(mode="before")
    @classmethod
    def _operator_of_value(cls, data: object) -> object:
        if isinstance(data, Mapping) and "operator" not in data and data.get("value") is not None:
            return {**data, "operator": "Equal"}
        return data

    @model_validator(mode="after")
    def _value_where_equal(self) -> Self:
        if self.operator == "Equal" and self.value is None:
            raise SyntaxProblem("operator Equal needs a value")
        if self.operator == "Exists" and self.value is not None:
            raise SyntaxProblem("operator Exists takes no value", "value")
        return self


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


_LABEL_VALUE_SCHEMA = {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"}

LabelValues = Annotated[
    tuple[Annotated[str, AfterValidator(syntax.check_label_value)], ...],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_LABEL_VALUE_SCHEMA, {"type": "array", "minItems": 1, "items": _LABEL_VALUE_SCHEMA}]}),
]
"""Values of a node label, any of which will do."""


LabelKey = Annotated[str, AfterValidator(syntax.check_label_key)]


class KubernetesDevice(Part):
    """How Kubernetes hands the accelerator out: the device plugin's resource, and the nodes that have the right one."""

    resource: Annotated[str, AfterValidator(syntax.check_extended_resource)]
    """Extended resource, such as nvidia.com/gpu."""
    node_labels: Frozen[LabelKey, LabelValues] = Field(default_factory=_nothing, validate_default=True)
    """Labels that a node must have, each with one of the values."""
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: Annotated[str, AfterValidator(syntax.check_object_name)] | None = None


def _share(value: object) -> Decimal:
    """`1`, `0.5` or `3/7`."""
    top, slash, bottom = str(value).partition("/")
    plain = isinstance(value, Decimal) or str(value).replace("/", "").replace(".", "").isascii()
    try:
        if isinstance(value, bool) or not plain or "_" in str(value):
            raise InvalidOperation
        share = Decimal(top) / Decimal(bottom) if slash else Decimal(top)
    except (InvalidOperation, ZeroDivisionError):
        raise SyntaxProblem(f"{syntax.shown(value)} is no share of a card: write one such as 1, 0.5 or 3/7") from None
    if not (share.is_finite() and 0 < share <= 1):
        raise SyntaxProblem(f"{syntax.shown(value)} is no share of a card: it must be above 0 and at most 1")
    return share


_SHARE_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "pattern": "^[0-9]*\\.?[0-9]+(/[0-9]+)?$"},
    ]
}


class Accelerator(Part):
    """A kind of hardware with a name: what it is, how much of a card it is, how each engine hands it out."""

    title: Title
    description: Text = ""
    family: str = ""
    """What belongs together in lists and plots, such as A100 for its slices and the whole card."""
    memory: MemorySize | None = None
    """Memory of its own, such as 40Gi."""
    share: Annotated[Decimal, BeforeValidator(_share), WithJsonSchema(_SHARE_SCHEMA)] = Decimal(1)
    """Part of a whole card, for accounting: above 0, at most 1; also as a fraction such as 3/7."""
    kubernetes: KubernetesDevice | None = None
    """How Kubernetes hands it out; absent: not offered there."""
    access: Access = Field(default_factory=Access.for_everyone)


class LocalImage(Part):
    """What an image means where sessions are processes on one machine."""

    command: tuple[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], ...] = ()
    """Program and arguments that start the single-user server; empty: the hub's own environment."""
    environment: Environment = Field(default_factory=_nothing, validate_default=True)


class Image(Part):
    """The software of a session."""

    title: Title
    description: Text = ""
    reference: Annotated[str, AfterValidator(syntax.check_image_reference)] | None = None
    """Container image for Kubernetes; absent: not offered there."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    local: LocalImage | None = None
    """How it starts on one machine; absent: not offered there. `{}` is the hub's own environment."""
    default_url: DefaultUrl | None = None
    """Where a session opens, such as /lab."""
    access: Access = Field(default_factory=Access.for_everyone)

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.reference is None and self.local is None:
            raise SyntaxProblem("can start nowhere: write `reference` (Kubernetes), `local: {}` (one machine) or both")
        return self


class Profile(Part):
    """What a person can start."""

    title: Title
    description: Text = ""
    default: Annotated[bool, Field(strict=True)] = False
    """Whether it is picked already when the form opens; the first profile where none says so."""
    access: Access = Field(default_factory=Access.for_everyone)
    options: Options = Field(default_factory=Options)
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner that this profile changes."""
    start_timeout_s: Annotated[int, Field(strict=True, ge=10, le=86_400)] | None = None
    """Seconds that a start may take; the engine's own limit where absent."""


class Catalogue(Part):
    """Everything that can be asked for, in the order of the file."""

    accelerators: Frozen[Key, Accelerator] = Field(default_factory=_nothing, validate_default=True)
    images: Frozen[Key, Image] = Field(default_factory=_nothing, validate_default=True)
    profiles: Frozen[Key, Profile]

    @model_validator(mode="after")
    def _some_profile(self) -> Self:
        if not self.profiles:
            raise SyntaxProblem("a catalogue needs at least one profile", "profiles")
        return self

    @property
    def default_profile(self) -> str:
        """Key of the profile that is started when none is named."""
        marked = (key for key, profile in self.profiles.items() if profile.default)
        return next(marked, next(iter(self.profiles)))
