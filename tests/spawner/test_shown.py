"""What a person is shown: never a number that nobody knows, and nobody else's name."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.capacity.shown import shown
from spawner.reservation import Reservation

AT = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
COUNT = Count(
    total=7,
    free=3,
    used_by_us=2,
    used_by_others=1,
    held_back=1,
    held_because=(("cordoned", 1),),
    fits_now=(Fit(3, 14_000, 90 << 30),),
    fits_empty=(Fit(4, 32_000, 128 << 30),),
)
HELD = tuple(
    Reservation(f"id-{user}", user, "", "lab", "t4", 1, 2000, 8 << 30, seen=seen)
    for user, seen in (("ann", True), ("ben", False))
)
AVAILABILITY = Availability(Snapshot("kubernetes", AT, {"t4": COUNT}), True, AT, HELD)


def test_everything_of_the_contract_is_there() -> None:
    found = shown(AVAILABILITY, "ann", {"t4": "T4"})
    assert json.loads(json.dumps(found)) == {
        "engine": "kubernetes",
        "fresh": True,
        "as_of": "2026-11-21T15:00:07Z",
        "accelerators": {
            "t4": {
                "title": "T4",
                "free": 2,
                "total": 7,
                "mine": 1,
                "others": 3,
                "held_back": 1,
                "held_because": [["cordoned", 1]],
                "why": "",
                "simulated": False,
                "fits_now": [{"count": 2, "cpu_m": 12_000, "memory": 82 << 30}],
                "fits_empty": [{"count": 4, "cpu_m": 32_000, "memory": 128 << 30}],
            }
        },
    }


def test_others_are_counted_but_not_named() -> None:
    assert "ben" not in json.dumps(shown(AVAILABILITY, "ann", {"t4": "T4"}))


@pytest.mark.parametrize(
    "availability",
    [
        pytest.param(Availability(), id="never counted"),
        pytest.param(replace(AVAILABILITY, fresh=False), id="stale"),
        pytest.param(
            replace(AVAILABILITY, snapshot=Snapshot("local", AT, {"t4": Count(unknown="no NVIDIA library is here")})),
            id="cannot be counted",
        ),
        pytest.param(replace(AVAILABILITY, snapshot=Snapshot("local", AT, {})), id="not in the snapshot"),
    ],
)
def test_what_is_not_known_is_never_a_number(availability: Availability) -> None:
    card: dict[str, Any] = shown(availability, "ann", {"t4": "T4"})["accelerators"]["t4"]
    assert card["free"] is None
    assert card["why"]
