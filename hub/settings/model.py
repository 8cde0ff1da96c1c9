"""The settings as one frozen value."""

from typing import Literal, Self

from pydantic import Field, model_validator

from hub.settings.background import ControllerSettings, DatabaseSettings, ServiceSettings
from hub.settings.idle import IdleSettings
from hub.settings.login import LoginSettings
from hub.settings.queue import QueueSettings
from hub.settings.quotas import QuotaSettings
from hub.settings.sections import (
    HubSettings,
    KubernetesSettings,
    LocalSettings,
    ProxySettings,
    ServerSettings,
    pods_cannot_reach,
)
from hub.settings.state import StatePaths
from hub.settings.values import (
    PathSetting,
    Section,
    Url,
    base_path_of,
    may_have_subdomains,
    origin_of,
    setting,
    split_url,
)


class Settings(Section):
    """What `armillary.yaml` may say. Paths in it count from the file's own folder."""

    engine: Literal["local", "kubernetes"] = setting(
        "local",
        "What runs servers: processes on this machine, or pods. Local by default: it needs nothing else.",
        example="kubernetes",
    )
    public_url: Url = setting(
        "http://127.0.0.1:8000",
        "The address people type into the browser; a path in it becomes the prefix of every page.",
        example="https://hub.example.org/",
    )
    bind_url: Url | None = setting(
        None,
        "Where the proxy listens, if not at `public_url`: behind something that ends TLS, for instance. Default: "
        "`public_url` when that is http, else 127.0.0.1:8000.",
        example="http://0.0.0.0:8000",
    )
    user_subdomains: bool = setting(
        False,
        "Whether each person's sessions have a host name of their own, `ann.hub.example.org` for a site at "
        "`hub.example.org`, so that browsers keep them apart from the hub and from each other. False: it takes a "
        "wildcard in the DNS and in the certificate.",
        example=True,
    )
    state_dir: PathSetting = setting(
        ".armillary",
        "The folder with everything that must survive a restart.",
        example="/var/lib/armillary",
    )
    catalogue: PathSetting | None = setting(
        None,
        "The catalogue of what can be started. Default: the one that is shipped.",
        example="catalogue.yaml",
    )
    allow_weaker_security: bool = setting(
        False,
        "Accept profiles that weaken the pod's security (root, privileges, host paths). False: such a catalogue is "
        "refused as a whole.",
        example=True,
    )
    hub: HubSettings = Field(HubSettings(), description="The hub process.")
    proxy: ProxySettings = Field(ProxySettings(), description="The proxy in front of it.")
    login: LoginSettings = Field(LoginSettings(), description="The OpenID Connect provider.")
    servers: ServerSettings = Field(ServerSettings(), description="What holds for every server.")
    local: LocalSettings = Field(LocalSettings(), description="The local engine.")
    kubernetes: KubernetesSettings = Field(KubernetesSettings(), description="The kubernetes engine.")
    database: DatabaseSettings = Field(DatabaseSettings(), description="Armillary's own database.")
    service: ServiceSettings = Field(ServiceSettings(), description="REST API and pages beside the hub's.")
    controller: ControllerSettings = Field(ControllerSettings(), description="The loops that count and act.")
    quotas: QuotaSettings = Field(QuotaSettings(), description="Limits of people and groups.")
    queue: QueueSettings = Field(QueueSettings(), description="Waiting for what is not free.")
    idle: IdleSettings = Field(IdleSettings(), description="When sessions are stopped.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.engine == "kubernetes" and pods_cannot_reach(self.hub):
            raise ValueError(
                "engine kubernetes: pods cannot reach the hub at its loopback address; set hub.connect_url (and "
                "hub.bind_url) to an address that they reach"
            )
        if self.bind_url and base_path_of(self.bind_url) != base_path_of(self.public_url):
            raise ValueError(
                f"bind_url and public_url have different paths ({base_path_of(self.bind_url)} and "
                f"{base_path_of(self.public_url)}); the proxy does not rewrite paths"
            )
        if self.user_subdomains and not may_have_subdomains(self.public_url):
            raise ValueError(
                f"user_subdomains: names of hosts are made below that of public_url, which must be one with a dot in "
                f"it, as hub.example.org, and no address (found {self.public_url})"
            )
        return self

    @property
    def base_path(self) -> str:
        """The prefix of every page, with a slash at both ends."""
        return base_path_of(self.public_url)

    @property
    def proxy_bind_url(self) -> str:
        """Where the proxy listens."""
        if self.bind_url:
            return self.bind_url
        parts = split_url(self.public_url)
        if parts.scheme == "http":
            return self.public_url
        return f"http://127.0.0.1:8000{self.base_path}"

    @property
    def callback_url(self) -> str:
        """Where the provider sends people back after login: to be registered there as redirect URI."""
        return f"{origin_of(self.public_url)}{self.base_path}hub/oauth_callback"

    @property
    def post_logout_url(self) -> str:
        """Where the provider sends people back after log-out: to be registered there as post-logout redirect URI."""
        return f"{origin_of(self.public_url)}{self.base_path}hub/logout"

    @property
    def paths(self) -> StatePaths:
        """Every file and folder below `state_dir`."""
        return StatePaths(self.state_dir)
