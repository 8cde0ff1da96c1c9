"""The sections of `armillary.yaml`. Every setting says what it does, its unit, its default and why, and has an example.

The reference page of the documentation is generated from these models.
"""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from hub.settings.values import Name, PathSetting, Seconds, Section, Url, is_loopback, setting, split_url
from profiles.accelerators import Toleration

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class HubSettings(Section):
    """The hub process itself."""

    bind_url: Url = setting(
        "http://127.0.0.1:8081",
        "Where the hub listens for the proxy and for servers; not for browsers. Loopback by default, since on one "
        "machine nothing else needs it; with pods it must be an address that they reach.",
        example="http://0.0.0.0:8081",
    )
    connect_url: Url | None = setting(
        None,
        "How servers and the proxy reach the hub, where that differs from `bind_url` (0.0.0.0, a container, a "
        "Kubernetes Service). Default: as `bind_url`.",
        example="http://hub.armillary.svc:8081",
    )
    database_url: SecretStr | None = setting(
        None,
        "SQLAlchemy URL of JupyterHub's database. A secret, because it carries a password: only by environment or "
        "`database_url_file`. Default: SQLite in `state_dir`, which is enough for one hub.",
        example="postgresql://hub:…@db.example.org/hub",
    )
    database_url_file: PathSetting | None = setting(
        None, "File that holds `database_url`. Default: none.", example="/run/secrets/database-url"
    )
    log_level: LogLevel = setting(
        "INFO", "How much the hub logs. INFO names every start, stop and refusal.", example="DEBUG"
    )
    log_format: Literal["text", "json"] = setting(
        "text",
        "How hub, service and controller log: a text for people, or one JSON object a line with the ids of request, "
        "person, server and start, by which lines of several processes are found together.",
        example="json",
    )
    login_lifetime_days: Annotated[float, Field(gt=0, le=365)] = setting(
        7.0,
        "How long a browser stays logged in. A week instead of JupyterHub's two: rights are re-checked in "
        "between (`login.recheck_s`), so this only bounds a stolen cookie.",
        example=1.0,
        unit="days",
    )
    concurrent_starts: Annotated[int, Field(ge=0, le=10_000)] = setting(
        64,
        "How many servers may be starting at the same moment; more are asked to come back (429). 0 is no limit. "
        "64, as in Zero to JupyterHub: each start costs the hub about 25 ms.",
        example=100,
        unit="servers",
    )
    server_limit: Annotated[int, Field(ge=0)] = setting(
        0,
        "How many servers may run at all; 0 is no limit, the default, because the engine knows its room better.",
        example=500,
        unit="servers",
    )
    restart_after_failures: Annotated[int, Field(ge=0, le=1000)] = setting(
        0,
        "Exit (and be restarted) after so many failed starts in a row; 0, the default, is never: people can make "
        "their own starts fail, and that must not restart everybody's hub.",
        example=20,
        unit="failed starts",
    )
    restore_timeout_s: Annotated[int, Field(ge=-1, le=3600)] = setting(
        2,
        "How long the hub checks running servers before it opens its doors after a restart; the rest is checked "
        "afterwards. -1 waits for all. 2, because a session that is just starting asks the hub for leave, and gives "
        "up when the hub is away for half a minute.",
        example=30,
        unit="seconds",
    )
    template_paths: tuple[PathSetting, ...] = setting(
        (),
        "Folders whose page templates win over ours. Default: none.",
        example=["/etc/armillary/templates"],
    )
    metrics_need_token: bool = setting(
        True,
        "Whether metrics of hub, service and controller are told to nobody without a token (`metrics_token_file`). "
        "True: they say how a site is used.",
        example=False,
    )
    metrics_token_file: PathSetting | None = setting(
        None,
        "File with the token by which Prometheus may read the metrics of hub, service and controller, and do nothing "
        "else. Default: `secrets/metrics_token` in `state_dir`, made by `armillary run`; where that file is not, only "
        "a token that the hub gave somebody with the scope is good.",
        example="/run/secrets/metrics-token",
    )
    headers: dict[str, str] = setting(
        {},
        "More HTTP headers for the hub's pages; they replace ours of the same name. Default: none.",
        example={"Strict-Transport-Security": "max-age=31536000"},
    )

    @field_validator("headers")
    @classmethod
    def _one_line_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name.replace("-", "").isalnum() or not name.isascii():
                raise ValueError(f"{name!r} is not a header name")
            if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
                raise ValueError(f"the value of {name} must be one line")
        return value


class ProxySettings(Section):
    """The proxy in front of the hub. It is not the hub's child, so that a hub restart cuts nobody off."""

    kind: Literal["traefik", "configurable-http-proxy"] = setting(
        "traefik",
        "Which proxy that is. traefik, which `armillary run` starts: its routes are in a file that outlives it. "
        "configurable-http-proxy, JupyterHub's own: for a cluster, where proxy and hub share no folder; one that was "
        "restarted gets its routes from the hub within `check_routes_s`.",
        example="configurable-http-proxy",
    )
    api_url: Url = setting(
        "http://127.0.0.1:8099",
        "Where the proxy's API listens. On loopback: only the hub uses it.",
        example="http://127.0.0.1:9099",
    )
    api_user: Name = setting(
        "armillary", "User name for the API of traefik; the other proxy knows none.", example="hub"
    )
    api_password: SecretStr | None = setting(
        None,
        "Password for the proxy's API; for configurable-http-proxy its token (`CONFIGPROXY_AUTH_TOKEN`). A secret: "
        "only by environment or `api_password_file`.",
        example="***",
    )
    api_password_file: PathSetting | None = setting(
        None,
        "File that holds the password. Default: `secrets/proxy_password` in `state_dir`, made by `armillary run`.",
        example="/run/secrets/proxy-password",
    )
    check_routes_s: Seconds = setting(
        30,
        "How often the hub compares the proxy's routes with its own list and writes down who was active. 30 instead of "
        "JupyterHub's 300: a proxy that lost its routes is mended within half a minute.",
        example=60,
        unit="seconds",
    )

    @field_validator("api_user")
    @classmethod
    def _no_colon(cls, value: str) -> str:
        if ":" in value or not value.isprintable():
            raise ValueError("must be printable and without ':' (HTTP Basic authentication splits there)")
        return value


