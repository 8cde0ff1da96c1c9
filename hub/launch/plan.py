"""From settings and command line to a plan: which processes, addresses, files, and what the hub is told.

The hub gets what the launcher decided through `ARMILLARY_…` variables, which override a settings file, so that
both always read the same settings; a value that somebody wrote down is never replaced.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.catalogue import SHIPPED, load_catalogue
from hub.config import ConfigError, only_on_loopback
from hub.launch import ports
from hub.launch.accounts import ADMIN_GROUP, MEMBER_GROUPS, passwords
from hub.launch.canaille import CLIENT_ID, Provider, provider_host, signing_key
from hub.launch.problem import Problem
from hub.launch.processes import Spec
from hub.launch.restarts import RestartPolicy
from hub.launch.secrets import keep, token
from hub.launch.traefik import Proxy
from hub.settings import Loaded, Settings, load_with_origins
from hub.settings.values import is_loopback, split_url
from profiles.loader import CatalogueError
from spawner.processes.isolation import IsolationError
from spawner.processes.machine import detect

CODE = Path(__file__).resolve().parents[2]
PROVIDER_PORT = 8002
# Below 1024 no session's account can listen (Linux, ip(7)): nobody takes the hub's place, and gets everybody's
# login cookies, in the seconds in which it restarts.
GUARDED = {"hub": 881, "service": 883, "proxy": 899}
DEFAULT_STATE_VARIABLE = "ARMILLARY_LAUNCH_DEFAULT_STATE"  # set by bootstrap.py: for root not always the checkout
# Of a hub that we may be running inside of: its addresses and tokens must not reach ours.
NEEDED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
FOREIGN = ("JUPYTERHUB_", "JPY_", "CONFIGPROXY_")


@dataclass(frozen=True)
class Wishes:
    """What the command line asked for; None: not mentioned."""

    state: Path | None = None
    port: int | None = None
    provider_port: int | None = None
    config: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first process starts."""

    settings: Settings
    overrides: Mapping[str, str]
    proxy: Proxy
    provider: Provider | None
    config: Path

    @property
    def address(self) -> str:
        """What people type into the browser."""
        return self.settings.public_url.rstrip("/") + ("" if self.settings.base_path == "/" else "/")

    @property
    def health_url(self) -> str:
        """Answers 200 once proxy and hub both work."""
        return f"{self._here}hub/health"

    @property
    def service_health_url(self) -> str:
        """Answers 200 once the service works and the proxy has its route."""
        return f"{self._here}services/armillary/health"

    @property
    def host(self) -> str:
        """What a request must say that it asks: the proxy's routes may be for that host only."""
        return split_url(self.settings.public_url).netloc

    @property
    def _here(self) -> str:
        """The site's first page as this machine reaches it."""
        parts = split_url(self.settings.proxy_bind_url)
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "", parts.netloc.rsplit(":", 1)[0])
        return f"http://{host}:{parts.port or 80}{self.settings.base_path}"

    def specs(self, environ: Mapping[str, str]) -> list[Spec]:
        """The processes, in the order in which they start."""
        common = _clean(environ)
        specs = [Spec("proxy", self.proxy.command(), common, self.proxy.static_file.parent, grace_s=3.0)]
        if self.provider is not None:
            # Canaille takes any variable for a setting (SECRET_KEY, DEBUG): it gets only what a process needs.
            bare = {key: common[key] for key in NEEDED if key in common}
            command = [sys.executable, "-m", "hub.launch.provider", str(self.provider.file)]
            specs.append(Spec("provider", command, bare, self.provider.folder, grace_s=3.0))
        ours = {**common, **self.overrides}
        command = [sys.executable, "-m", "hub.cli", "service", "--with-controller"]
        # Once it has worked it is never given up: without it nothing is counted, but everybody can go on working.
        policy = RestartPolicy(limit=sys.maxsize)
        specs.append(Spec("service", command, ours, Path.cwd(), grace_s=15.0, policy=policy))
        command = [sys.executable, "-m", "jupyterhub", "-f", str(self.config)]
        specs.append(Spec("hub", command, ours, Path.cwd()))
        return specs


