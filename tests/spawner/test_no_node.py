"""What a person reads while no node takes the session, from messages that a real scheduler has written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.diagnosis import diagnose
from spawner.no_node import Known, no_node
from spawner.reason import HEALED_BY_NODES
from spawner.reservation import Reservation

_RECORDED = json.loads((Path(__file__).parent / "recorded" / "scheduler-messages.json").read_text(encoding="utf-8"))
MESSAGES: dict[str, dict[str, str]] = _RECORDED["messages"]
_GIB = 1024**3

CODES = {
    "no-node-has-the-label": ("none-there", True),
    "no-node-has-the-resource": ("does-not-fit", True),
    "all-in-use": ("no-room", False),
    "more-than-any-node-has": ("does-not-fit", True),
    "tainted": ("no-room", False),
    "cordoned": ("no-room", False),
    "cpu-in-use-beside-a-free-card": ("no-room", False),
    "more-cpu-than-any-node-has": ("does-not-fit", True),
    "more-memory-than-any-node-has": ("does-not-fit", True),
    "card-and-cpu-in-use": ("no-room", False),
    "no-card-asked-and-cpu-in-use": ("no-room", False),
    "pods-in-use": ("no-room", False),
    "the-profiles-own-selector": ("none-there", True),
    "claims-in-use": ("no-room", False),
    "more-devices-than-any-node-has": ("no-room", False),
    "device-class-missing": ("no-device-class", True),
    "selector-does-not-fit-the-devices": ("device-selector", True),
    "volume-unbound": ("no-room", False),
    "volume-missing": ("no-room", False),
    "many-reasons": ("no-room", False),
}
"""What is said of each recorded message without any counts, also by a cluster test of the lab's own scheduler."""


def wanted(**changes: Any) -> Reservation:
    usual = {"accelerator": "t4", "count": 1, "cpu_m": 2000, "memory": 4 * _GIB}
    return Reservation(**{"id": "s1", "user": "ann", "server": "", "profile": "gpu", **usual, **changes})


def counted(count: Count, *held: Reservation, fresh: bool = True, accelerator: str = "t4") -> Availability:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Availability(Snapshot("kubernetes", at, {accelerator: count}), fresh, at, held)


def knowing(there: Count, /, *held: Reservation, fresh: bool = True, **changes: Any) -> Known:
    asked = wanted(**changes)
    available = counted(there, asked, *held, fresh=fresh, accelerator=asked.accelerator or "none")
    return Known(asked, "T4" if asked.accelerator else "", "nvidia.com/gpu" if asked.accelerator else None, available)


ROOM = Fit(8, 32_000, 256 * _GIB)
TWO = Count(total=2, free=2, fits_now=(ROOM,), fits_empty=(ROOM,))


def test_every_recorded_message_has_its_expectation() -> None:
    assert set(MESSAGES) == set(CODES)
    assert _RECORDED["kubernetes"].startswith("v1.")


@pytest.mark.parametrize("name", CODES)
def test_each_recorded_message_gives_its_code_without_counts(name: str) -> None:
    reason = no_node(MESSAGES[name]["message"], Known(wanted(), "T4", "nvidia.com/gpu"))
    assert (reason.code, reason.final) == CODES[name]
    assert "nvidia.com/gpu" not in reason.text, "people know the title"