class ServerSettings(Section):
    """What holds for every server, whatever the engine."""

    named_limit: Annotated[int, Field(ge=0, le=1000)] = setting(
        4,
        "How many named servers a person may have beside the default one; 0 switches them off. 4 are enough for a "
        "few environments side by side.",
        example=0,
        unit="servers",
    )
    start_timeout_s: Seconds = setting(
        600,
        "How long a start may take, image pull included, unless the profile says otherwise. Ten minutes: a large "
        "image on a slow line; sure failures end a start much earlier.",
        example=1200,
        unit="seconds",
    )
    http_timeout_s: Seconds = setting(
        120,
        "How long a started server may take until it answers. Two minutes: JupyterLab on a loaded machine.",
        example=60,
        unit="seconds",
    )
    slow_start_s: Annotated[float, Field(ge=1, le=60)] = setting(
        5.0,
        "How long a request to start waits for the outcome before the progress page takes over. Never 0: a refusal "
        "would then look like success in the REST API (201 instead of 409).",
        example=10.0,
        unit="seconds",
    )
    poll_interval_s: Seconds = setting(
        30,
        "How often the hub looks whether a server still lives.",
        example=60,
        unit="seconds",
    )
    default_url: str = setting(
        "/lab", "The page a server opens with, unless image or profile say otherwise.", example="/tree"
    )
    stop_on_logout: bool = setting(
        False,
        "Whether log-out stops a person's servers. False: long computations survive it.",
        example=True,
    )
    hide_unavailable: bool = setting(
        False,
        "Whether the form hides what a person may not pick. False shows it greyed with the reason, so that people "
        "learn whom to ask.",
        example=True,
    )

    @field_validator("default_url")
    @classmethod
    def _a_path(cls, value: str) -> str:
        if not value.startswith("/") or value.startswith("//") or not value.isprintable():
            raise ValueError("must be a path that begins with one '/', as in /lab")
        return value


class LocalSettings(Section):
    """The local engine: servers are processes on this machine."""

    homes: PathSetting | None = setting(
        None, "Folder of the homes. Default: `homes` in `state_dir`.", example="/srv/homes"
    )
    isolation: Literal["auto", "uid", "namespace", "shared"] = setting(
        "auto",
        "How people are kept apart: a Unix uid each (needs root), user namespaces (bubblewrap), or not at all "
        "(`shared`: everybody works under the hub's account, only on loopback). `auto` takes the first that works.",
        example="uid",
    )
    first_uid: Annotated[int, Field(ge=1000, le=2_000_000_000)] = setting(
        200_000,
        "The first uid given to a person with `isolation: uid`. Far above those of a machine's own accounts.",
        example=50_000,
        unit="uid",
    )


class KubernetesSettings(Section):
    """The kubernetes engine: servers are pods."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = setting(
        "armillary", "Namespace of the users' pods and claims.", example="jupyter-users"
    )
    home_size: Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")] = setting(
        "10Gi", "Size of each person's home (PersistentVolumeClaim).", example="50Gi", unit="bytes"
    )
    storage_class: Name | None = setting(
        None, "StorageClass of the homes. Default: the cluster's own default class.", example="local-path"
    )
    home_access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] = setting(
        "ReadWriteOnce",
        "Access mode of the homes. ReadWriteOnce works everywhere; ReadWriteMany lets named servers run on "
        "several nodes.",
        example="ReadWriteMany",
    )
    image_pull_secrets: tuple[Name, ...] = setting(
        (), "Secrets for private image registries. Default: none.", example=["registry"]
    )
    priority_class: Name | None = setting(
        None,
        "PriorityClass of the sessions' pods, which must be there. Default: the cluster's own default.",
        example="sessions",
    )
    uid: Annotated[int, Field(ge=1, le=2_000_000_000)] = setting(
        1000,
        "The uid that pods run as; never 0 (Pod Security “restricted”).",
        example=1234,
        unit="uid",
    )
    gid: Annotated[int, Field(ge=1, le=2_000_000_000)] = setting(
        1000, "The group that pods run as and that owns their volumes.", example=100, unit="gid"
    )
    tolerations: tuple[Toleration, ...] = setting(
        (),
        "Tolerations of every session, by which it may run on tainted nodes: `key`, and where needed `value`, "
        "`operator` and `effect`, as in Kubernetes. Nodes are counted with them, unlike those that "
        "`c.KubeSpawner.tolerations` sets. Default: none.",
        example=[{"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}],
    )
    nodes_may_appear: bool = setting(
        False,
        "Whether the cluster gets new nodes by itself (autoscaling). False: who asks for what no node has free is "
        "refused at once with the reason. True: the session waits for a node, up to `servers.start_timeout_s`.",
        example=True,
    )
    request_timeout_s: Seconds = setting(
        15,
        "How long one request to the Kubernetes API may take before it is tried again. 15: admission webhooks may take "
        "10 each.",
        example=30,
        unit="seconds",
    )


def pods_cannot_reach(hub: HubSettings) -> bool:
    """Whether the hub's address, as servers would get it, means this machine only."""
    return is_loopback(split_url(hub.connect_url or hub.bind_url).hostname)
