"""The application that a session opens with: parsed, put into words, and told to the session on both engines."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from profiles.access import Person
from profiles.model import Catalogue
from profiles.offers import granted_apps
from spawner.apps import APPS as APPS_VARIABLE
from spawner.apps import told
from spawner.describe import describe
from spawner.options import from_form, parse, parse_saved
from spawner.processes.spec import Defaults, Place, process_spec
from spawner.refusal import Refusal
from tests.spawner.catalogues import ANN, BEN, contents
from tests.spawner.kube_spawners import make, manifest

APPS = {
    "code": {"title": "VS Code", "command": ["code-server", "{unix_socket}"], "health": "/healthz", "icon": "code"},
    "notes": {
        "title": "Notes",
        "command": ["notes", "{port}"],
        "keeps_prefix": True,
        "start_timeout_s": 5,
        "environment": {"A": "{b}"},
        "access": {"groups": ["fpga-users"]},
    },
    "fixed": {"title": "Fixed", "command": ["fixed"], "port": 8787},
}


def catalogue() -> Catalogue:
    said: dict[str, Any] = contents()
    said["images"]["lab"]["apps"] = ["code", "notes"]
    said["images"]["torch"]["apps"] = ["fixed"]
    return Catalogue.model_validate({**said, "apps": APPS})


CATALOGUE = catalogue()


def refused(options: dict[str, Any], person: Person = ANN) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(options, CATALOGUE, person, "kubernetes")
    return caught.value


def test_what_is_picked_comes_back_from_what_is_saved_and_in_words() -> None:
    request = parse({"app": "code"}, CATALOGUE, ANN, "kubernetes")
    assert (request.image, request.app) == ("lab", "code")
    assert request.options()["app"] == "code"
    assert parse(request.options(), CATALOGUE, ANN, "kubernetes") == request
    assert ("Open with", "VS Code") in describe(request, CATALOGUE, "kubernetes")


@pytest.mark.parametrize("options", [{}, {"app": "none"}])
def test_without_one_the_session_opens_as_its_image_says(options: dict[str, str]) -> None:
    request = parse(options, CATALOGUE, ANN, "kubernetes")
    assert request.app is None
    assert "app" not in request.options()


def test_what_is_not_open_to_somebody_is_refused_with_the_reason() -> None:
    assert parse({"app": "notes"}, CATALOGUE, BEN, "kubernetes").app == "notes"
    refusal = refused({"app": "notes"})
    assert (refusal.code, refusal.status_code) == ("not-offered", 403)
    assert refusal.text == "Open with: “Notes” is not open to you: needs group fpga-users."


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"app": "cod"}, "Open with has no choice 'cod'. Choose one of: none, code, fixed.", id="unknown"),
        pytest.param({"app": ["code"]}, "Open with has no choice a list. Choose one of: none, code, fixed.", id="list"),
        pytest.param(
            {"image": "torch", "app": "code"},
            "Open with: “VS Code” is not in the image “PyTorch”. Choose one of: none, fixed.",
            id="another image",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(options: dict[str, Any], text: str) -> None:
    refusal = refused(options)
    assert (refusal.code, refusal.status_code, refusal.text) == ("unknown-choice", 400, text)


def test_one_that_was_saved_and_is_gone_leads_to_the_default_with_a_word_about_it() -> None:
    request, notice = parse_saved({"app": "gone"}, CATALOGUE, ANN, "kubernetes")
    assert request.app is None
    assert notice is not None
    assert "'gone'" in notice


def test_form_and_link_carry_it() -> None:
    assert from_form({"profile": ["cpu"], "profile-option-cpu--app": ["code"]}, CATALOGUE)["app"] == "code"
    assert from_form({"profile": ["cpu"], "app": ["code"]}, CATALOGUE)["app"] == "code"


def test_the_session_is_told_of_what_its_owner_may_use_and_of_nothing_else() -> None:
    [code] = json.loads(told(granted_apps(CATALOGUE, "lab", ANN)))
    assert code == {
        "name": "code",
        "title": "VS Code",
        "command": ["code-server", "{unix_socket}"],
        "listen": "socket",
        "icon": "code",
        "health": "/healthz",
        "timeout_s": 60,
        "keeps_prefix": False,
        "environment": {},
    }
    _, notes = json.loads(told(granted_apps(CATALOGUE, "lab", BEN)))
    assert (notes["listen"], notes["keeps_prefix"], notes["timeout_s"]) == ("port", True, 5)
    assert notes["environment"] == {"A": "{b}"}
    [fixed] = json.loads(told(granted_apps(CATALOGUE, "torch", BEN)))
    assert fixed["listen"] == 8787


@pytest.mark.parametrize(("app", "url"), [("code", "/code/"), ("none", "/lab")])
def test_a_process_opens_where_it_was_asked_for(app: str, url: str) -> None:
    request = parse({"app": app, "cpu": Decimal(1)}, CATALOGUE, ANN, "local")
    place = Place("5" * 32, "ann", "", Path("/home/ann"), 4000, "/user/ann/")
    defaults = Defaults(("/opt/hub/bin/python",), {"JUPYTERHUB_DEFAULT_URL": "/lab"})
    assert process_spec(request, CATALOGUE, place, defaults).environment["JUPYTERHUB_DEFAULT_URL"] == url


@pytest.mark.parametrize(
    ("groups", "names"),
    [pytest.param((), ["code"], id="anybody"), pytest.param(("fpga-users",), ["code", "notes"], id="of the group")],
)
async def test_a_pod_opens_where_it_was_asked_for_and_knows_what_its_owner_may_use(
    monkeypatch: pytest.MonkeyPatch, groups: tuple[str, ...], names: list[str]
) -> None:
    changes = {"apps": APPS, "images": contents()["images"]}
    changes["images"]["lab"]["apps"] = ["code", "notes"]
    spawner = make(monkeypatch, groups=groups, catalogue_changes=changes)
    pod = await manifest(spawner, app="code")
    variables = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert variables["JUPYTERHUB_DEFAULT_URL"] == "/code/"
    assert [one["name"] for one in json.loads(variables[APPS_VARIABLE])] == names
    assert "{unix_socket}" in variables[APPS_VARIABLE], "KubeSpawner fills no braces in"


async def test_a_pod_of_an_image_without_applications_is_told_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = await manifest(make(monkeypatch), profile="cpu")
    assert APPS_VARIABLE not in {one["name"] for one in pod["spec"]["containers"][0]["env"]}