def read_settings(wishes: Wishes, environ: Mapping[str, str]) -> tuple[Loaded, dict[str, str]]:
    """Load settings with the command line over them; returns them and the variables that say the same to the hub."""
    overrides: dict[str, str] = {}
    if wishes.state is not None:
        overrides["ARMILLARY_STATE_DIR"] = str(wishes.state.absolute())
    elif DEFAULT_STATE_VARIABLE in environ and ("state_dir",) not in load_with_origins(None, environ).origins:
        overrides["ARMILLARY_STATE_DIR"] = environ[DEFAULT_STATE_VARIABLE]
    if wishes.port is not None:
        given = load_with_origins(None, {**environ, **overrides}).settings
        if given.bind_url is None and split_url(given.public_url).scheme == "http":
            overrides["ARMILLARY_PUBLIC_URL"] = _with_port(given.public_url, wishes.port)
        else:
            overrides["ARMILLARY_BIND_URL"] = _with_port(given.proxy_bind_url, wishes.port)
    loaded = load_with_origins(None, {**environ, **overrides})
    overrides["ARMILLARY_STATE_DIR"] = str(loaded.settings.state_dir)
    return loaded, overrides


def make(wishes: Wishes, environ: Mapping[str, str], loaded: Loaded, overrides: dict[str, str]) -> Plan:
    """Choose ports, make secrets and write the files that the processes read.

    Raises Problem for a taken port and for settings that the launcher cannot serve.
    """
    settings = loaded.settings
    listen = split_url(settings.proxy_bind_url)
    if settings.proxy.kind != "traefik":
        raise Problem(f"proxy.kind: the launcher brings traefik; {settings.proxy.kind} is for hubs in a cluster")
    if listen.scheme != "http":
        raise Problem(f"bind_url must be http://, not {settings.proxy_bind_url}: TLS ends before the launcher's proxy")
    if settings.login.issuer is None:
        _need_loopback(settings)
    site_port = listen.port or 80
    ports.need(listen.hostname or "127.0.0.1", site_port, "--port")
    overrides = dict(overrides)
    taken = {site_port, *([wishes.provider_port] if wishes.provider_port else [])}
    internal = ports.InternalPorts(settings.paths.root / "ports.json", frozenset(taken))
    for key, name, url in (
        ("hub", "bind_url", settings.hub.bind_url),
        ("service", "bind_url", settings.service.bind_url),
        ("proxy", "api_url", settings.proxy.api_url),
    ):
        if (key, name) not in loaded.origins:
            port = internal.pick(key, GUARDED[key] if _guards(settings) else split_url(url).port or 0)
            overrides[f"ARMILLARY_{key.upper()}__{name.upper()}"] = _with_port(url, port)
    keep(settings.paths.cookie_secret, token)
    keep(settings.paths.auth_state_keys, token)
    if settings.proxy.api_password is None and settings.proxy.api_password_file is None:
        keep(settings.paths.proxy_password, token)
    if settings.service.api_token_file is None:
        keep(settings.paths.service_token, token)
    if settings.hub.metrics_token_file is None:
        keep(settings.paths.metrics_token, token)
    provider = None
    if settings.login.issuer is None:
        provider = _provider(wishes, settings, internal)
        provider.write()
        overrides |= _login(provider, settings, loaded)
    _check_catalogue(settings)
    final = load_with_origins(None, {**environ, **overrides}).settings
    _check_isolation(final)
    proxy = Proxy(final.proxy_bind_url, final.proxy.api_url, final.paths.traefik_static, final.paths.traefik_rules)
    return Plan(final, overrides, proxy, provider, _config(wishes))


def _guards(settings: Settings) -> bool:
    """Whether ports below 1024 are ours alone: as root, with sessions under accounts of their own."""
    return settings.engine == "local" and os.geteuid() == 0 and settings.local.isolation in ("auto", "uid")


