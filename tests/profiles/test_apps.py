"""Web applications in the catalogue: what may be written, who is offered them, what is said of mistakes."""

from typing import Any

import pytest

from profiles.access import Person
from profiles.apps import TAKEN_PATHS, App, app_path
from profiles.loader import CatalogueError, loads
from profiles.offers import OptionOffer, granted_apps, offers

ANN = Person("ann", frozenset({"writers"}))
BEN = Person("ben")
CATALOGUE = """\
apps:
  code: {title: Code, command: [code, --socket, "{unix_socket}"], health: /healthz, icon: code}
  notes: {title: Notes, command: [notes, "{unix_socket}"], access: {groups: [writers]}}
  fixed: {title: Fixed, command: [fixed], port: 8787}
images:
  lab: {title: Lab, reference: a/lab, local: {}, apps: [code, notes]}
  pod: {title: Pod, reference: a/pod, apps: [fixed, code]}
  closed: {title: Closed, reference: a/closed, apps: [fixed], access: {users: [zoe]}}
  bare: {title: Bare, local: {}}
profiles:
  both: {title: Both, options: {image: [lab, pod]}}
  bare: {title: Bare, options: {image: bare}}
  none: {title: None}
  closed: {title: Closed, options: {image: [lab, closed]}}
"""


def option(profile: str, person: Person, engine: Any = "kubernetes") -> OptionOffer | None:
    [offer] = [one for one in offers(loads(CATALOGUE), person, engine) if one.key == profile]
    return next((one for one in offer.options if one.key == "app"), None)


def test_the_ways_to_open_are_those_of_every_image_that_may_be_picked_each_once() -> None:
    found = option("both", ANN)
    assert found is not None
    assert [(one.key, one.title) for one in found.offers] == [
        ("none", "JupyterLab"),
        ("code", "Code"),
        ("notes", "Notes"),
        ("fixed", "Fixed"),
    ]
    assert found.default == "none"
    assert all(one.reason is None for one in found.offers)


@pytest.mark.parametrize(
    ("profile", "engine", "keys"),
    [
        pytest.param("both", "local", ["none", "code", "notes"], id="an image that starts elsewhere"),
        pytest.param("closed", "kubernetes", ["none", "code", "notes"], id="an image of others"),
    ],
)
def test_an_image_that_cannot_be_picked_adds_none(profile: str, engine: str, keys: list[str]) -> None:
    found = option(profile, ANN, engine)
    assert found is not None
    assert [one.key for one in found.offers] == keys


@pytest.mark.parametrize("profile", ["bare", "none"])
def test_where_there_are_no_applications_nothing_is_asked(profile: str) -> None:
    assert option(profile, ANN, "local") is None


def test_who_may_not_use_it_is_told_why_and_does_not_get_it() -> None:
    found = option("both", BEN)
    assert found is not None
    assert {one.key: one.reason for one in found.offers}["notes"] == "needs group writers"
    catalogue = loads(CATALOGUE)
    assert list(granted_apps(catalogue, "lab", BEN)) == ["code"]
    assert list(granted_apps(catalogue, "lab", ANN)) == ["code", "notes"]
    assert list(granted_apps(catalogue, "lab", Person("root", admin=True))) == ["code", "notes"]
    assert granted_apps(catalogue, None, ANN) == {}


def test_where_it_listens_is_said_by_its_command_or_its_port() -> None:
    catalogue = loads(CATALOGUE)
    assert {key: (app.listens_at_socket, app.port) for key, app in catalogue.apps.items()} == {
        "code": (True, None),
        "notes": (True, None),
        "fixed": (False, 8787),
    }
    assert App(title="A", command=("a", "--port={port}", "{base_url}", "{{x}}")).listens_at_socket is False
    assert app_path("code") == "/code/"


def problems(app: str = "", image: str = "") -> list[str]:
    text = (
        f'apps: {{a: {{title: A, command: [a, "{{unix_socket}}"]}}{app}}}\n'
        f"images: {{lab: {{title: Lab, local: {{}}{image}}}}}\n"
        "profiles: {p: {title: P, options: {image: lab}}}\n"
    )
    with pytest.raises(CatalogueError) as caught:
        loads(text, name="c.yaml")
    return [str(one) for one in caught.value.problems]


