"""armillary.yaml and the environment: what is accepted, what is refused and with which words, and where values come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from hub.settings import Settings, SettingsError, load, load_with_origins
from hub.settings.shape import section_of, shapes
from hub.settings.show import as_yaml
from hub.settings.source import variable_of
from hub.settings.values import is_loopback, split_url


def written(folder: Path, text: str) -> Path:
    file = folder / "armillary.yaml"
    file.write_text(text)
    return file


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Each problem without the folder's name."""
    with pytest.raises(SettingsError) as caught:
        load(written(folder, text), environ or {})
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    settings = load(written(tmp_path, ""), {})
    assert settings.engine == "local"
    assert settings.state_dir == tmp_path / ".armillary"
    assert settings.proxy_bind_url == settings.public_url
    assert settings.callback_url == "http://127.0.0.1:8000/hub/oauth_callback"


def test_without_any_file_paths_count_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).state_dir == tmp_path / ".armillary"
    written(tmp_path, "state_dir: here\n")
    assert load(None, {}).state_dir == tmp_path / "here"


def test_the_file_is_found_by_its_variable(tmp_path: Path) -> None:
    file = written(tmp_path, "state_dir: ../state\ncatalogue: /etc/catalogue.yaml\n")
    settings = load(None, {"ARMILLARY_SETTINGS": str(file)})
    assert settings.state_dir == tmp_path / "../state"
    assert settings.catalogue == Path("/etc/catalogue.yaml")


def test_every_problem_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    text = """\
engine: locl
login:
  isuer: https://login.example.org
  issuer: http://login.example.org
  scopes: [profile]
  id_token_algorithms: [RS256, none]
servers: 3
hub:
  concurrent_starts: -1
  log_level: loud
"""
    found = problems(tmp_path, text, {"ARMILLARY_PROXY__CHECK_ROUTES_S": "soon", "ARMILLARY_LOGIN__ISSUR": "x"})
    assert [line.split(": ")[0] for line in found] == [
        "ARMILLARY_LOGIN__ISSUR",
        "ARMILLARY_PROXY__CHECK_ROUTES_S proxy.check_routes_s",
        "armillary.yaml:1:1 engine",
        "armillary.yaml:3:3 login.isuer",
        "armillary.yaml:4:3 login.issuer",
        "armillary.yaml:5:3 login.scopes",
        "armillary.yaml:6:32 login.id_token_algorithms[1]",
        "armillary.yaml:7:1 servers",
        "armillary.yaml:9:3 hub.concurrent_starts",
        "armillary.yaml:10:3 hub.log_level",
    ]
    said = "\n".join(found)
    for words in (
        "there is no such setting; did you mean ARMILLARY_LOGIN__ISSUER?",
        "must be 'local' or 'kubernetes', got 'locl'",
        "unknown key (did you mean issuer?)",
        "must be https:// (http:// is accepted on this machine's loopback only) (found 'http://login.example.org')",
        "must contain 'openid'",
        "got 'none'",
        "must be a mapping, got 3",
        "got -1",
        "'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        "got 'soon'",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("- a\n", "armillary.yaml:1:1: settings must be a mapping", id="list"),
        pytest.param("engine: local\nengine: kubernetes\n", "armillary.yaml:2:1 engine: the key was given", id="twice"),
        pytest.param("engine: 'local\n", "armillary.yaml:", id="unclosed"),
        pytest.param("login: {<<: *x}\n", "armillary.yaml:1:", id="unknown-alias"),
        pytest.param("1: 2\n", "armillary.yaml:1:1", id="number-as-key"),
        pytest.param("state_dir: !!python/object/apply:os.getcwd []\n", "armillary.yaml:1:", id="code"),
        pytest.param("public_url: http://127.0.0.1:0/\n", "port must be 1 to 65535", id="port-zero"),
        pytest.param("public_url: ftp://127.0.0.1/\n", "must begin with http:// or https://", id="scheme"),
        pytest.param("public_url: 'http:///x'\n", "must name a host", id="no-host"),
        pytest.param("public_url: 'http://a b/'\n", "must name a host", id="space-in-host"),
        pytest.param("public_url: http://h/?q\n", "must end with its path", id="query"),
        pytest.param(
            "public_url: http://127.0.0.1/a\nbind_url: http://127.0.0.1/b\n", "different paths", id="other-path"
        ),
        pytest.param("engine: kubernetes\n", "pods cannot reach the hub at its loopback address", id="loopback-hub"),
        pytest.param("servers: {slow_start_s: 0}\n", "servers.slow_start_s", id="no-wait-for-refusals"),
        pytest.param("servers: {default_url: //evil.example.org}\n", "begins with one '/'", id="default-url"),
        pytest.param('hub: {headers: {X-A: "a\\r\\nB: c"}}\n', "must be one line", id="header-splitting"),
        pytest.param('hub: {headers: {"X A": "a"}}\n', "is not a header name", id="header-name"),
        pytest.param("kubernetes: {uid: 0}\n", "kubernetes.uid", id="root"),
        pytest.param("kubernetes: {namespace: Jupyter}\n", "kubernetes.namespace", id="namespace"),
        pytest.param("kubernetes: {home_size: much}\n", "kubernetes.home_size", id="size"),
        pytest.param("proxy: {api_user: 'a:b'}\n", "without ':'", id="colon"),
    ],
)
def test_bad_files_are_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in problems(tmp_path, text))


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"engine: \xe9\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path / "latin.yaml", {})
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(SettingsError, match="larger than"):
        load(tmp_path / "large.yaml", {})


