"""What a person is told of the counts: the same as the form, for each what is theirs, and never what nobody knows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.web.capacity import Capacity, Reading, titles_for
from profiles.access import Person
from profiles.loader import loads
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.capacity.shown import shown
from spawner.reservation import Reservation
from tests.hub.web_world import AT, CATALOGUE, FakeDesk, catalogue

KEYS = ("t4", "u55c", "none", "gone")
small = st.integers(0, 5)


@st.composite
def counts(draw: Any) -> Count:
    free, ours, others, held = (draw(small) for _ in range(4))
    if draw(st.integers(0, 5)) == 0:
        return Count(unknown="the library is not here")
    fits = tuple(Fit(draw(small), 1000, 1 << 30) for _ in range(draw(st.integers(0, 2))))
    because = (("cordoned", held),) if held else ()
    return Count(free + ours + others + held, free, ours, others, held, because, fits, fits)


@st.composite
def availabilities(draw: Any) -> Availability:
    held = tuple(
        Reservation(
            f"id-{number}",
            draw(st.sampled_from(["ann", "ben", "cid"])),
            "",
            "lab",
            draw(st.sampled_from(["t4", "u55c", None])),
            draw(st.integers(1, 3)),
            seen=draw(st.booleans()),
        )
        for number in range(draw(small))
    )
    known = {key: draw(counts()) for key in KEYS[:3] if draw(st.integers(0, 4))}
    snapshot = Snapshot("local", AT, known) if draw(st.integers(0, 5)) else None
    return Availability(snapshot, draw(st.booleans()), AT, held)


@given(availabilities(), st.sampled_from(["ann", "ben", "dan", ""]))
def test_what_is_made_once_for_many_is_what_one_would_be_told(availability: Availability, user: str) -> None:
    titles = {key: key.upper() for key in KEYS}
    said = Reading(availability, 7, "local").of(user, titles)
    expected = shown(availability, user, titles)
    assert said["accelerators"] == expected["accelerators"]
    assert (said["fresh"], said["as_of"]) == (expected["fresh"], expected["as_of"])
    assert (said["engine"], said["sequence"]) == ("local", 7)
    Capacity.model_validate(said)
    assert json.loads(Reading(availability, 7, "local").text(user, titles).full) == json.loads(json.dumps(said))


@given(availabilities())
def test_old_counts_are_never_numbers(availability: Availability) -> None:
    said = Reading(availability, 7, "local").stale().of("ann", {key: key for key in KEYS})
    assert said["fresh"] is False
    assert {each["free"] for each in said["accelerators"].values()} == {None}


def test_only_a_change_of_the_counts_is_news() -> None:
    now = Reading(FakeDesk().now, 7, "local")
    later = Reading(replace(now.availability, as_of=AT.replace(second=30)), 8, "local")
    assert later.same_counts(now)
    assert later.text("ann", {"t4": "T4"}).counts == now.text("ann", {"t4": "T4"}).counts
    assert later.text("ann", {"t4": "T4"}).full != now.text("ann", {"t4": "T4"}).full
    assert not now.stale().same_counts(now)
    assert not replace(now, availability=replace(now.availability, reservations=())).same_counts(now)
    assert not now.same_counts(None)


def test_those_who_see_the_same_share_one_text_and_others_do_not() -> None:
    now = Reading(FakeDesk().now, 7, "local")
    titles = {"t4": "T4"}
    assert now.text("ben", titles) is now.text("cid", titles)
    assert now.text("ann", titles) is not now.text("ben", titles)
    assert now.text("ben", titles) is not now.text("ben", {"u55c": "U55c"})


@pytest.mark.parametrize(
    ("person", "hide", "keys"),
    [
        (Person("ann"), False, {"none", "t4", "u55c"}),
        (Person("ann"), True, {"none", "t4"}),
        (Person("ann", frozenset({"fpga-users"})), True, {"none", "t4", "u55c"}),
        (Person("root", admin=True), True, {"none", "t4", "u55c"}),
    ],
)
def test_everybody_is_told_what_their_form_shows(person: Person, hide: bool, keys: set[str]) -> None:
    assert set(titles_for(person, catalogue(), "local", hide_not_allowed=hide)) == keys


def test_titles_are_those_of_the_engines_form() -> None:
    assert titles_for(Person("ann"), catalogue(), "local", hide_not_allowed=False)["t4"] == "T4 (simulated)"
    text = CATALOGUE.replace(
        "{title: T4, simulated: {count: 2}}",
        "{title: T4, simulated: {count: 2}, kubernetes: {resource: nvidia.com/gpu, node_labels: {x: y}}}",
    )
    assert titles_for(Person("ann"), loads(text), "kubernetes", hide_not_allowed=False)["t4"] == "T4"