BAD = [
    pytest.param('{title: B, command: [b, "{prt}"]}', "apps.b.command[1]: '{prt}': {prt} means nothing here; there are "
                 "{port}, {unix_socket}, {base_url}, and {{ for a brace", id="field"),
    pytest.param('{title: B, command: [b, "{"]}', "apps.b.command[1]: '{' cannot be filled in: ", id="brace"),
    pytest.param("{title: B, command: [b]}", "apps.b.command: listens nowhere: put {unix_socket} or {port} into its "
                 "command, or name its `port`", id="nowhere"),
    pytest.param('{title: B, command: [b, "{port}", "{unix_socket}"]}', "apps.b.command: is told a port and a socket: "
                 "keep one of {port} and {unix_socket}", id="twice"),
    pytest.param('{title: B, command: [b, "{port}"], port: 8080}', "apps.b.port: has a port of its own, and its command "
                 "is told where to listen: keep one of the two", id="port-and-told"),
    pytest.param("{title: B, command: [b], port: 80}", "apps.b.port: ", id="low-port"),
    pytest.param("{title: B, command: []}", "apps.b.command: ", id="no-program"),
    pytest.param('{title: B, command: [b, "{port}"], icon: nice.png}', "apps.b.icon: 'nice.png' is no icon: write one of "
                 "app, code, experiments, or the path of an .svg file in the image", id="icon"),
    pytest.param('{title: B, command: [b, "{port}"], health: healthz}', "apps.b.health: 'healthz' is no path inside an "
                 "application: write one such as /healthz", id="health"),
    pytest.param('{title: B, command: [b, "{port}"], kommand: x}', "apps.b.kommand: unknown key (did you mean command?); "
                 "legal here: title, description, command, port, ", id="unknown-key"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "said"), BAD)
def test_what_is_wrong_with_an_application_is_said_with_its_place(written: str, said: str) -> None:
    [found] = problems(f", b: {written}")
    assert found.startswith("c.yaml:1:")
    assert said in found


@pytest.mark.parametrize("key", ["lab", "proxy", "armillary", "api"])
def test_a_path_that_is_jupyters_cannot_be_its_key(key: str) -> None:
    assert key in TAKEN_PATHS
    [found] = problems(f', {key}: {{title: B, command: [b, "{{port}}"]}}')
    assert found.endswith(f"/{key}/ is a path of JupyterLab or JupyterHub; name this application differently")


def test_none_stands_for_no_application() -> None:
    [found] = problems(', none: {title: B, command: [b, "{port}"]}')
    assert found.endswith("apps.none: 'none' stands for no application; name this one differently")


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        pytest.param("[b]", "images.lab.apps[0]: there is no application 'b'; defined: a", id="unknown"),
        pytest.param("[a, a]", "images.lab.apps[1]: the same application was given before", id="twice"),
        pytest.param("a", "images.lab.apps: must be a list, got 'a'", id="no list"),
    ],
)
def test_what_an_image_says_of_applications_is_checked(apps: str, said: str) -> None:
    [found] = problems(image=f", apps: {apps}")
    assert found.endswith(said)


def test_on_one_machine_an_application_listens_at_a_socket_that_nobody_else_reaches() -> None:
    [found] = problems(', b: {title: B, command: [b, "{port}"]}', ", apps: [a, b]")
    assert "images.lab.apps[1]: 'b' listens at a port, which on one machine everybody reaches" in found


def test_an_option_of_this_name_would_be_taken_for_it() -> None:
    text = CATALOGUE.replace(
        "none: {title: None}", "none: {title: None, options: {choices: {app: {title: A, choices: {b: {title: B}}}}}}"
    )
    with pytest.raises(CatalogueError) as caught:
        loads(text)
    assert "'app' means something else in a request" in str(caught.value)
