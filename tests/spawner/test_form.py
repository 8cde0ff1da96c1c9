"""The form: everything escaped, every control labelled, what may not be picked greyed or hidden."""

from html.parser import HTMLParser
from typing import Any

import pytest

from profiles.offers import offers
from spawner.form import render, visible
from spawner.options import from_form, parse
from tests.spawner.catalogues import ANN, catalogue, contents


class Page(HTMLParser):
    """Start tags with their attributes, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


def page(selected: dict[str, Any] | None = None, *, hide: bool = False, engine: Any = "local", **changes: Any) -> str:
    made = catalogue(**changes)
    shown = visible(offers(made, ANN, engine), hide_not_allowed=hide)
    return str(render(shown, selected=selected or {}, notices=["<b>note</b>"]))


def test_notices_titles_and_descriptions_are_escaped() -> None:
    profiles = contents()["profiles"]
    profiles["cpu"]["title"] = "<script>alert(1)</script>"
    profiles["cpu"]["description"] = '"><img src=x onerror=alert(1)>'
    html = page(profiles=profiles)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "<b>note" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_saved_text_is_escaped() -> None:
    html = page({"profile": "gpu", "dataset--unlisted-choice": '"><svg onload=1>'}, engine="kubernetes")
    assert "<svg" not in html
    assert "&#34;&gt;&lt;svg onload=1&gt;" in html


def test_what_may_not_be_picked_is_disabled_with_the_reason() -> None:
    found = Page(page())
    assert [tag["value"] for tag in found.all("input", name="profile") if "disabled" in tag] == ["teaching"]
    assert "needs group instructors" in page()


def test_what_may_not_be_picked_is_hidden_by_setting() -> None:
    html = page(hide=True)
    assert "teaching" not in html.lower()
    assert "PyTorch" not in html


def test_every_control_has_a_label_and_every_group_a_legend() -> None:
    found = Page(page(engine="kubernetes"))
    labels = {tag["for"] for tag in found.all("label")}
    controls = [tag for name in ("input", "select") for tag in found.all(name) if tag.get("type") != "hidden"]
    assert controls
    assert [tag["id"] for tag in controls if tag["id"] not in labels] == []
    assert len(found.all("fieldset")) == len(found.all("legend"))
    ids = [tag["id"] for _, tag in found.tags if "id" in tag]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("engine", ["local", "kubernetes"])
def test_the_form_as_it_opens_can_be_sent(engine: Any) -> None:
    made = catalogue()
    found = Page(page(engine=engine))
    form: dict[str, list[str]] = {}
    for tag in found.all("input"):
        chosen = tag.get("type") != "radio" or "checked" in tag
        if chosen and "disabled" not in tag and tag["name"] is not None:
            form[tag["name"]] = [tag["value"] or ""]
    assert parse(from_form(form, made), made, ANN, engine) == parse({}, made, ANN, engine)


def test_the_last_choice_is_selected() -> None:
    found = Page(page({"profile": "gpu", "accelerator": "none", "cpu": "4", "memory": "16Gi"}, engine="kubernetes"))
    assert [tag["value"] for tag in found.all("input", name="profile") if "checked" in tag] == ["gpu"]
    name = "profile-option-gpu--accelerator"
    assert [tag["value"] for tag in found.all("input", name=name) if "checked" in tag] == ["none"]
    assert [tag["value"] for tag in found.all("input", name="profile-option-gpu--memory")] == ["16Gi"]
    assert {"value": "4", "selected": None} in found.all("option")
