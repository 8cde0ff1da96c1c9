"""The chart's values as a whole."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from helm.base import Model
from helm.monitoring.values import Monitoring
from helm.values.core import Controller, Hub, Proxy, Service
from helm.values.credentials import Login, Mail, Secrets
from helm.values.network import Gateway, Ingress, Policies
from helm.values.parts import Image
from helm.values.storage import Backup, Database
from helm.values.users import Users

__all__ = ["Values"]


class Priority(Model):
    """PriorityClasses: core parts before sessions, sessions before placeholders."""

    enabled: bool = Field(
        default=True, description="Whether the chart makes them. They are objects of the whole cluster."
    )
    core: int = Field(default=1000, description="Of hub, proxy, service, controller and database.")
    users: int = Field(default=0, description="Of sessions.")
    placeholders: int = Field(default=-10, description="Of placeholders, which anything displaces.")


class Rbac(Model):
    """What the service accounts may do."""

    create: bool = Field(default=True, description="Whether the chart makes roles and bindings.")
    dynamic_resource_allocation: bool = Field(
        default=True, description="Whether that is needed for accelerators that are asked for by ResourceClaims."
    )


class Values(Model):
    """Values of the chart."""

    public_url: str = Field(
        default="",
        description="Where people reach the site: https://hub.example.org/. The path may be longer. Required.",
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
    )
    wildcard: bool = Field(
        default=False,
        description="Whether each person's sessions have a host name of their own, ann.hub.example.org for a site at "
        "hub.example.org. DNS, Ingress or Gateway and the certificate must know *.hub.example.org, too.",
    )
    settings: dict[str, Any] = Field(
        default={},
        description="What hub, service and controller are told, as in armillary.yaml: login, kubernetes, queue, …",
    )
    catalogue: dict[str, Any] = Field(
        default={}, description="What can be started, as in a catalogue. Empty: the shipped one."
    )
    quotas: dict[str, Any] = Field(
        default={}, description="Limits, as in the file of quotas. Empty: none are declared."
    )
    login: Login = Field(default=Login(), description="The secret of the login.")
    mail: Mail = Field(default=Mail(), description="The secret of the mail server.")
    secrets: Secrets = Field(default=Secrets(), description="Keys and tokens.")
    database: Database = Field(default=Database(), description="The databases.")
    backup: Backup = Field(default=Backup(), description="Copies of the installation.")
    hub: Hub = Field(default=Hub(), description="The hub.")
    proxy: Proxy = Field(default=Proxy(), description="The proxy.")
    service: Service = Field(default=Service(), description="The service.")
    controller: Controller = Field(default=Controller(), description="The controller.")
    users: Users = Field(default=Users(), description="The sessions' surroundings.")
    ingress: Ingress = Field(default=Ingress(), description="Ingress.")
    gateway: Gateway = Field(default=Gateway(), description="Gateway API.")
    network_policies: Policies = Field(default=Policies(), description="NetworkPolicies of the core parts.")
    monitoring: Monitoring = Field(default=Monitoring(), description="Metrics, dashboards, alerts.")
    priority: Priority = Field(default=Priority(), description="PriorityClasses.")
    rbac: Rbac = Field(default=Rbac(), description="Rights.")
    images: dict[Literal["hub", "proxy", "postgres", "pause"], Image] = Field(
        default={
            "hub": Image(repository="localhost/armillary/hub"),
            "proxy": Image(repository="localhost/armillary/proxy"),
            "postgres": Image(repository="localhost/armillary/postgres"),
            "pause": Image(repository="registry.k8s.io/pause", tag="3.10"),
        },
        description="The chart's images; those of sessions are in the catalogue.",
    )
    image_pull_secrets: list[str] = Field(
        default=[], description="Secrets for private registries, of all pods and sessions."
    )
    uid: int = Field(default=1000, ge=1, description="The uid and gid that hub, proxy, service and controller run as.")
