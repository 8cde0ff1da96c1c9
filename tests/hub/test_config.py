"""Settings become JupyterHub's configuration, loaded by a real JupyterHub; lines after `apply` add to ours."""

from __future__ import annotations

import gc
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from traitlets.config import Config

from hub.admission.desk import SqlDesk
from hub.auth.oidc import OIDCAuthenticator
from hub.config import ConfigError, apply, page_headers
from hub.settings import Settings, SettingsError, load
from spawner.core import RequestSpawner
from tests.hub.bare import BareHub
from tests.hub.provider import FakeProvider

ROOT = Path(__file__).resolve().parents[2]
KEY = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secrets = tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    for name in ("cookie_secret", "auth_state_keys", "proxy_password", "client_secret", "service_token"):
        (secrets / name).write_text(f"{KEY}\n")
        (secrets / name).chmod(0o600)
    return tmp_path


def settings(folder: Path, **more: Any) -> Settings:
    login = {"issuer": "https://login.example.org", "client_secret_file": "state/secrets/client_secret"}
    said = {"state_dir": "state", **more, "login": {**login, **more.get("login", {})}}
    (folder / "armillary.yaml").write_text(yaml.safe_dump(said))
    return load(folder / "armillary.yaml", {})


def configured(folder: Path, **more: Any) -> Config:
    c = Config()
    apply(c, settings(folder, **more))
    return c


def test_our_configuration_file_loads_in_jupyterhub_and_every_trait_exists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(folder)
    monkeypatch.setenv("ARMILLARY_SETTINGS", str(folder / "armillary.yaml"))
    for name in [name for name in os.environ if name.startswith("ARMILLARY_") and name != "ARMILLARY_SETTINGS"]:
        monkeypatch.delenv(name)
    app = JupyterHub()
    app.load_config_file(str(ROOT / "jupyterhub_config.py"))
    assert app.authenticator_class is OIDCAuthenticator
    assert issubclass(app.spawner_class, RequestSpawner)
    assert app.cleanup_servers is False
    assert app.tornado_settings["slow_spawn_timeout"] >= 1


@pytest.mark.parametrize(
    ("engine", "proxy"),
    [("local", "traefik"), ("kubernetes", "traefik"), ("kubernetes", "configurable-http-proxy")],
)
def test_what_we_set_are_traits_that_exist(folder: Path, engine: str, proxy: str) -> None:
    """A name that upstream dropped would be ignored in silence."""
    c = configured(folder, engine=engine, hub={"connect_url": "http://10.0.0.1:8081"}, proxy={"kind": proxy})
    app = JupyterHub()
    app.update_config(c)
    known = {
        cls.__name__: cls
        for start in (JupyterHub, OIDCAuthenticator, app.spawner_class, app.proxy_class)
        for cls in start.__mro__
        if hasattr(cls, "class_trait_names")
    }
    from jupyterhub.crypto import CryptKeeper

    known["CryptKeeper"] = CryptKeeper
    for section, values in c.items():
        for name in values:
            assert name in known[section].class_trait_names(config=True), f"c.{section}.{name}"


