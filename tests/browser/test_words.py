"""The page's script says and refuses the same as the server, in the same words: thousands of cases, both asked."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page

from hub.config import TEMPLATES
from profiles.model import Catalogue, Engine
from spawner.capacity.availability import Availability
from spawner.capacity.card import card, fits_line
from spawner.capacity.grant import grant
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.capacity.shown import shown
from spawner.devices.count import Room, snapshot
from spawner.refusal import Refusal
from spawner.reservation import Reservation

pytestmark = pytest.mark.timeout(120)
AT = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
CATALOGUE = Catalogue.model_validate(
    {
        "accelerators": {"t4": {"title": "T4", "kubernetes": {"resource": "nvidia.com/gpu"}}},
        "images": {"lab": {"title": "Lab", "reference": "example.org/lab:1", "local": {}}},
        "profiles": {"lab": {"title": "Lab", "options": {"image": "lab", "accelerator": ["none", "t4"]}}},
    }
)
LOCAL = Catalogue.model_validate(
    {
        "accelerators": {"t4": {"title": "T4", "local": {"product": "Tesla T4"}}},
        "profiles": {"cpu": {"title": "CPU"}},
    }
)
TITLES = {"none": "", "t4": "T4"}
WHY = ["cordoned", "not ready"]


def fits(dice: random.Random, most: int) -> tuple[Fit, ...]:
    found = [
        Fit(dice.randint(0, most), dice.choice([0, 500, 1000, 1100, 14_000]), dice.choice([1, 1000, 9 << 27, 4 << 30]))
        for _ in range(dice.randint(0, 3))
    ]
    return tuple(found)


def machine(dice: random.Random) -> Availability:
    """One machine's devices, shared or not, whole or broken, some in more hands than they may be."""
    replicas = dice.choice([1, 1, 2, 3])
    devices = [
        DeviceState(f"d{place}", "t4", replicas, dice.choice(["", "", "", *WHY])) for place in range(dice.randint(0, 5))
    ]
    held: list[Reservation] = []
    for device in devices:
        number = min(replicas + (dice.random() < 0.1), dice.randint(0, 4))
        for _ in range(number):
            seen = bool(device.problem) or number > replicas or dice.random() < 0.8  # so much is granted no more
            user = dice.choice(["ann", "ben"])
            held.append(
                Reservation(f"id-{len(held)}", user, "", "lab", "t4", 1, 1000, 1 << 30, (device.uuid,), seen=seen)
            )
    made = snapshot(LOCAL, devices, [one for one in held if one.seen], Room(8000, 16 << 30), AT)
    if dice.random() < 0.1:
        made = replace(made, accelerators={**made.accelerators, "t4": Count(unknown="it does not answer")})
    if dice.random() < 0.05:
        made = replace(made, accelerators={"none": made.accelerators["none"]})
    return Availability(made, dice.random() < 0.9, AT, tuple(held))


def situation(dice: random.Random) -> tuple[Availability, Engine]:
    """Counts as they could be, also odd ones."""
    if dice.random() < 0.5:
        return machine(dice), "local"
    free, us, others, held = (dice.choice([0, 0, 1, 2, 5, 20]) for _ in range(4))
    split = dice.randint(0, held)
    because = tuple((why, number) for why, number in zip(WHY, (split, held - split), strict=True) if number)
    empty = fits(dice, 4)
    now = tuple(fit for fit in empty if dice.random() < 0.7)
    reservations = tuple(
        Reservation(f"id-{place}", dice.choice(["ann", "ben"]), "", "lab", "t4", 1, 1000, 1 << 30, seen=place < us)
        for place in range(us + dice.choice([0, 0, 1, 3]))
    )
    unknown = "it does not answer" if dice.random() < 0.1 else ""
    count = Count(free + us + others + held, free, us, others, held, because, now, empty, unknown)
    none = Count(fits_now=fits(dice, 0), fits_empty=fits(dice, 0))
    counts = {"t4": count, "none": none} if dice.random() < 0.95 else {"none": none}
    return Availability(Snapshot("kubernetes", AT, counts), dice.random() < 0.9, AT, reservations), "kubernetes"


def refused(availability: Availability, engine: Engine, key: str, asked: dict[str, Any], *, more: bool) -> str:
    """What the server says."""
    wanted = Reservation(
        "new", "ann", "", "lab", None if key == "none" else key, asked["count"], asked["cpu"], asked["memory"]
    )
    try:
        grant(availability, wanted, CATALOGUE, engine, nodes_may_appear=more)
    except Refusal as refusal:
        return refusal.text
    return ""


@pytest.fixture
def script(page: Page) -> Page:
    """A page with the functions under test."""
    page.goto("about:blank")
    page.add_script_tag(content=(TEMPLATES / "form-words.js").read_text() + "\nglobalThis.words = words;")
    return page


def test_script_and_server_say_the_same(script: Page) -> None:
    dice = random.Random(4)
    cases: list[dict[str, Any]] = []
    wanted: list[dict[str, Any]] = []
    for _ in range(3000):
        availability, engine = situation(dice)
        key = dice.choice(["none", "t4", "t4", "t4"])
        asked: dict[str, Any] = {
            "count": 0 if key == "none" else dice.choice([1, 1, 2, 3]),
            "cpu": dice.choice([None, 500, 1000, 4000, 64_000]),
            "memory": dice.choice([None, 1 << 30, 3 << 29, 9 << 27, 64 << 30]),
        }
        more = dice.random() < 0.2
        data = {**shown(availability, "ann", TITLES), "engine": engine}
        cases.append({"data": data, "key": key, "asked": asked, "more": more})
        said = card(availability, "t4", "ann")
        wanted.append(
            {
                "refused": refused(availability, engine, key, asked, more=more),
                "card": [said.state, said.text, said.held, list(said.dots), [dot for dot, _ in said.parts]],
                "fits": fits_line(availability, None if key == "none" else key, TITLES[key], asked["count"]),
            }
        )
    found = script.evaluate(
        """cases => cases.map(({data, key, asked, more}) => {
            const card = words.card(data.accelerators.t4);
            return {
                refused: words.refused(data, key, asked, {nodesMayAppear: more}),
                card: [card.state, card.text, card.held, card.dots, card.parts.map(([dot]) => dot)],
                fits: words.fitsLine(data, key, asked.count),
            };
        })""",
        cases,
    )
    for case, said, server in zip(cases, found, wanted, strict=True):
        assert said == server, json.dumps(case, indent=1)
    texts = {one["refused"] for one in wanted}
    beginnings = (
        "All ",
        "The only ",
        "None of ",
        "Only ",
        "You asked ",
        "No node has ",
        "It is not known ",
        "This machine has no ",
    )
    for beginning in beginnings:
        assert any(text.startswith(beginning) for text in texts), f"no case was refused with {beginning!r}"
    assert any("as shares of one device" in text for text in texts)
    assert any("as shares of 2 devices" in text for text in texts)