def test_an_empty_section_is_no_problem(tmp_path: Path) -> None:
    assert load(written(tmp_path, "login:\n  # issuer: …\n"), {}).login.issuer is None


# --- environment -------------------------------------------------------------------------------------------------


def test_variables_win_over_the_file_and_keep_its_other_values(tmp_path: Path) -> None:
    file = written(tmp_path, "login:\n  client_id: from-file\n  admin_groups: [a]\n  contact: x\n")
    environ = {
        "ARMILLARY_LOGIN__ADMIN_GROUPS": "admins, owners",
        "ARMILLARY_LOGIN__CONTACT": "  [y]",
        "ARMILLARY_HUB__HEADERS": "{X-Site: one}",
        "ARMILLARY_HUB__METRICS_NEED_TOKEN": "false",
        "ARMILLARY_SERVERS__NAMED_LIMIT": "0",
        "ARMILLARY_LOGIN__SCOPES": "[openid, 'a,b']",
        "ARMILLARY_SPAWN_ID": "not ours to read",
        "OTHER": "x",
    }
    settings = load(file, environ)
    assert settings.login.client_id == "from-file"
    assert settings.login.admin_groups == ("admins", "owners")
    assert settings.login.contact == "  [y]"
    assert settings.hub.headers == {"X-Site": "one"}
    assert settings.hub.metrics_need_token is False
    assert settings.servers.named_limit == 0
    assert settings.login.scopes == ("openid", "a,b")


def test_paths_in_variables_count_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "etc", "catalogue: c.yaml\n")
    settings = load(file, {"ARMILLARY_STATE_DIR": "s", "ARMILLARY_HUB__TEMPLATE_PATHS": "a,b"})
    assert settings.catalogue == tmp_path / "etc" / "c.yaml"
    assert settings.state_dir == tmp_path / "s"
    assert settings.hub.template_paths == (tmp_path / "a", tmp_path / "b")


def test_a_variable_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "", {"ARMILLARY_HUB__HEADERS": "{a: [", "ARMILLARY_LOGIN__SCOPES": "[a"})
    assert found[0].startswith("ARMILLARY_HUB__HEADERS hub.headers: not YAML")
    assert found[1].startswith("ARMILLARY_LOGIN__SCOPES login.scopes: not YAML")


def test_every_setting_can_be_set_by_its_variable() -> None:
    names = [variable_of(shape) for shape in shapes(Settings) if shape.kind != "section"]
    assert len(names) == len(set(names)) > 50
    assert "ARMILLARY_LOGIN__CLIENT_SECRET_FILE" in names


# --- secrets -----------------------------------------------------------------------------------------------------

SECRETS = [shape for shape in shapes(Settings) if shape.kind == "secret"]


def nested(names: Sequence[str], value: object) -> dict[str, object]:
    """What a file says that sets this one thing."""
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("shape", SECRETS, ids=lambda shape: shape.dotted)
def test_a_secret_in_the_file_is_refused_with_the_way_out_and_not_repeated(tmp_path: Path, shape: object) -> None:
    name: tuple[str, ...] = shape.name  # type: ignore[attr-defined]
    [said] = problems(tmp_path, yaml.safe_dump(nested(name, "hunter2")))
    assert f"{'.'.join(name)}_file" in said
    assert variable_of(shape) in said  # type: ignore[arg-type]
    assert "hunter2" not in said


