"""What the sections of the chart's values have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from helm.base import Model, Objects, Text

__all__ = ["Amounts", "Disruption", "Dns", "Image", "Placing", "Quantity", "Resources"]


Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Dns = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$", max_length=63)]


class Image(Model):
    """An image."""

    repository: str = Field(description="Registry, path and name.", min_length=1)
    tag: str = Field(default="", description="Tag. Empty: the chart's appVersion.")
    digest: str = Field(
        default="", description="Digest (`sha256:…`), which wins over the tag.", pattern=r"^(sha256:[0-9a-f]{64})?$"
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When it is pulled."
    )


class Amounts(Model):
    """Cpu in cores and memory in bytes, as Kubernetes writes them."""

    cpu: Quantity | None = Field(default=None, description="Cores.")
    memory: Quantity | None = Field(default=None, description="Bytes.")


class Resources(Model):
    """What a container asks for and may have."""

    requests: Amounts = Field(default=Amounts(), description="What the scheduler keeps for it.")
    limits: Amounts = Field(default=Amounts(), description="What it may have at most.")


class Placing(Model):
    """Where pods run."""

    node_selector: Text = Field(default={}, description="Labels that the node must have.")
    tolerations: Objects = Field(default=[], description="Taints that they tolerate.")
    affinity: dict[str, Any] = Field(default={}, description="Affinity, as in a pod.")
    priority_class_name: str = Field(default="", description="An existing PriorityClass. Empty: see `priority`.")
    annotations: Text = Field(default={}, description="Annotations of the pods.")
    labels: Text = Field(default={}, description="More labels of the pods.")


class Disruption(Model):
    """PodDisruptionBudget."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    min_available: int = Field(default=1, ge=0, description="How many pods stay during a voluntary disruption.")
