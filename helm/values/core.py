"""The chart's values about hub, proxy, service and controller."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helm.base import Model, Objects, Text
from helm.values.parts import Amounts, Disruption, Placing, Resources

__all__ = ["Controller", "Hub", "Proxy", "Service"]


class Hub(Placing):
    """The hub. There is one pod; an update replaces it (`Recreate`) while proxy and sessions go on."""

    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="512Mi"), limits=Amounts(memory="2Gi")),
        description="About 0.3 GB per 1,000 running servers, beside 0.3 GB.",
    )
    disruption: Disruption = Field(
        default=Disruption(), description="With one pod it would keep nodes from being drained, so it is off."
    )
    extra_config: Text = Field(
        default={}, description="Python that runs after our configuration, by name; read in the order of the names."
    )
    extra_env: Objects = Field(default=[], description="More environment variables, as in a container.")
    extra_volumes: Objects = Field(default=[], description="More volumes, as in a pod.")
    extra_volume_mounts: Objects = Field(default=[], description="More mounts, as in a container.")
    grace_seconds: int = Field(default=30, ge=1, le=600, description="How long it may take to end, in seconds.")


class ProxyService(Model):
    """The Service that people reach, by an Ingress, a Gateway or directly."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="Its type.")
    port: int = Field(default=80, ge=1, le=65535, description="Its port.")
    node_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port on the nodes, with NodePort. Empty: any."
    )
    annotations: Text = Field(default={}, description="Annotations, for instance of a cloud's load balancer.")
    load_balancer_class: str = Field(default="", description="Class of the load balancer. Empty: the cluster's.")


class Proxy(Placing):
    """configurable-http-proxy. It is restarted only when its own image, token or resources change."""

    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="It holds every connection of every browser.",
    )
    disruption: Disruption = Field(
        default=Disruption(), description="With one pod it would keep nodes from being drained."
    )
    service: ProxyService = Field(default=ProxyService(), description="The Service in front of it.")
    timeout_seconds: int = Field(
        default=0, ge=0, description="End a connection without traffic after so long. 0: never."
    )
    extra_args: list[str] = Field(default=[], description="More arguments.")
    grace_seconds: int = Field(default=60, ge=1, le=3600, description="How long it may take to end, in seconds.")


class Autoscaling(Model):
    """HorizontalPodAutoscaler by cpu."""

    enabled: bool = Field(default=False, description="Whether the number follows the load.")
    min_replicas: int = Field(default=2, ge=1, description="At least so many.")
    max_replicas: int = Field(default=5, ge=1, description="At most so many.")
    cpu_percent: int = Field(
        default=70, ge=1, le=100, description="The use of the requested cpu that is aimed at, in percent."
    )


class Service(Placing):
    """REST API and pages; any number of pods."""

    replicas: int = Field(default=2, ge=1, description="How many, where nothing scales them.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="100m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="Each live page costs about 50 kB.",
    )
    autoscaling: Autoscaling = Field(default=Autoscaling(), description="More of them under load.")
    disruption: Disruption = Field(default=Disruption(enabled=True), description="One stays while nodes are drained.")


class Controller(Placing):
    """The loops that count, queue, stop and repair; one acts, the others wait to take over."""

    replicas: int = Field(default=2, ge=1, description="How many.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="100m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="It knows every node and pod of the cluster, slim: 190 MB for 1,000 nodes and 10,000 pods.",
    )
    disruption: Disruption = Field(default=Disruption(enabled=True), description="One stays while nodes are drained.")
