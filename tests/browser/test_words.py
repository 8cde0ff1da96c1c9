"""The page's script says and refuses the same as the server, in the same words: thousands of cases, both asked."""

from __future__ import annotations

import json
import random
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
TITLES = {"none": "", "t4": "T4"}
WHY = ["cordoned", "not ready"]


def fits(dice: random.Random, most: int) -> tuple[Fit, ...]:
    found = [
        Fit(dice.randint(0, most), dice.choice([0, 500, 1000, 1100, 14_000]), dice.choice([1, 1000, 9 << 27, 4 << 30]))
        for _ in range(dice.randint(0, 3))
    ]
    return tuple(found)


def situation(dice: random.Random) -> tuple[Availability, Engine]:
    """Counts as they could be, also odd ones; on one machine with devices that fit them."""
    free, us, others, held = (dice.choice([0, 0, 1, 2, 5, 20]) for _ in range(4))
    split = dice.randint(0, held)
    because = tuple((why, number) for why, number in zip(WHY, (split, held - split), strict=True) if number)
    empty = fits(dice, 4)
    now = tuple(fit for fit in empty if dice.random() < 0.7)
    engine: Engine = dice.choice(["local", "kubernetes"])
    if engine == "local":
        others, empty, now = 0, (Fit(free + us + held, 8000, 16 << 30),) if empty else (), ()
    users = ["ann" if dice.random() < 0.5 else "ben" for _ in range(us)]
    reservations = tuple(
        Reservation(f"id-{place}", user, "", "lab", "t4", 1, 1000, 1 << 30, (f"d{place}",), seen=True)
        for place, user in enumerate(users)
    )
    problems = [""] * (us + free) + [why for why, number in because for _ in range(number)]
    devices = tuple(DeviceState(f"d{place}", "t4", problem=why) for place, why in enumerate(problems))
    unknown = "it does not answer" if dice.random() < 0.1 else ""
    count = Count(free + us + others + held, free, us, others, held, because, now, empty, unknown)
    none = Count(fits_now=fits(dice, 0), fits_empty=fits(dice, 0))
    counts = {"t4": count, "none": none} if dice.random() < 0.95 else {"none": none}
    snapshot = Snapshot(engine, AT, counts, devices=devices if engine == "local" else ())
    return Availability(snapshot, dice.random() < 0.9, AT, reservations), engine


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
