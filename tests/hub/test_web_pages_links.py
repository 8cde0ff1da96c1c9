"""Pages of the hub lead to those of the service, and the start form carries its proof to the person whom it is for."""

from __future__ import annotations

import json
import re
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader

from hub.config import TEMPLATES
from hub.web.proof import is_proof
from tests.hub.test_config import configured

THEIRS = Path(sys.prefix) / "share" / "jupyterhub" / "templates"
SERVICE = "/b/services/armillary"


def render(template: str, **values: Any) -> str:
    loader = ChoiceLoader([PrefixLoader({"templates": FileSystemLoader(THEIRS)}), FileSystemLoader(TEMPLATES)])
    environment = Environment(loader=loader, autoescape=True)
    ann = SimpleNamespace(name="ann", json_escaped_name="ann", escaped_name="ann", admin=False, spawner=None)
    given: dict[str, Any] = {
        "base_url": "/b/hub/",
        "prefix": "/b/",
        "user": ann,
        "for_user": ann,
        "static_url": lambda path, **_: path,
        "parsed_scopes": {},
        "services": [],
        "no_spawner_check": True,
        "url": "/b/hub/spawn",
        "error_message": "",
        "spawner_options_form": "",
        "service_proof": "hub.1.proof",
        "default_server": SimpleNamespace(active=False, ready=False, pending=""),
    }
    return environment.get_template(template).render(**{**given, **values})


def asked(page: str) -> dict[str, str]:
    found = re.search(r'data-service="([^"]*)"', page)
    assert found is not None
    said: dict[str, str] = json.loads(unescape(found.group(1)))
    return said


@pytest.mark.parametrize("template", ["home.html", "spawn.html", "token.html"])
def test_every_page_leads_to_queue_and_use(template: str) -> None:
    page = render(template)
    assert f'href="{SERVICE}/queue"' in page
    assert f'href="{SERVICE}/usage"' in page
    assert f'href="{SERVICE}/admin"' not in page
    root = SimpleNamespace(name="root", json_escaped_name="root", escaped_name="root", admin=True, spawner=None)
    assert f'href="{SERVICE}/admin"' in render(template, user=root)


def test_a_running_session_can_be_switched_from_home() -> None:
    running = SimpleNamespace(active=True, ready=True, pending="", orm_spawner=SimpleNamespace(started=None))
    assert f"{SERVICE}/usage/sessions/~/switch" in render("home.html", default_server=running)
    assert f"{SERVICE}/usage/sessions/~/switch" not in render("home.html")


def test_the_form_asks_the_service_with_its_proof_for_oneself_only() -> None:
    said = asked(render("spawn.html"))
    assert (said["requests"], said["proof"]) == (f"{SERVICE}/api/requests", "hub.1.proof")
    other = SimpleNamespace(name="bob", json_escaped_name="bob", escaped_name="bob", admin=False, spawner=None)
    assert asked(render("spawn.html", for_user=other))["proof"] == ""


def test_who_has_to_wait_finds_the_link_without_script() -> None:
    text = "Not free now, so you are in the queue. Follow it at https://hub.example.org/services/armillary/queue. <b>"
    page = render("spawn.html", error_message=text)
    assert f'<a class="alert-link" href="{SERVICE}/queue">See your place in the queue</a>' in page
    assert "queue. &lt;b&gt;" in page
    assert "alert-link" not in render("spawn.html", error_message="There is no such profile.")


def test_the_hub_makes_a_proof_for_whom_a_page_is_for(tmp_path: Path) -> None:
    secrets = tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    for name in ("cookie_secret", "auth_state_keys", "proxy_password", "client_secret", "service_token"):
        (secrets / name).write_text("ab" * 32)
        (secrets / name).chmod(0o600)
    config = configured(tmp_path)
    make = config.JupyterHub.template_vars["service_proof"]
    [service] = config.JupyterHub.services
    assert is_proof(service["api_token"], "ann", make(SimpleNamespace(name="ann")))
    assert not is_proof(service["api_token"], "bob", make(SimpleNamespace(name="ann")))
    assert make(None) == ""
