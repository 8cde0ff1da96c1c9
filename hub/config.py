"""Settings become JupyterHub's configuration. The only place that sets `c.*`.

Ours is set as values and as classes of our own, never as hooks (`pre_spawn_hook`, `post_auth_hook`,
`modify_pod_hook` …): those stay free for the deployer, whose lines after `apply` win where they set the same value and
add where they set a hook.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
from jupyterhub.proxy import ConfigurableHTTPProxy
from sqlalchemy import Engine as Database
from traitlets.config import Config

import hub
from hub import subdomains
from hub.admission.desk import SqlDesk
from hub.admission.logins import Logins
from hub.auth.oidc import OIDCAuthenticator
from hub.catalogue import load_catalogue
from hub.db import away
from hub.db.address import AddressError
from hub.db.engine import sqlite_file
from hub.db.installation import bring_up_to_date, refuse_newer_jupyterhub
from hub.db.jupyterhub import engine_arguments
from hub.db.transaction import DatabaseAway
from hub.db.upgrade import UpgradeError
from hub.logs import hub_request, of_jupyterhub
from hub.mail.addresses import AddressBook
from hub.one_hub import AnotherHub, be_the_hub
from hub.proxy import ArmillaryProxy
from hub.secret import ConfigError, metrics_token, secret, service_token
from hub.settings import Settings
from hub.settings.values import is_loopback, split_url
from hub.uids import SqlUidRegistry, UidError
from hub.warm_up import warm_up
from hub.web.place import NAME as SERVICE
from hub.web.place import Place, service_url
from hub.web.proof import make_proof

__all__ = ["TEMPLATES", "ConfigError", "apply", "only_on_loopback", "page_headers", "secret"]

METRICS = "armillary-metrics"
"""What Prometheus is at the hub."""

SERVICE_SCOPES = (
    *("start:servers", "delete:servers", "read:servers"),
    *("read:users:name", "read:users:activity", "list:users"),
)
"""What service and controller may do at the hub: nothing with the users' files, and nothing with users themselves. The
list is for the reconciler, which compares the servers that the hub has with what runs."""

TEMPLATES = Path(hub.__file__).parent / "templates"


def apply(c: Config, settings: Settings) -> None:
    """Configure JupyterHub as the settings say.

    Raises ConfigError where a file that the settings name cannot be used, and `profiles.loader.CatalogueError` with
    every problem of the catalogue. Reads files; to be called while the hub starts, not from its event loop.
    """
    _hub(c, settings)
    _pages(c, settings)
    subdomains.apply(c, settings)
    _proxy(c, settings)
    _login(c, settings)
    _service(c, settings)
    _metrics(c, settings)
    database = _database(settings)
    _alone(database)
    _servers(c, settings, database)
    c.OIDCAuthenticator.logins = Logins(database)
    if settings.queue.mail.host is not None:
        c.OIDCAuthenticator.addresses = AddressBook(database)
    if settings.engine == "kubernetes":
        _kubernetes(c, settings)
    else:
        _local(c, settings, database)
    away.say_so()
    warm_up()


def _hub(c: Config, settings: Settings) -> None:
    own = settings.hub
    c.JupyterHub.bind_url = settings.proxy_bind_url
    c.JupyterHub.public_url = settings.public_url
    c.JupyterHub.hub_bind_url = own.bind_url
    if own.connect_url:
        c.JupyterHub.hub_connect_url = own.connect_url
    url = secret(own.database_url, own.database_url_file, "hub.database_url") or (
        f"sqlite:///{settings.paths.hub_database}"
    )
    c.JupyterHub.db_url = url
    c.JupyterHub.db_kwargs = engine_arguments(url)
    # An upgrade of JupyterHub must not stop at a question nobody is there to answer; SQLite files are backed up first.
    c.JupyterHub.upgrade_db = True
    c.JupyterHub.log_level = own.log_level
    c.JupyterHub.logging_config = of_jupyterhub(own.log_level, own.log_format)
    c.JupyterHub.cookie_secret_file = str(settings.paths.cookie_secret)
    c.JupyterHub.cookie_max_age_days = own.login_lifetime_days
    c.CryptKeeper.keys = auth_state_keys(settings.paths.auth_state_keys)
    # Servers and proxy outlive the hub: a restart cuts nobody off. The launcher ends them when everything ends.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False
    c.JupyterHub.concurrent_spawn_limit = own.concurrent_starts
    c.JupyterHub.active_server_limit = own.server_limit
    c.JupyterHub.init_spawners_timeout = own.restore_timeout_s
    c.JupyterHub.last_activity_interval = settings.proxy.check_routes_s
    c.JupyterHub.authenticate_prometheus = own.metrics_need_token
    c.JupyterHub.allow_named_servers = settings.servers.named_limit > 0
    c.JupyterHub.named_server_limit_per_user = settings.servers.named_limit
    c.JupyterHub.shutdown_on_logout = settings.servers.stop_on_logout


def _pages(c: Config, settings: Settings) -> None:
    c.JupyterHub.template_paths = [*map(str, settings.hub.template_paths), str(TEMPLATES)]
    token = service_token(settings)
    # By it the start form may ask the service; JupyterHub calls it with whom a page is for.
    c.JupyterHub.template_vars = {
        "service_proof": lambda user: make_proof(token, user.name) if user else "",
        "mail": settings.queue.mail.host is not None,
    }
    c.JupyterHub.tornado_settings = {
        # Below this a refusal is answered with its status, above it the progress page shows it; 0 would hide it.
        "slow_spawn_timeout": settings.servers.slow_start_s,
        "headers": page_headers(settings),
        "cookie_options": {"samesite": "Lax"},
        "log_function": hub_request,
    }


def page_headers(settings: Settings) -> dict[str, str]:
    """HTTP headers of the hub's own pages; the settings' own win."""
    policy = [
        "default-src 'self'",
        # JupyterHub's pages carry inline scripts and styles (6.1).
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        # A form of the hub may end at a session: by starting it, or by agreeing to a login there.
        f"form-action 'self' {subdomains.sources(settings)}".rstrip(),
        "frame-ancestors 'none'",
        f"report-uri {settings.base_path}hub/security/csp-report",
    ]
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        **settings.hub.headers,
    }


def _proxy(c: Config, settings: Settings) -> None:
    own = settings.proxy
    password = secret(own.api_password, own.api_password_file or settings.paths.proxy_password, "proxy.api_password")
    if own.kind == "configurable-http-proxy":
        c.JupyterHub.proxy_class = ConfigurableHTTPProxy
        c.ConfigurableHTTPProxy.should_start = False
        c.ConfigurableHTTPProxy.api_url = own.api_url
        c.ConfigurableHTTPProxy.auth_token = password
        return
    c.JupyterHub.proxy_class = ArmillaryProxy
    c.TraefikFileProviderProxy.should_start = False
    c.TraefikFileProviderProxy.traefik_api_url = own.api_url
    c.TraefikFileProviderProxy.traefik_api_username = own.api_user
    c.TraefikFileProviderProxy.traefik_api_password = password
    c.TraefikFileProviderProxy.traefik_api_hashed_password = _cheap_hash(password)
    c.TraefikFileProviderProxy.static_config_file = str(settings.paths.traefik_static)
    c.TraefikFileProviderProxy.dynamic_config_file = str(settings.paths.traefik_rules)


def _cheap_hash(password: str) -> str:
    """A hash that is quick to check, for the proxy's rules file, which only its owner can read.

    The proxy checks it at every request, three of them for each route (jupyterhub-traefik-proxy 2.1). With bcrypt's
    usual cost that is 0.3 s to 1 s of a core each, which every start of a server would wait for.
    """
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode("ascii")


def _login(c: Config, settings: Settings) -> None:
    own = settings.login
    if own.issuer is None:
        raise ConfigError(
            "login.issuer is missing: name your OpenID Connect provider in armillary.yaml or in "
            "ARMILLARY_LOGIN__ISSUER; `armillary run` brings one for demonstration"
        )
    client_secret = secret(own.client_secret, own.client_secret_file, "login.client_secret")
    if not client_secret:
        raise ConfigError(
            "login.client_secret is missing: write the secret that the provider gave you into a file (mode 0600) and "
            "name it in login.client_secret_file, or set ARMILLARY_LOGIN__CLIENT_SECRET"
        )
    c.JupyterHub.authenticator_class = OIDCAuthenticator
    values: Mapping[str, Any] = {
        "issuer": own.issuer,
        "former_issuers": list(own.former_issuers),
        "client_id": own.client_id,
        "client_secret": client_secret,
        "basic_auth": own.client_authentication == "basic",
        "oauth_callback_url": settings.callback_url,
        "post_logout_url": settings.post_logout_url,
        "logout_at_provider": own.logout_at_provider,
        "login_service": own.service_name,
        "scope": list(own.scopes),
        "username_claim": own.username_claim,
        "groups_claims": list(own.groups_claims),
        "entitlement_namespaces": list(own.entitlement_namespaces),
        "allow_all": own.allow_everyone,
        "allowed_groups": set(own.allowed_groups),
        "admin_groups": set(own.admin_groups),
        "blocked_users": set(own.blocked_users),
        "auth_refresh_age": own.recheck_s,
        "outage_grace_s": own.outage_grace_s,
        "leeway_s": own.leeway_s,
        "timeout_s": own.timeout_s,
        "id_token_algorithms": list(own.id_token_algorithms),
        "ca_file": str(own.ca_file or ""),
        "contact": own.contact,
    }
    c.OIDCAuthenticator.update(values)


_RANDOM = 32
"""Characters of the shortest token that is taken for a random one: `openssl rand -hex 16` makes as many."""


def _service(c: Config, settings: Settings) -> None:
    """Make the service known, with a route, and to everybody who can log in.

    Whoever comes to the service brings a token of their own, which says who they are and in which groups, and with it
    the service asks `/hub/api/user`. Its own token proves, at `/hub/api/oauth2/token`, that it is the service that
    completes a login; and by its role it starts servers whose turn in the queue it is, sees how they are, and stops
    those that have to be stopped. It may not use them. `oauth_client_allowed_scopes` stays empty, so that a browser's
    token for the service may use the service and nothing else.
    """
    token = service_token(settings)
    c.JupyterHub.services = [
        {
            "name": SERVICE,
            "url": settings.service.connect_url or settings.service.bind_url,
            "api_token": token,
            "oauth_redirect_uri": Place.of(settings).callback,
            # It is part of the site: nobody has to agree that the site tells itself who they are.
            "oauth_no_confirm": True,
            # Its pages are reached from ours, not from JupyterHub's menu of services.
            "display": False,
            # The hub waits so long for it at its start, and then goes on without it.
            "timeout": 3,
        }
    ]
    # JupyterHub hashes a token from its configuration 16,384 times, 3 to 8 ms of its loop for each request that carries
    # it, lest somebody who reads the database guesses a poor one. Nobody guesses one that is random and long.
    c.JupyterHub.trust_user_provided_tokens = len(token) >= _RANDOM
    # Appended, so that a deployer's own lines may append too.
    role = {"name": f"{SERVICE}-service", "services": [SERVICE], "scopes": list(SERVICE_SCOPES)}
    c.JupyterHub.load_roles.append(role)
    # Adds to the role `user`; a `load_roles` entry for it would make a deployer's own a duplicate (JupyterHub 6.1).
    c.JupyterHub.extra_user_scopes = {f"access:services!service={SERVICE}"}


def _metrics(c: Config, settings: Settings) -> None:
    """Let Prometheus in by a token that may read metrics, and nothing else."""
    if token := metrics_token(settings):
        c.JupyterHub.services.append({"name": METRICS, "api_token": token, "display": False})
        if len(token) < _RANDOM:
            c.JupyterHub.trust_user_provided_tokens = False
        c.JupyterHub.load_roles.append({"name": METRICS, "services": [METRICS], "scopes": ["read:metrics"]})


def _database(settings: Settings) -> Database:
    """Armillary's own database, with the tables that this version needs; the launcher has made them already."""
    try:
        refuse_newer_jupyterhub(settings)
    except UpgradeError as error:
        raise ConfigError(str(error)) from error
    except DatabaseAway:
        pass  # JupyterHub will say so itself
    try:
        return bring_up_to_date(settings)[0]
    except (AddressError, UpgradeError, UidError, OSError) as error:
        raise ConfigError(f"Armillary's database cannot be used: {error}") from error