def test_tolerations_are_those_that_nodes_are_counted_with(folder: Path) -> None:
    written = [{"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}, {"key": "far"}]
    where: dict[str, Any] = {"engine": "kubernetes", "hub": {"connect_url": "http://10.0.0.1:8081"}}
    c = configured(folder, **where, kubernetes={"tolerations": written})
    full = [{**written[0], "operator": "Equal"}, {"key": "far", "operator": "Exists"}]
    assert c.KubeSpawner.tolerations == c.ArmillarySpawner.counted_tolerations == full
    with pytest.raises(SettingsError, match=r"kubernetes\.tolerations.*operator Equal needs a value"):
        configured(folder, **where, kubernetes={"tolerations": [{"key": "far", "operator": "Equal"}]})


def test_jupyterhubs_own_proxy_is_told_its_token_and_left_to_run(folder: Path) -> None:
    own = {"kind": "configurable-http-proxy", "api_url": "http://proxy-api:8001"}
    c = configured(folder, proxy=own, hub={"connect_url": "http://10.0.0.1:8081"})
    app = JupyterHub()
    app.update_config(c)
    proxy = app.proxy_class(parent=app)
    assert (proxy.should_start, proxy.api_url, proxy.auth_token) == (False, "http://proxy-api:8001", KEY)
    assert "TraefikFileProviderProxy" not in c
    with pytest.raises(SettingsError, match=r"proxy\.kind.*traefik"):
        configured(folder, proxy={"kind": "nginx"})


def test_no_hook_is_taken_from_the_deployer(folder: Path) -> None:
    for engine in ("local", "kubernetes"):
        c = configured(folder, engine=engine, hub={"connect_url": "http://10.0.0.1:8081"})
        taken = [f"{section}.{name}" for section, values in c.items() for name in values if name.endswith("_hook")]
        assert taken == []


def test_lines_of_the_deployer_add_to_ours(folder: Path) -> None:
    c = configured(folder)
    c.JupyterHub.tornado_settings["headers"]["X-Site"] = "one"
    c.JupyterHub.template_paths.insert(0, "/etc/ours")
    c.JupyterHub.services.append({"name": "one", "url": "http://127.0.0.1:1"})
    c.JupyterHub.load_roles.append({"name": "one-role", "scopes": []})
    c.JupyterHub.extra_user_scopes.add("read:hub")
    c.Spawner.environment.update({"A": "b"})
    c.Authenticator.admin_users.add("root-of-all")
    app = JupyterHub()
    app.update_config(c)
    assert app.tornado_settings["headers"]["X-Site"] == "one"
    assert "frame-ancestors 'none'" in app.tornado_settings["headers"]["Content-Security-Policy"]
    assert app.template_paths[0] == "/etc/ours"
    assert app.template_paths[-1].endswith("hub/templates")
    assert [service["name"] for service in app.services] == ["armillary", "one"]
    assert app.extra_user_scopes == {"access:services!service=armillary", "read:hub"}
    assert [role["name"] for role in app.load_roles] == ["armillary-service", "one-role"]
    assert "root-of-all" in OIDCAuthenticator(parent=app).admin_users


def test_the_authenticator_gets_what_the_settings_say(folder: Path) -> None:
    login = {
        "allowed_groups": ["a"],
        "admin_groups": ["b"],
        "recheck_s": 60,
        "client_authentication": "post",
        "ca_file": "ca.pem",
        "blocked_users": ["mallory"],
    }
    authenticator = OIDCAuthenticator(config=configured(folder, public_url="https://h.example.org/x", login=login))
    assert authenticator.client_secret == KEY
    assert authenticator.allowed_groups == {"a"}
    assert authenticator.admin_groups == {"b"}
    assert authenticator.blocked_users == {"mallory"}
    assert authenticator.auth_refresh_age == 60
    assert authenticator.basic_auth is False
    assert authenticator.get_callback_url() == "https://h.example.org/x/hub/oauth_callback"
    assert authenticator.ca_file == str(folder / "ca.pem")
    assert authenticator.manage_groups
    assert authenticator.enable_auth_state
    assert authenticator.enable_pkce
    assert authenticator.refresh_pre_spawn


def test_named_servers_and_addresses(folder: Path) -> None:
    c = configured(
        folder, servers={"named_limit": 0}, public_url="https://h.example.org/x", bind_url="http://0.0.0.0:1/x"
    )
    assert c.JupyterHub.allow_named_servers is False
    assert c.JupyterHub.bind_url == "http://0.0.0.0:1/x"
    assert c.JupyterHub.public_url == "https://h.example.org/x"
    assert configured(folder).JupyterHub.named_server_limit_per_user == 4


def test_sessions_may_have_names_of_hosts_of_their_own(folder: Path) -> None:
    plain = configured(folder, public_url="https://hub.example.org/here/")
    assert "subdomain_host" not in plain.JupyterHub
    assert "extra_handlers" not in plain.JupyterHub
    app = JupyterHub(config=configured(folder, public_url="https://hub.example.org/here/", user_subdomains=True))
    assert app.subdomain_host == "https://hub.example.org"
    names = {name: app.subdomain_hook(name, app.domain, kind="user") for name in ("ann", "Ann", "ann@cern.ch", "ünd")}
    assert names["ann"] == "ann.hub.example.org"
    assert len(set(names.values())) == len(names), "no two people share one"
    assert all(name.count(".") == 3 for name in names.values()), "a wildcard is for one part of a name"
    assert app.subdomain_hook("armillary", app.domain, kind="service") == "hub.example.org"


def test_a_form_of_the_hub_may_end_at_a_session_of_another_host(folder: Path) -> None:
    given = settings(folder, public_url="https://hub.example.org:8443/", user_subdomains=True)
    policy = page_headers(given)["Content-Security-Policy"]
    assert "; form-action 'self' https://*.hub.example.org:8443; " in policy
    plain = page_headers(settings(folder, public_url="https://hub.example.org:8443/"))
    assert "; form-action 'self'; " in plain["Content-Security-Policy"]


@pytest.mark.parametrize("url", ["https://192.0.2.7/", "https://[2001:db8::7]/", "http://localhost:8000"])
def test_names_of_hosts_need_one_to_be_below(folder: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="user_subdomains: names of hosts"):
        settings(folder, public_url=url, bind_url="http://127.0.0.1:8000", user_subdomains=True)


def test_page_headers_can_be_replaced_and_added() -> None:
    given = Settings(hub={"headers": {"Referrer-Policy": "no-referrer", "X-Site": "one"}})  # type: ignore[arg-type]
    headers = page_headers(given)
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Site"] == "one"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_secrets_come_from_files_and_variables(folder: Path) -> None:
    (folder / "db").write_text("postgresql://me:pw@db/hub\n")
    assert configured(folder, hub={"database_url_file": "db"}).JupyterHub.db_url == "postgresql://me:pw@db/hub"
    assert configured(folder).JupyterHub.db_url == f"sqlite:///{folder}/state/hub.sqlite"
    assert configured(folder)["CryptKeeper"]["keys"] == [KEY]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("auth_state_keys", "openssl rand -hex 32"),
        ("proxy_password", "proxy.api_password: the file"),
        ("client_secret", "login.client_secret: the file"),
        ("service_token", "service.api_token_file: the file"),
    ],
)
def test_a_missing_or_empty_secret_says_which_file_and_what_to_do(folder: Path, spoil: str, words: str) -> None:
    file = folder / "state" / "secrets" / spoil
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        configured(folder)
    file.unlink()
    with pytest.raises(ConfigError) as caught:
        configured(folder)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_without_a_provider_the_text_says_what_to_set(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"login\.issuer is missing.*ARMILLARY_LOGIN__ISSUER"):
        configured(folder, login={"issuer": None})
    with pytest.raises(ConfigError, match=r"login\.client_secret is missing.*client_secret_file"):
        configured(folder, login={"client_secret_file": None})