def _check_isolation(settings: Settings) -> None:
    """Raise Problem where the hub would refuse to start for how it keeps people apart: it would only log that."""
    if settings.engine != "local":
        return
    try:
        if detect(settings.local.isolation).isolation.kind == "shared":
            only_on_loopback(settings)
    except (IsolationError, ConfigError) as error:
        raise Problem(str(error)) from None


def _check_catalogue(settings: Settings) -> None:
    """Raise Problem with every problem of the catalogue: the hub would only say so in its log."""
    file = settings.catalogue or SHIPPED
    try:
        load_catalogue(settings)
    except (CatalogueError, OSError) as error:
        raise Problem(f"the catalogue {file} cannot be used:\n{error}") from None


def _need_loopback(settings: Settings) -> None:
    site_host = str(split_url(settings.public_url).hostname)
    if not is_loopback(site_host) or not is_loopback(split_url(settings.proxy_bind_url).hostname):
        raise Problem(
            f"public_url or bind_url is not on this machine's loopback ({settings.public_url}), but the "
            "demonstration's OpenID provider is only for there; name yours in armillary.yaml as login.issuer"
        )


def _provider(wishes: Wishes, settings: Settings, internal: ports.InternalPorts) -> Provider:
    host = provider_host(str(split_url(settings.public_url).hostname))
    if wishes.provider_port is not None:
        ports.need("127.0.0.1", wishes.provider_port, "--provider-port")
    port = wishes.provider_port or internal.pick("provider", PROVIDER_PORT)
    secrets = settings.paths.secrets
    try:
        known = passwords(secrets / "accounts.json")
        key = keep(secrets / "provider_signing_key.json", signing_key)
        json.loads(key)
    except ValueError as error:
        raise Problem(f"a file in {secrets} is spoilt ({error}); `make clean` starts anew") from None
    return Provider(
        folder=settings.paths.canaille,
        host=host,
        port=port,
        site_url=settings.public_url,
        callback_url=settings.callback_url,
        post_logout_url=settings.post_logout_url,
        client_secret=keep(settings.paths.client_secret, token),
        secret_key=keep(secrets / "provider_secret_key", token),
        signing_key=key,
        passwords=known,
    )


def _login(provider: Provider, settings: Settings, loaded: Loaded) -> dict[str, str]:
    ours = {
        "issuer": provider.issuer,
        # Accounts belong to an issuer; ours has another name when its port was taken meanwhile.
        "former_issuers": ",".join([*settings.login.former_issuers, *provider.former_issuers()]),
        "client_id": CLIENT_ID,
        "client_secret_file": str(settings.paths.client_secret),
        "service_name": "a demonstration account",
        "allowed_groups": ",".join(MEMBER_GROUPS),
        "admin_groups": ADMIN_GROUP,
    }
    # Who may log in is the deployer's to say; how to reach our own provider is not.
    fixed = {"issuer", "former_issuers", "client_id", "client_secret_file"}
    given = {key for key in ours if ("login", key) in loaded.origins}
    return {f"ARMILLARY_LOGIN__{key.upper()}": value for key, value in ours.items() if key in fixed or key not in given}


def _config(wishes: Wishes) -> Path:
    # beside the settings, in the checkout, or where the wheel puts it
    usual = [folder / "jupyterhub_config.py" for folder in (Path.cwd(), CODE, Path(__file__).parent)]
    candidates = [wishes.config] if wishes.config else usual
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    raise Problem(f"no file {candidates[0]}; name the hub's configuration with --config FILE")


def _with_port(url: str, port: int) -> str:
    parts = split_url(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return parts._replace(netloc=f"{host}:{port}").geturl()


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of our processes: what we were given, our programs first, nothing of a hub around us."""
    kept = {key: value for key, value in environ.items() if not key.startswith(FOREIGN)}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    # By environment rather than by a .pth file: users' sessions, which share our Python, must not import the hub.
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CODE), environ.get("PYTHONPATH", "")]))
    return kept