def _alone(database: Database) -> None:
    """Be the only hub of this database, if it is a hub that reads this: it does so in its event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    try:
        be_the_hub(database)
    except AnotherHub as error:
        raise ConfigError(str(error)) from error
    except DatabaseAway as error:
        raise ConfigError(f"Armillary's database cannot be used: {error}") from error


def _servers(c: Config, settings: Settings, database: Database) -> None:
    own = settings.servers
    catalogue = load_catalogue(settings)
    c.RequestSpawner.catalogue = catalogue
    c.RequestSpawner.desk = SqlDesk.of(settings, catalogue, database)
    c.RequestSpawner.hide_not_allowed = own.hide_unavailable
    c.RequestSpawner.service_url = service_url(settings)
    # JupyterHub's own two, and its owner's groups: they decide what a session may be switched to.
    c.Spawner.server_token_scopes = ["users:activity!user", "access:servers!server", "read:users:groups!user"]
    c.Spawner.start_timeout = own.start_timeout_s
    c.Spawner.http_timeout = own.http_timeout_s
    c.Spawner.poll_interval = own.poll_interval_s
    c.Spawner.default_url = own.default_url
    c.Spawner.consecutive_failure_limit = settings.hub.restart_after_failures


def auth_state_keys(file: Path) -> list[str]:
    """The keys that login state is encrypted with, the newest first."""
    try:
        return secret(None, file, "login state keys").split()
    except ConfigError as error:
        raise ConfigError(f"{error}; `armillary run` makes it, or: openssl rand -hex 32 > {file}") from error


def _local(c: Config, settings: Settings, database: Database) -> None:
    from spawner.local import LocalSpawner
    from spawner.processes.isolation import IsolationError
    from spawner.processes.machine import detect

    c.JupyterHub.spawner_class = LocalSpawner
    own = settings.local
    try:
        # kept for the spawners: here nobody waits for the hub's event loop yet
        separation = detect(own.isolation).isolation
    except IsolationError as error:
        raise ConfigError(f"local.isolation: {error}") from error
    if separation.kind == "shared":
        only_on_loopback(settings)
    paths = settings.paths
    c.LocalSpawner.state_dir = str(settings.state_dir)
    c.LocalSpawner.homes = str(own.homes or paths.homes)
    c.LocalSpawner.launches = str(paths.launches)
    c.LocalSpawner.isolation = own.isolation
    # In a sandbox sessions have the hub's own account, which can read these wherever they lie.
    c.LocalSpawner.hidden = [str(file) for file in _confidential(settings, database)]
    c.LocalSpawner.uid_registry = SqlUidRegistry(database, first_uid=own.first_uid)


def _confidential(settings: Settings, database: Database) -> list[Path]:
    """Files that may lie outside of `state_dir`, which is hidden as a whole, and that no session may read."""
    files = [
        settings.login.client_secret_file,
        settings.hub.database_url_file,
        settings.proxy.api_password_file,
        settings.database.url_file,
        settings.service.api_token_file,
        settings.hub.metrics_token_file,
        settings.queue.mail.password_file,
    ]
    file = sqlite_file(database)
    if file is not None and not file.is_relative_to(settings.state_dir):
        files += [file, *(file.with_name(f"{file.name}-{part}") for part in ("wal", "shm"))]
    return [file for file in files if file is not None]


def only_on_loopback(settings: Settings) -> None:
    """Raise ConfigError where the site can be reached from outside; for machines on which all share one account."""
    for name, url in (
        ("bind_url", settings.proxy_bind_url),
        ("hub.bind_url", settings.hub.bind_url),
        ("service.bind_url", settings.service.bind_url),
    ):
        if not is_loopback(split_url(url).hostname):
            raise ConfigError(
                f"all users share one Unix account on this machine, so the site may listen on loopback only, and "
                f"{name} is {url}: set it to http://127.0.0.1:PORT, or run as root or with bubblewrap, which keep "
                "people apart"
            )


def _kubernetes(c: Config, settings: Settings) -> None:
    from spawner.kube import ArmillarySpawner

    c.JupyterHub.spawner_class = ArmillarySpawner
    own = settings.kubernetes
    c.KubeSpawner.namespace = own.namespace
    tolerations = [one.model_dump(exclude_none=True) for one in own.tolerations]
    c.KubeSpawner.tolerations = tolerations
    c.ArmillarySpawner.counted_tolerations = tolerations
    c.ArmillarySpawner.nodes_may_appear = own.nodes_may_appear
    c.KubeSpawner.storage_pvc_ensure = True
    c.KubeSpawner.storage_capacity = own.home_size
    c.KubeSpawner.storage_class = own.storage_class
    c.KubeSpawner.storage_access_modes = [own.home_access_mode]
    c.KubeSpawner.image_pull_secrets = list(own.image_pull_secrets)
    c.KubeSpawner.priority_class_name = own.priority_class or ""
    c.KubeSpawner.uid = own.uid
    c.KubeSpawner.gid = own.gid
    c.KubeSpawner.fs_gid = own.gid
    c.KubeSpawner.k8s_api_request_timeout = own.request_timeout_s