@pytest.mark.hub
def test_a_hub_starts_while_its_provider_is_away_and_says_so(tmp_path: Path) -> None:
    with FakeProvider() as fake:
        fake.fail("/.well-known/openid-configuration", 503)
        with BareHub(tmp_path, fake.issuer, settings={"allow_everyone": True}).running() as bare:
            page = bare.browser().get("/hub/login")
            assert page.status_code == 503
            assert "The login service does not answer" in page.text
            assert int(page.headers["retry-after"]) > 0
            assert "nosniff" in page.headers["x-content-type-options"]
            fake.faults.clear()
            browser = bare.browser()
            assert browser.get("/hub/login", params={"next": "/hub/home"}).url.path == "/hub/home"
            bare.close_browsers()


def test_files_with_secrets_are_hidden_from_sandboxes_wherever_they_lie(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.write_text("sqlite://")
    database, token = folder / "other" / "own.sqlite", folder / "token"
    (folder / "url").write_text(f"sqlite:///{database}")
    token.write_text(KEY)
    c = configured(
        folder,
        hub={"database_url_file": str(elsewhere)},
        database={"url_file": "url"},
        service={"api_token_file": "token"},
    )
    assert set(c.LocalSpawner.hidden) == {
        str(path)
        for path in (
            folder / "state" / "secrets" / "client_secret",
            elsewhere,
            folder / "url",
            token,
            database,
            database.with_name("own.sqlite-wal"),
            database.with_name("own.sqlite-shm"),
        )
    }
    assert database.stat().st_mode & 0o777 == 0o600


def test_people_who_share_an_account_are_reached_from_this_machine_only(folder: Path) -> None:
    configured(folder, local={"isolation": "shared"})
    with pytest.raises(ConfigError, match=r"share one Unix account.*bind_url is http://0\.0\.0\.0:8000"):
        configured(folder, local={"isolation": "shared"}, bind_url="http://0.0.0.0:8000")
    for section in ("hub", "service"):
        with pytest.raises(ConfigError, match=rf"{section}\.bind_url"):
            configured(folder, local={"isolation": "shared"}, **{section: {"bind_url": "http://0.0.0.0:8081"}})


def test_the_service_is_known_to_the_hub_and_may_start_and_stop_servers_only(folder: Path) -> None:
    c = configured(folder, public_url="https://h.example.org/x", service={"connect_url": "http://service:80"})
    [service] = c.JupyterHub.services
    assert service["name"] == "armillary"
    assert service["url"] == "http://service:80"
    assert service["api_token"] == KEY
    assert service["oauth_redirect_uri"] == "/x/services/armillary/oauth_callback"
    assert service["oauth_no_confirm"] is True
    assert service["display"] is False
    assert not {"admin", "oauth_client_allowed_scopes", "command"} & set(service)
    app = JupyterHub()
    app.update_config(c)
    [role] = app.load_roles
    assert role["services"] == ["armillary"]
    assert set(role["scopes"]) == {
        "start:servers", "delete:servers", "read:servers", "read:users:name", "read:users:activity", "list:users"
    }  # fmt: skip
    assert configured(folder).JupyterHub.services[0]["url"] == "http://127.0.0.1:8003"


def test_only_a_long_token_of_the_service_is_taken_for_a_random_one(folder: Path) -> None:
    assert configured(folder).JupyterHub.trust_user_provided_tokens is True
    (folder / "state" / "secrets" / "service_token").write_text("a" * 31)
    assert configured(folder).JupyterHub.trust_user_provided_tokens is False


def test_a_short_token_for_metrics_is_hashed_slowly_too(folder: Path) -> None:
    (folder / "metrics_token").write_text("b" * 16)
    hub = {"metrics_token_file": str(folder / "metrics_token")}
    assert configured(folder, hub=hub).JupyterHub.trust_user_provided_tokens is False
    (folder / "metrics_token").write_text("b" * 32)
    assert configured(folder, hub=hub).JupyterHub.trust_user_provided_tokens is True


@pytest.mark.parametrize("text", ["short", "two words of it, and long", "\u00e4" * 20])
def test_a_token_that_is_none_is_refused_without_being_repeated(folder: Path, text: str) -> None:
    (folder / "state" / "secrets" / "service_token").write_text(text)
    with pytest.raises(ConfigError, match=r"service\.api_token_file: .* holds no token") as caught:
        configured(folder)
    assert text not in str(caught.value)


def test_spawners_ask_the_desk_of_our_own_database(folder: Path) -> None:
    for engine in ("local", "kubernetes"):
        c = configured(folder, engine=engine, hub={"connect_url": "http://10.0.0.1:8081"})
        assert isinstance(c.RequestSpawner.desk, SqlDesk)
        assert deepcopy(c).RequestSpawner.desk is c.RequestSpawner.desk
    assert (folder / "state" / "armillary.sqlite").exists()


def test_a_database_that_cannot_be_used_stops_the_hub_with_the_reason(folder: Path) -> None:
    (folder / "url").write_text("mysql://root:pa55@db/x")
    with pytest.raises(ConfigError, match=r"Armillary's database cannot be used: database\.url_file") as caught:
        configured(folder, database={"url_file": "url"})
    assert "pa55" not in str(caught.value)


def test_what_stays_is_not_walked_through_by_the_garbage_collector(folder: Path) -> None:
    gc.unfreeze()
    try:
        configured(folder)
        known = {id(one) for one in gc.get_objects()}
        assert gc.get_freeze_count() > 10_000
        assert id(JupyterHub) not in known
    finally:
        gc.unfreeze()