def test_there_are_secrets_and_each_has_a_file_beside_it() -> None:
    secrets = ["hub.database_url", "proxy.api_password", "login.client_secret", "database.url", "queue.mail.password"]
    assert [shape.dotted for shape in SECRETS] == secrets
    dotted = {shape.dotted for shape in shapes(Settings)}
    assert all(f"{shape.dotted}_file" in dotted for shape in SECRETS)


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    given = {variable_of(shape): "hunter2" for shape in SECRETS} | {"ARMILLARY_DATABASE__URL": "sqlite:///hunter2"}
    loaded = load_with_origins(written(tmp_path, ""), given)
    assert loaded.settings.login.client_secret is not None
    assert loaded.settings.login.client_secret.get_secret_value() == "hunter2"
    shown = as_yaml(loaded) + repr(loaded) + str(loaded.settings) + loaded.settings.model_dump_json()
    assert "hunter2" not in shown
    assert shown.count('"***"') == len(SECRETS)
    assert "# ARMILLARY_LOGIN__CLIENT_SECRET\n" in shown


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    [said] = problems(tmp_path, "hub: {connect_url: 'http://me:hunter2@hub'}\n")
    assert "must not contain a user name or password" in said
    assert "hunter2" not in said


def test_a_secret_given_twice_is_refused_without_being_repeated(tmp_path: Path) -> None:
    environ = {"ARMILLARY_LOGIN__CLIENT_SECRET": "hunter2"}
    [said] = problems(tmp_path, "login: {client_secret_file: secret}\n", environ)
    assert "keep one" in said
    assert "hunter2" not in said


# --- showing and describing ---------------------------------------------------------------------------------------


def test_what_is_shown_can_be_read_back_and_says_the_same(tmp_path: Path) -> None:
    text = "public_url: https://hub.example.org/a/\nlogin:\n  contact: 'say: \"no\" # ü'\nhub: {headers: {A: 'b: c'}}\n"
    text += "kubernetes: {tolerations: [{key: far, value: x}]}\n"
    loaded = load_with_origins(written(tmp_path, text), {"ARMILLARY_HUB__LOG_LEVEL": "DEBUG"})
    shown = as_yaml(loaded)
    again = tmp_path / "again"
    again.mkdir()
    assert load(written(again, shown), {}) == loaded.settings
    assert f"# {tmp_path}/armillary.yaml:3:3" in shown
    assert "# ARMILLARY_HUB__LOG_LEVEL" in shown
    assert "# default" in shown


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.engine = "kubernetes"  # type: ignore[misc]


def every_field(model: type[BaseModel], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, field in model.model_fields.items():
        section = section_of(field.annotation)
        found += every_field(section, f"{prefix}{key}.") if section else [(f"{prefix}{key}", field)]
    return found


@pytest.mark.parametrize(
    ("name", "field"), every_field(Settings), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_is_documented_with_unit_and_a_legal_example(name: str, field: object, tmp_path: Path) -> None:
    description: str = field.description  # type: ignore[attr-defined]
    [example] = field.examples  # type: ignore[attr-defined]
    assert len(description) > 20, name
    assert description.rstrip(")").endswith((".", "”")), name
    if name.endswith(("_s", "_days")):
        assert (field.json_schema_extra or {}).get("unit"), name  # type: ignore[attr-defined]
    if name in {shape.dotted for shape in SECRETS}:
        return
    said = nested(name.split("."), example)
    if name == "engine":
        said["hub"] = {"connect_url": "http://hub.example.org:8081"}
    if name == "user_subdomains":
        said["public_url"] = "https://hub.example.org/"
    load(written(tmp_path, yaml.safe_dump(said)), {})


@pytest.mark.parametrize(
    ("url", "bind", "callback"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/hub/oauth_callback"),
        ("https://h.example.org", "http://127.0.0.1:8000/", "https://h.example.org/hub/oauth_callback"),
        ("https://h.example.org/x/y", "http://127.0.0.1:8000/x/y/", "https://h.example.org/x/y/hub/oauth_callback"),
    ],
)
def test_addresses_follow_from_the_public_one(url: str, bind: str, callback: str) -> None:
    settings = Settings(public_url=url)
    assert settings.proxy_bind_url == bind
    assert settings.callback_url == callback
    assert settings.post_logout_url == callback.replace("oauth_callback", "logout")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("a.localhost", True),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        (None, False),
    ],
)
def test_loopback_is_told_from_what_only_looks_like_it(host: str | None, own: bool) -> None:
    assert is_loopback(host) is own


def test_a_url_is_taken_apart_with_its_ipv6_host() -> None:
    assert split_url("http://[::1]:8000/").hostname == "::1"
