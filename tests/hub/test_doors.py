"""Every door gives the same answer: form, link, REST API, named servers, saved options; with status, code and text."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.hub.forms import submit
from tests.hub.site import Site, wait_for

pytestmark = [pytest.mark.hub, pytest.mark.timeout(180)]

NAME = "researcher-1"
BAD: list[Any] = [
    pytest.param({"profile": "nosuch"}, 400, "unknown-profile", "There is no profile 'nosuch'.", id="profile"),
    pytest.param({"colour": "red"}, 400, "unknown-option", "has no option 'colour'.", id="key"),
    pytest.param(
        {"image": "evil.example/any"}, 400, "unknown-choice", "has no choice 'evil.example/any'.", id="choice"
    ),
    pytest.param({"cpu": "9999"}, 400, "unknown-choice", "has no choice '9999'.", id="number"),
    pytest.param({"cpu": "{x}"}, 400, "bad-value", "'{x}' is not a number", id="braces"),
    pytest.param({"memory": "<script>alert(1)</script>"}, 400, "bad-value", "is not a number", id="html"),
    pytest.param({"image": "a\nb"}, 400, "", "", id="newline"),
    pytest.param({"image": "ｊupyterlab"}, 400, "unknown-choice", "has no choice 'ｊupyterlab'.", id="look-alike"),
    pytest.param({"image": "x" * 1_000_000}, 400, "", "", id="a megabyte"),
    pytest.param({"accelerator": "a100"}, 403, "not-offered", "this machine hands out no A100", id="engine"),
    pytest.param({"profile": "teaching"}, 403, "not-offered", "needs group instructors", id="group"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site().running() as running:
        running.login(NAME).close()  # the hub knows people from their first login on
        yield running


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[httpx.Client]:
    client = site.login(NAME)
    yield client
    client.close()


def untouched(site: Site) -> None:
    """Nothing runs, nothing was remembered, the hub is well."""
    server = site.server(NAME)
    assert not server.get("ready")
    assert not server.get("user_options")
    assert not list((site.state / "launches").glob("*.json"))
    assert site.healthy()


@pytest.mark.parametrize(("options", "status", "code", "text"), BAD)
def test_the_rest_api_refuses(site: Site, options: dict[str, Any], status: int, code: str, text: str) -> None:
    answer = site.api("POST", f"/users/{NAME}/server", json=options)
    assert answer.status_code == status, answer.text[:500]
    assert code in answer.headers["Armillary-Refusal"]
    assert text in answer.json()["message"]
    assert len(answer.text) < 2000
    untouched(site)


@pytest.mark.parametrize(("options", "status", "code", "text"), BAD)
def test_a_named_server_refuses(site: Site, options: dict[str, Any], status: int, code: str, text: str) -> None:
    answer = site.api("POST", f"/users/{NAME}/servers/second", json={"display_name": "second", "user_options": options})
    assert answer.status_code == status, answer.text[:500]
    assert code in answer.headers["Armillary-Refusal"]
    assert text in answer.json()["message"]
    assert not site.server(NAME, "second").get("ready")
    untouched(site)


def test_options_given_when_a_named_server_is_made_are_checked_at_its_start(site: Site) -> None:
    body = {"display_name": "third", "user_options": {"profile": "nosuch"}}
    assert site.api("PUT", f"/users/{NAME}/servers/third", json=body).status_code == 201
    answer = site.api("POST", f"/users/{NAME}/servers/third")
    assert answer.status_code == 400
    assert answer.headers["Armillary-Refusal"] == "unknown-profile"


@pytest.mark.parametrize(("options", "status", "code", "text"), BAD)
def test_the_form_refuses(
    site: Site, browser: httpx.Client, options: dict[str, Any], status: int, code: str, text: str
) -> None:
    profile = options.get("profile", "jupyterlab")
    fields = {f"profile-option-{profile}--{key}": value for key, value in options.items() if key != "profile"}
    page = browser.get("/hub/spawn")
    answer = submit(browser, page, **{"profile": profile, **fields})
    assert answer.status_code == status
    assert code in answer.headers["Armillary-Refusal"]
    assert "<script>alert" not in answer.text
    assert 'role="alert"' in answer.text
    plain = text.replace("'", "&#39;").replace("<", "&lt;")
    assert plain in answer.text
    assert "Start a session" in answer.text, "the form is there again"
    untouched(site)


@pytest.mark.parametrize(("options", "status", "code", "text"), [case for case in BAD if case.id != "a megabyte"])
def test_a_link_refuses(
    site: Site, browser: httpx.Client, options: dict[str, Any], status: int, code: str, text: str
) -> None:
    answer = browser.get("/hub/spawn", params={f"opt-{key}": value for key, value in options.items()})
    assert answer.status_code == status
    assert code in answer.headers["Armillary-Refusal"]
    assert text.replace("'", "&#39;").replace("<", "&lt;") in answer.text
    assert "<script>alert" not in answer.text
    untouched(site)


def test_refusals_are_never_counted_as_failures_of_the_hub(site: Site) -> None:
    metrics = site.api("GET", "/../metrics")
    counts = [
        line for line in metrics.text.splitlines() if line.startswith("jupyterhub_server_spawn_duration_seconds_count")
    ]
    lines = [line for line in counts if not line.endswith(" 0.0")]
    assert any('reason="unknown-profile"' in line and 'status="failure"' in line for line in lines), lines
    assert not any('status="error"' in line for line in lines), lines


def test_saved_options_that_are_gone_start_the_default_with_a_notice(site: Site, browser: httpx.Client) -> None:
    name = "researcher-2"
    site.login(name).close()
    site.start_server(name, {"profile": "jupyterlab", "cpu": "2"})
    site.api("DELETE", f"/users/{name}/server")
    wait_for(lambda: not site.server(name), "the session to end")
    # what an older catalogue would have left behind
    change_saved_options(site, name, {"profile": "retired", "gpu": "v100"})
    client = site.login(name)
    assert (
        "Your last choice is no longer possible: There is no profile &#39;retired&#39;" in client.get("/hub/spawn").text
    )
    client.close()
    assert site.api("POST", f"/users/{name}/server").status_code in (201, 202)
    wait_for(lambda: site.server(name).get("ready"), "the session", 90)
    server = site.server(name)
    assert server["user_options"]["profile"] == "jupyterlab"
    site.api("DELETE", f"/users/{name}/server")


def change_saved_options(site: Site, name: str, options: dict[str, Any]) -> None:
    """Write into the hub's database while it is down, as an upgrade of the catalogue would find it."""
    import json
    import sqlite3

    site.stop()
    with sqlite3.connect(site.state / "hub.sqlite") as database:
        database.execute(
            "UPDATE spawners SET user_options = ? WHERE user_id = (SELECT id FROM users WHERE name = ?)",
            (json.dumps(options), name),
        )
    site.start()
