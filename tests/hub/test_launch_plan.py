"""What is decided before anything starts: settings, ports, files of proxy and provider."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from hub.launch import plan
from hub.launch.canaille import addresses, provider_host
from hub.launch.plan import Plan, Wishes
from hub.launch.problem import Problem
from hub.settings import load
from tests.hub.site import ROOT, free_ports


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(environ: dict[str, str], *, port: int | None = None, provider_port: int | None = None) -> Plan:
    """Make a plan in the working directory, as the command does."""
    wishes = Wishes(port=port, provider_port=provider_port, config=ROOT / "jupyterhub_config.py")
    loaded, overrides = plan.read_settings(wishes, environ)
    (loaded.settings.paths.secrets).mkdir(parents=True, exist_ok=True)
    return plan.make(wishes, environ, loaded, overrides)


def test_the_hub_reads_the_settings_that_the_launcher_used(somewhere: Path) -> None:
    [port] = free_ports(1)
    made = make({}, port=port)
    assert load(None, made.overrides) == made.settings
    assert made.settings.public_url == f"http://127.0.0.1:{port}"
    assert made.settings.state_dir == somewhere / ".armillary"
    assert made.provider is not None
    assert made.settings.login.issuer == made.provider.issuer
    assert made.settings.login.admin_groups == ("admins",)


def test_what_somebody_wrote_down_is_not_replaced(somewhere: Path) -> None:
    port, hub, proxy, service = free_ports(4)
    (somewhere / "armillary.yaml").write_text(
        f"public_url: http://localhost:{port}\nstate_dir: data\nhub: {{bind_url: 'http://127.0.0.1:{hub}'}}\n"
        f"proxy: {{api_url: 'http://127.0.0.1:{proxy}'}}\nservice: {{bind_url: 'http://127.0.0.1:{service}'}}\n"
        "login: {allowed_groups: [instructors], service_name: the course}\n"
    )
    made = make({plan.DEFAULT_STATE_VARIABLE: "/nowhere"})
    assert made.settings.state_dir == somewhere / "data"
    assert made.settings.hub.bind_url == f"http://127.0.0.1:{hub}"
    assert made.settings.proxy.api_url == f"http://127.0.0.1:{proxy}"
    assert made.settings.service.bind_url == f"http://127.0.0.1:{service}"
    assert made.settings.login.allowed_groups == ("instructors",)
    assert made.settings.login.service_name == "the course"
    assert made.settings.login.admin_groups == ("admins",)


def test_an_own_provider_means_no_demonstration(somewhere: Path) -> None:
    [port] = free_ports(1)
    (somewhere / "armillary.yaml").write_text("login: {issuer: 'https://login.example.org', allow_everyone: true}\n")
    made = make({"ARMILLARY_LOGIN__CLIENT_SECRET": "x"}, port=port)
    assert made.provider is None
    assert [spec.name for spec in made.specs({})] == ["proxy", "service", "hub"]
    assert made.settings.login.issuer == "https://login.example.org"
    assert not (made.settings.paths.secrets / "accounts.json").exists()


def test_behind_tls_the_wished_port_is_the_proxys(somewhere: Path) -> None:
    [port] = free_ports(1)
    (somewhere / "armillary.yaml").write_text(
        "public_url: https://hub.example.org\nlogin: {issuer: 'https://login.example.org', allow_everyone: true}\n"
    )
    made = make({"ARMILLARY_LOGIN__CLIENT_SECRET": "x"}, port=port)
    assert made.settings.public_url == "https://hub.example.org"
    assert made.settings.proxy_bind_url == f"http://127.0.0.1:{port}/"
    assert made.health_url == f"http://127.0.0.1:{port}/hub/health"
    assert made.service_health_url == f"http://127.0.0.1:{port}/services/armillary/health"


def test_a_proxy_that_the_launcher_does_not_bring_is_refused(somewhere: Path) -> None:
    (somewhere / "armillary.yaml").write_text("proxy: {kind: configurable-http-proxy}\n")
    with pytest.raises(Problem, match=r"proxy\.kind: the launcher brings traefik"):
        make({})


def test_another_provider_port_makes_the_old_issuer_a_former_one(somewhere: Path) -> None:
    port, first, second = free_ports(3)
    issuers = []
    for provider_port in (first, second, second):
        made = make({}, port=port, provider_port=provider_port)
        issuers.append((made.settings.login.issuer, made.settings.login.former_issuers))
    host = provider_host("127.0.0.1")
    assert issuers[0] == (f"http://{host}:{first}", ())
    assert issuers[1] == issuers[2] == (f"http://{host}:{second}", (f"http://{host}:{first}",))


def test_the_provider_gets_none_of_our_variables_and_the_hub_none_of_a_hub_around_us(somewhere: Path) -> None:
    [port] = free_ports(1)
    made = make({}, port=port)
    outer = {"PATH": "/bin", "SECRET_KEY": "x", "DEBUG": "1", "JUPYTERHUB_API_TOKEN": "x", "KUBECONFIG": "/k"}
    specs = {spec.name: spec.environment for spec in made.specs(outer)}
    assert set(specs["provider"]) == {"PATH", "PYTHONPATH"}
    assert "JUPYTERHUB_API_TOKEN" not in specs["hub"]
    assert specs["service"] == specs["hub"]
    assert specs["hub"]["KUBECONFIG"] == "/k"
    assert specs["hub"]["PATH"].endswith(":/bin")


def test_spoilt_accounts_are_a_problem_not_new_passwords(somewhere: Path) -> None:
    [port] = free_ports(1)
    made = make({}, port=port)
    (made.settings.paths.secrets / "accounts.json").write_text("{")
    with pytest.raises(Problem, match="is spoilt"):
        make({}, port=port)


def test_the_proxys_file_is_toml_with_the_api_on_its_own_address(somewhere: Path) -> None:
    [port] = free_ports(1)
    made = make({}, port=port)
    made.proxy.write()
    said = tomllib.loads(made.proxy.static_file.read_text())
    assert said["entryPoints"]["http"]["address"] == f"127.0.0.1:{port}"
    assert said["entryPoints"]["auth_api"]["address"] == made.settings.proxy.api_url.removeprefix("http://")
    assert said["api"] == {}  # neither insecure nor with a dashboard page of its own
    assert said["providers"]["file"]["filename"] == str(made.settings.paths.traefik_rules)
    made.proxy.rules_file.write_text("routes = 1\n")
    made.proxy.write()
    assert made.proxy.rules_file.read_text() == "routes = 1\n"


def test_what_the_provider_is_told(somewhere: Path) -> None:
    [port] = free_ports(1)
    made = make({}, port=port)
    assert made.provider is not None
    assert made.provider.file.stat().st_mode & 0o777 == 0o600
    said = json.loads(made.provider.file.read_text())
    assert said["settings"]["CANAILLE_OIDC"]["REQUIRE_NONCE"] is True
    assert said["settings"]["SESSION_TYPE"] == "filesystem"
    assert said["settings"]["CANAILLE"]["ENABLE_INTRUDER_LOCKOUT"] is True
    rights = said["settings"]["CANAILLE"]["ACL"]["DEFAULT"]
    assert "manage_own_groups" not in rights["PERMISSIONS"]
    assert not {"groups", "password", "emails", "user_name"} & set(rights["WRITE"])
    client = said["seed"]["client"]
    assert client["redirect_uris"] == [f"http://127.0.0.1:{port}/hub/oauth_callback"]
    assert client["id_token_signed_response_alg"] == "RS256"
    assert all(address.startswith(("127.", "[::1]")) for address in said["seed"]["listen"])


@pytest.mark.parametrize("site_host", ["127.0.0.1", "localhost"])
def test_site_and_provider_share_no_cookies(site_host: str) -> None:
    assert provider_host(site_host) != site_host


def test_a_name_of_another_machine_is_nowhere_to_listen() -> None:
    assert addresses("192.0.2.7") == []


def test_no_session_can_take_the_hubs_place_while_it_restarts(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root the internal ports are below 1024, where no account of a session may listen."""
    port, other = free_ports(2)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("hub.launch.ports.is_free", lambda host, port: True)
    guarded = make({}, port=port).settings
    assert (guarded.hub.bind_url, guarded.proxy.api_url) == ("http://127.0.0.1:881", "http://127.0.0.1:899")
    assert guarded.service.bind_url == "http://127.0.0.1:883"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    ordinary = make({"ARMILLARY_STATE_DIR": "other"}, port=other).settings
    assert (ordinary.hub.bind_url, ordinary.proxy.api_url) == ("http://127.0.0.1:8081", "http://127.0.0.1:8099")
    assert ordinary.service.bind_url == "http://127.0.0.1:8003"


def test_the_services_token_is_made_once_for_the_hub_and_it(somewhere: Path) -> None:
    [port] = free_ports(1)
    file = make({}, port=port).settings.paths.service_token
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text()
    assert len(token.strip()) == 64
    make({}, port=port)
    assert file.read_text() == token
    elsewhere = make({"ARMILLARY_SERVICE__API_TOKEN_FILE": "/run/token", "ARMILLARY_STATE_DIR": "other"}, port=port)
    assert not elsewhere.settings.paths.service_token.exists()


def test_a_service_that_worked_once_is_never_given_up(somewhere: Path) -> None:
    """Without it nothing is counted, but everybody can go on working."""
    [port] = free_ports(1)
    specs = {spec.name: spec for spec in make({}, port=port).specs({})}
    deaths = tuple(float(number) for number in range(100))
    assert specs["service"].policy.pause_after(deaths) is not None
    assert specs["service"].first_policy.pause_after(deaths[:2]) is None
    assert specs["hub"].policy.pause_after(deaths) is None
