"""The form: everything escaped, every control labelled, what may not be picked greyed or hidden."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import profiles
from profiles.loader import load, loads
from profiles.offers import offers
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
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


def test_a_refused_choice_that_is_not_possible_falls_back_to_the_default() -> None:
    asked = {"profile": "gpu", "cpu": "3", "accelerator": "u55c", "memory": "<b>"}
    html = page(asked, engine="kubernetes")
    found = Page(html)
    assert [tag["value"] for tag in found.all("input", name="profile") if "checked" in tag] == ["gpu"]
    cards = found.all("input", name="profile-option-gpu--accelerator")
    assert [tag["value"] for tag in cards if "checked" in tag] == ["t4"]
    assert "<b>" not in html
    found = Page(page({"profile": "teaching"}))
    assert [tag["value"] for tag in found.all("input", name="profile") if "checked" in tag] == ["cpu"]


ROOM = (Fit(2, 14_000, 90 << 30),)


def counted(*, fresh: bool = True, **counts: Count) -> Availability:
    at = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
    every = {"none": Count(fits_now=ROOM, fits_empty=ROOM), **counts}
    return Availability(Snapshot("kubernetes", at, every), fresh, at)


def live(availability: Availability | None, selected: dict[str, Any] | None = None, **changes: Any) -> str:
    made = catalogue(**changes)
    return str(
        render(
            offers(made, ANN, "kubernetes"),
            selected=selected or {"profile": "gpu"},
            notices=[],
            catalogue=made,
            availability=availability,
            user="ann",
        )
    )


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_each_card_says_what_is_free() -> None:
    text = text_of(live(counted(t4=Count(21, 3, 18, fits_now=ROOM, fits_empty=ROOM))))
    assert "3 of 21 free" in text
    assert "as of 15:00:07 UTC" in text
    assert "Fits beside one T4 now: up to 14 CPU cores and 90 GiB." in text


def test_a_simulated_accelerator_is_called_so_wherever_its_title_is() -> None:
    made = load(Path(profiles.__file__).parent / "catalogue.yaml")
    offered = offers(made, ANN, "local")
    accelerators = {offer.key for one in offered for option in one.options for offer in option.offers} & {"t4", "u55c"}
    (profile, *_) = [
        one.key for one in offered if any("t4" in [o.key for o in option.offers] for option in one.options)
    ]
    known = counted(fresh=True, **dict.fromkeys(accelerators, Count(2, 2, fits_now=ROOM, fits_empty=ROOM)))
    picked = {"profile": profile, "accelerator": "t4"}
    html = str(render(offered, selected=picked, notices=[], catalogue=made, availability=known, user="ann"))
    counts = re.search(r'id="arm-counts">(.*?)</script>', html)
    assert counts is not None
    said = json.loads(counts[1])["accelerators"]
    assert all(one["title"].endswith("(simulated)") for key, one in said.items() if key != "none")
    assert "(simulated): up to 14 CPU cores" in text_of(html) or "(simulated) now: up to 14 CPU cores" in text_of(html)


def test_what_may_not_be_picked_has_no_count() -> None:
    html = live(counted(t4=Count(2, 1, 1), u55c=Count(97, 96, 1)))
    assert "needs group fpga-users" in html
    assert "96" not in text_of(html)
    counts = re.search(r'id="arm-counts">(.*?)</script>', html)
    assert counts is not None
    assert set(json.loads(counts[1])["accelerators"]) == {"none", "t4"}


@pytest.mark.parametrize("availability", [Availability(), counted(fresh=False, t4=Count(2, 1, 1))])
def test_what_is_not_known_is_no_number(availability: Availability) -> None:
    text = text_of(live(availability))
    assert "how many are free is not known now" in text
    assert "of 2 free" not in text


def test_without_anybody_who_counts_there_are_no_counts() -> None:
    html = live(None)
    assert "free" not in text_of(html)
    assert "arm-counts" not in html


def test_what_the_script_reads_cannot_end_its_element() -> None:
    accelerators = contents()["accelerators"]
    accelerators["t4"]["title"] = "</script><img src=x onerror=alert(1)>"
    html = live(counted(t4=Count(2, 2, unknown="<!--<script>")), accelerators=accelerators)
    assert "<img" not in html
    assert html.count("</script>") == 1
    assert "<!--" not in html


def test_ids_stay_unique_with_counts() -> None:
    found = Page(live(counted(t4=Count(2, 1, 1, fits_now=ROOM, fits_empty=ROOM))))
    ids = [tag["id"] for _, tag in found.tags if "id" in tag]
    assert len(ids) == len(set(ids))
    described = {name for _, tag in found.tags for name in (tag.get("aria-describedby") or "").split()}
    assert described <= set(ids)


def test_a_profile_that_is_placed_by_hand_promises_nothing_about_what_fits() -> None:
    profiles = contents()["profiles"]
    profiles["gpu"]["kubespawner_override"] = {"scheduler_name": "other"}
    html = live(counted(t4=Count(2, 1, 1, fits_now=ROOM, fits_empty=ROOM)), profiles=profiles)
    assert "Fits beside" not in html
    assert "data-by-hand" in html


def test_a_number_of_any_length_is_shown_again_as_it_was_typed() -> None:
    made = loads("""
images: {lab: {title: Lab, local: {}}}
accelerators: {t4: {title: T4, simulated: {count: 8}}}
profiles:
  lab: {title: Lab, options: {image: lab, accelerator: [t4, none], count: {min: 1, max: 8}}}
""")
    typed = {"profile": "lab", "accelerator": "t4", "count": "9" * 5000}
    shown = offers(made, ANN, "local")
    found = Page(
        str(
            render(
                shown, selected=typed, notices=[], catalogue=made, availability=Availability(), user="ann", server=""
            )
        )
    )
    assert found.all("input", value="9" * 5000)