@pytest.mark.parametrize("name", CODES)
def test_a_pod_with_the_recorded_condition_is_diagnosed_alike(name: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", **MESSAGES[name]}
    pod = {"metadata": {}, "spec": {}, "status": {"phase": "Pending", "conditions": [condition]}}
    found, told = diagnose(pod), no_node(MESSAGES[name]["message"])
    assert found == told


COUNTED = [
    pytest.param(
        "no-node-has-the-label", knowing(Count()), "none-there", True,
        "No node of the cluster has T4 at the moment. Try again later, or choose another accelerator.",
        id="no-node-has-it",
    ),
    pytest.param(
        "tainted", knowing(Count()), "none-there", True,
        "No node of the cluster has T4 at the moment. Try again later, or choose another accelerator.",
        id="no-node-has-it-and-others-are-tainted",
    ),
    pytest.param(
        "all-in-use",
        knowing(Count(total=7, used_by_us=3, used_by_others=4, fits_empty=(ROOM,)),
                wanted(id="s0", user="ann", seen=True), wanted(id="s2", user="ben", count=2, seen=True)),
        "no-room", False,
        "All 7 T4 are in use: 6 by others, 1 by you. Try again later, or choose another accelerator.",
        id="all-in-use-by-whom",
    ),
    pytest.param(
        "claims-in-use", knowing(Count(total=2, used_by_others=2, fits_empty=(ROOM,))),
        "no-room", False,
        "All 2 T4 are in use: 2 by others. Try again later, or choose another accelerator.",
        id="all-claimed-by-whom",
    ),
    pytest.param(
        "all-in-use", knowing(Count(total=2, free=1, used_by_others=1, fits_empty=(ROOM,)), wanted(id="s2", user="ben")),
        "no-room", False,
        "All 2 T4 are in use: 2 by others. Try again later, or choose another accelerator.",
        id="granted-but-not-counted-yet",
    ),
    pytest.param(
        "cordoned", knowing(Count(total=2, held_back=2, held_because=(("cordoned", 2),), fits_empty=(ROOM,))),
        "no-room", False,
        "None of the 2 T4 can be used now: cordoned. Try again later, or choose another accelerator.",
        id="cordoned",
    ),
    pytest.param(
        "tainted", knowing(Count(total=1, held_back=1, held_because=(("tainted", 1),), fits_empty=(ROOM,))),
        "no-room", False,
        "The only T4 cannot be used now: tainted. Try again later, or choose another accelerator.",
        id="tainted",
    ),
    pytest.param(
        "cordoned", knowing(TWO), "no-room", False,
        "The cluster has T4 free, but no node that has it takes this session at the moment, "
        "perhaps for what else this profile asks of a node.",
        id="others-are-cordoned",
    ),
    pytest.param(
        "the-profiles-own-selector", knowing(TWO), "node-selector", True,
        "The cluster has T4, but no node that has it meets what else this profile asks of a node. "
        "Choose something else. Ask your administrators if it happens again.",
        id="node-selector",
    ),
    pytest.param(
        "more-than-any-node-has", knowing(replace(TWO, fits_empty=(replace(ROOM, count=1),)), count=2),
        "does-not-fit", True,
        "You asked for 2 T4, but a session gets at most 1: no node has more. Ask for fewer.", id="too-many",
    ),
    pytest.param(
        "more-devices-than-any-node-has", knowing(replace(TWO, fits_empty=(replace(ROOM, count=2),)), count=3),
        "does-not-fit", True,
        "You asked for 3 T4, but a session gets at most 2: no node has more. Ask for fewer.", id="too-many-claimed",
    ),
    pytest.param(
        "more-cpu-than-any-node-has", knowing(replace(TWO, fits_empty=(Fit(1, 4000, 8 * _GIB),)), cpu_m=8000),
        "does-not-fit", True,
        "8 CPU cores and 4 GiB do not fit: at most 4 CPU cores and 8 GiB beside one T4 on any node. Ask for less.",
        id="cpu-beside-the-card-on-no-node",
    ),
    pytest.param(
        "cpu-in-use-beside-a-free-card", knowing(replace(TWO, fits_now=(Fit(1, 1000, 8 * _GIB),))),
        "no-room", False,
        "No node has 2 CPU cores and 4 GiB free beside one T4 at the moment: at most 1 CPU core and 8 GiB. "
        "Ask for less, or try again later.",
        id="cpu-beside-the-card-now",
    ),
    pytest.param(
        "no-card-asked-and-cpu-in-use",
        knowing(Count(fits_now=(Fit(0, 1500, _GIB),), fits_empty=(ROOM,)), accelerator=None, count=0),
        "no-room", False,
        "No node has 2 CPU cores and 4 GiB free at the moment: at most 1.5 CPU cores and 1 GiB. "
        "Ask for less, or try again later.",
        id="cpu-without-a-card",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "known", "code", "final", "text"), COUNTED)
def test_counts_say_who_has_it_and_how_much_fits(name: str, known: Known, code: str, final: bool, text: str) -> None:
    reason = no_node(MESSAGES[name]["message"], known)
    assert (reason.code, reason.final, reason.text) == (code, final, text)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(
    "known",
    [
        knowing(Count(total=7, used_by_others=7), fresh=False),
        knowing(Count(unknown="its devices are parts of each other")),
        Known(wanted(), "T4", "nvidia.com/gpu", Availability()),
    ],
    ids=["stale", "unknown", "never-counted"],
)
def test_numbers_that_may_be_wrong_are_not_told(name: str, known: Known) -> None:
    said = MESSAGES[name]["message"]
    assert no_node(said, known) == no_node(said, replace(known, availability=None))


@pytest.mark.parametrize("name", ["all-in-use", "claims-in-use", "cpu-in-use-beside-a-free-card"])
def test_the_scheduler_has_the_last_word_where_the_counts_say_that_there_is_room(name: str) -> None:
    reason = no_node(MESSAGES[name]["message"], knowing(TWO))
    assert reason.code == "no-room"
    assert "at the moment" in reason.text


@pytest.mark.parametrize("name", ["volume-unbound", "volume-missing", "device-class-missing"])
def test_what_lies_in_the_pod_itself_is_not_explained_by_counts(name: str) -> None:
    said = MESSAGES[name]["message"]
    full = knowing(Count(total=2, used_by_others=2))
    assert no_node(said, full) == no_node(said, replace(full, availability=None))


def test_new_nodes_heal_what_no_node_of_today_can_take_and_nothing_else() -> None:
    codes = {code for code, final in CODES.values() if final}
    assert codes - HEALED_BY_NODES == {"no-device-class", "device-selector"}
