"""Accelerators: what hardware there is, how much of a card each is, how each engine hands it out."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from profiles import syntax
from profiles.mig import PROFILE, check_profile, profiles_of
from profiles.parts import Access, Environment, Frozen, MemorySize, Part, Text, Title
from profiles.selectors import MOST, check_selector
from profiles.syntax import SyntaxProblem

__all__ = ["Accelerator", "DraDevice", "KubernetesDevice", "LocalDevice", "Simulated", "Toleration"]


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


_SELECTOR_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 10 * 1024, "pattern": "device"}


class DraDevice(Part):
    """A device of Kubernetes' Dynamic Resource Allocation (resource.k8s.io/v1): its class, and which of the class."""

    device_class: Annotated[str, AfterValidator(syntax.check_object_name)]
    """Name of a DeviceClass of the cluster, such as gpu.nvidia.com."""
    selectors: Annotated[
        tuple[Annotated[str, AfterValidator(check_selector), WithJsonSchema(_SELECTOR_SCHEMA)], ...],
        Field(max_length=MOST),
    ] = ()
    """CEL expressions that a device must all meet, as in a ResourceClaim; none: every device of the class."""


class KubernetesDevice(Part):
    """How Kubernetes hands the accelerator out, and the nodes that have the right one."""

    resource: Annotated[str, AfterValidator(syntax.check_extended_resource)] | None = None
    """Extended resource of a device plugin, such as nvidia.com/gpu; or `dra`."""
    dra: DraDevice | None = None
    """Device of a DRA driver; or `resource`."""
    node_labels: Frozen[LabelKey, LabelValues] = Field(default_factory=_nothing, validate_default=True)
    """Labels that a node must have, each with one of the values."""
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: Annotated[str, AfterValidator(syntax.check_object_name)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.resource is None) == (self.dra is None):
            raise SyntaxProblem("write one of `resource` (a device plugin's) and `dra` (a device class)")
        return self

    @model_validator(mode="after")
    def _each_toleration_once(self) -> Self:
        for index, toleration in enumerate(self.tolerations):
            if toleration in self.tolerations[:index]:
                raise SyntaxProblem("the same toleration was given before", "tolerations", index)
        return self


_MIG_SCHEMA = {"type": "string", "pattern": f"^{PROFILE}$"}
_PRODUCT = {"type": "string", "minLength": 1, "maxLength": 200}
_PRODUCT_SCHEMA = {"anyOf": [_PRODUCT, {"type": "array", "minItems": 1, "items": _PRODUCT}]}


class LocalDevice(Part):
    """Which of one machine's own NVIDIA devices (found through NVML) the accelerator is."""

    product: Annotated[
        tuple[Title, ...], BeforeValidator(_one_or_more), Field(min_length=1), WithJsonSchema(_PRODUCT_SCHEMA)
    ]
    """Product name or names, exactly as `nvidia-smi -L` writes them, such as NVIDIA A100-SXM4-40GB."""
    mig: Annotated[str, AfterValidator(check_profile), WithJsonSchema(_MIG_SCHEMA)] | None = None
    """MIG profile, such as 1g.5gb; absent: whole cards that are not partitioned."""
    replicas: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    """How many sessions share one device; 1: each has its own."""


class Simulated(Part):
    """Accelerators that do not exist, for rehearsals: handed out by the local engine like real ones, labelled so."""

    count: Annotated[int, Field(strict=True, ge=1, le=1024)]
    """How many there are."""


def _share(value: object) -> Decimal:
    """`1`, `0.5` or `3/7`."""
    top, slash, bottom = str(value).partition("/")
    try:
        if isinstance(value, bool) or (isinstance(value, str) and not _SHARE_TEXT.fullmatch(value)):
            raise InvalidOperation
        share = Decimal(top) / Decimal(bottom) if slash else Decimal(top)
    except (InvalidOperation, ZeroDivisionError):
        raise SyntaxProblem(f"{syntax.shown(value)} is no share of a card: write one such as 1, 0.5 or 3/7") from None
    if not (share.is_finite() and 0 < share <= 1):
        raise SyntaxProblem(f"{syntax.shown(value)} is no share of a card: it must be above 0 and at most 1")
    if share < _LEAST_SHARE:
        raise SyntaxProblem(f"{syntax.shown(value)} is no share of a card: the smallest is {_LEAST_SHARE}")
    return share


_SHARE_TEXT = re.compile(r"[0-9]*\.?[0-9]+(/[0-9]+)?", re.ASCII)
_LEAST_SHARE = Decimal("0.0001")  # what is less would be lost in sums of what was used
_SHARE_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0.0001, "maximum": 1},
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
    per_node: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """How many one node has at most; nobody may ask for more. Absent: as many as the cluster turns out to have."""
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    """Environment variables of sessions that have it."""
    kubernetes: KubernetesDevice | None = None
    """How Kubernetes hands it out; absent: not offered there."""
    local: LocalDevice | None = None
    """Which of one machine's own devices it is; absent: not offered there, unless it is simulated."""
    simulated: Simulated | None = None
    """Hand out so many imagined ones on the local engine."""
    access: Access = Field(default_factory=Access.for_everyone)

    @model_validator(mode="after")
    def _real_or_simulated(self) -> Self:
        if self.local is not None and self.simulated is not None:
            raise SyntaxProblem("is real (`local`) and simulated at once: keep one of the two", "simulated")
        return self

    @model_validator(mode="after")
    def _same_slice_everywhere(self) -> Self:
        if self.kubernetes is None or self.local is None:
            return self
        for where in profiles_of(self.kubernetes.resource, self.kubernetes.node_labels):
            if where.profile != self.local.mig:
                here = f"slices {self.local.mig}" if self.local.mig else "whole cards"
                raise SyntaxProblem(
                    f"{where.written!r} on Kubernetes means slices {where.profile}, but {here} here: an accelerator "
                    "is one kind of device, write two",
                    "local",
                    "mig",
                )
        return self
