"""The chart's values about what surrounds the sessions."""

from __future__ import annotations

from pydantic import Field

from helm.base import Model, Objects, Text
from helm.values.parts import Amounts, Dns, Resources

__all__ = ["Users"]


class Namespace(Model):
    """The namespace of the sessions."""

    name: Dns = Field(default="", description="Its name. Empty: the release's name and `-users`.")
    create: bool = Field(
        default=True, description="Whether the chart makes it; with Pod Security `restricted` enforced."
    )
    keep: bool = Field(
        default=True, description="Whether it, and with it all homes, stays when the chart is uninstalled."
    )
    labels: Text = Field(default={}, description="More labels of it.")
    annotations: Text = Field(default={}, description="Annotations of it.")


class Allowed(Model):
    """Where sessions may connect to, beside DNS, hub, proxy and service."""

    internet: bool = Field(default=True, description="Whether addresses that are not private are allowed.")
    except_: list[str] = Field(
        default=[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "168.63.129.16/32",
            "fc00::/7",
            "fe80::/10",
        ],
        alias="except",
        description="What is not the internet: private addresses, and clouds' metadata (168.63.129.16 is Azure's). Add "
        "public addresses of your cluster: of its API server and its nodes.",
    )
    more: Objects = Field(
        default=[], description="More rules, as in `egress` of a NetworkPolicy: a file server, a site's services."
    )


class UserPolicy(Model):
    """NetworkPolicy of the sessions."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    egress: Allowed = Field(default=Allowed(), description="Where sessions may connect to.")


class Placeholders(Model):
    """Pods that hold room for the next session, and make way for it at once."""

    replicas: int = Field(default=0, ge=0, description="How many.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="1", memory="4Gi"), limits=Amounts()), description="What each holds."
    )
    node_selector: Text = Field(default={}, description="Labels that the node must have.")
    tolerations: Objects = Field(default=[], description="Taints that they tolerate.")


class PrePuller(Model):
    """Images of the catalogue on every node before somebody waits for them."""

    continuous: bool = Field(default=True, description="Whether nodes that come later get them, too.")
    hook: bool = Field(
        default=False,
        description="Whether an installation or upgrade goes on only when every node has them. It fails where one "
        "cannot get them.",
    )
    hook_seconds: int = Field(
        default=900, ge=10, le=86_400, description="How long that is waited for; helm's --timeout must be longer."
    )
    images: list[str] = Field(default=[], description="The images. Empty: those of the catalogue that is given here.")
    node_selector: Text = Field(default={}, description="Labels of the nodes.")
    tolerations: Objects = Field(default=[], description="Taints that it tolerates.")


class Users(Model):
    """What surrounds the sessions; the sessions themselves are described by `settings` and `catalogue`."""

    namespace: Namespace = Field(default=Namespace(), description="Their namespace.")
    network_policy: UserPolicy = Field(default=UserPolicy(), description="Whom they reach, and who reaches them.")
    placeholders: Placeholders = Field(default=Placeholders(), description="Room that is kept.")
    pre_puller: PrePuller = Field(default=PrePuller(), description="Images that are there.")
