"""What a card says about an accelerator: what is free, who has the rest, and never a number that nobody knows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spawner.capacity.availability import Availability
from spawner.capacity.card import MOST_DOTS, card, fits_line
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation

AT = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
GIB = 1 << 30
ROOM = (Fit(2, 14_000, 90 * GIB),)


def known(count: Count, *held: Reservation, fresh: bool = True) -> Availability:
    return Availability(Snapshot("kubernetes", AT, {"t4": count}), fresh, AT, held)


def mine(number: int, user: str = "ann") -> Reservation:
    return Reservation(f"id-{user}-{number}", user, "", "lab", "t4", number, 1000, GIB, seen=True)


@pytest.mark.parametrize(
    ("count", "held", "text", "because"),
    [
        pytest.param(Count(21, 3, 18), (), "3 of 21 free", "", id="free"),
        pytest.param(Count(21, 3, 18), (mine(2),), "3 of 21 free, 2 used by you", "", id="some-mine"),
        pytest.param(Count(21, 0, 20, 1), (mine(1),), "all in use: 20 by others, 1 by you", "", id="full"),
        pytest.param(Count(2, 0, 2), (mine(2),), "all in use: 2 by you", "", id="all-mine"),
        pytest.param(
            Count(5, 2, 1, 0, 2, (("cordoned", 2),)), (), "2 of 5 free", "2 cannot be used now: cordoned", id="held-back"
        ),
        pytest.param(
            Count(5, 0, 1, 1, 3, (("cordoned", 2), ("not ready", 1))), (),
            "none free: in use 2 by others", "3 cannot be used now: 2 cordoned, 1 not ready", id="full-and-held-back",
        ),
        pytest.param(
            Count(2, 0, 0, 0, 2, (("ECC errors", 2),)), (), "none free", "2 cannot be used now: ECC errors", id="all-held"
        ),
        pytest.param(Count(), (), "none there at the moment", "", id="none-there"),
    ],
)  # fmt: skip
def test_the_words(count: Count, held: tuple[Reservation, ...], text: str, because: str) -> None:
    found = card(known(count, *held), "t4", "ann")
    assert (found.text, found.held) == (text, because)
    assert found.state == ("free" if count.free else "full")


def test_the_picture_has_one_dot_for_each() -> None:
    found = card(known(Count(7, 3, 2, 1, 1, (("cordoned", 1),)), mine(1)), "t4", "ann")
    assert Counter(found.dots) == {"mine": 1, "others": 2, "held": 1, "free": 3}
    assert found.parts == ()


@pytest.mark.parametrize("waiting", ["ann", "ben"])
def test_what_was_granted_beyond_what_there_is_has_no_dot(waiting: str) -> None:
    """As where the cluster gets nodes when pods wait."""
    queue = (replace(mine(number, waiting), id=str(number), seen=False) for number in (1, 3))
    found = card(known(Count(2, 0, 2), mine(2, "eve"), *queue), "t4", "ann")
    assert (found.text, found.dots) == ("all in use: 2 by others", ("others", "others"))


def test_the_last_one_goes_to_whoever_waits_for_it() -> None:
    found = card(known(Count(2, 1, 1), mine(1), replace(mine(3), id="next", seen=False)), "t4", "ann")
    assert (found.text, found.dots) == ("all in use: 2 by you", ("mine", "mine"))


def test_many_are_drawn_as_a_bar() -> None:
    found = card(known(Count(MOST_DOTS * 2, 12, 36)), "t4", "ann")
    assert found.dots == ()
    assert found.parts == (("others", 75.0), ("free", 25.0))


@pytest.mark.parametrize(
    ("availability", "why"),
    [
        pytest.param(Availability(), "it is not counted yet", id="never-counted"),
        pytest.param(known(Count(7, 3, 4), fresh=False), "the counts are old", id="stale"),
        pytest.param(known(Count(unknown="no NVIDIA library is here")), "no NVIDIA library is here", id="unknown"),
    ],
)
def test_what_is_not_known_has_neither_number_nor_picture(availability: Availability, why: str) -> None:
    found = card(availability, "t4", "ann")
    assert found.text == f"how many are free is not known now: {why}"
    assert not any(char.isdigit() for char in found.text)
    assert (found.state, found.dots, found.parts) == ("unknown", (), ())


def test_a_start_that_is_not_counted_yet_is_no_longer_free() -> None:
    found = card(known(Count(2, 1, 1), replace(mine(1, "ben"), seen=False)), "t4", "ann")
    assert found.text == "all in use: 2 by others"


@pytest.mark.parametrize(
    ("count", "asked", "line"),
    [
        pytest.param(Count(2, 2, fits_now=ROOM, fits_empty=ROOM), 1, "up to 14 CPU cores and 90 GiB.", id="fits"),
        pytest.param(Count(2, 2, fits_now=(), fits_empty=ROOM), 1, "Nothing fits beside one T4", id="no-cpu-left"),
        pytest.param(Count(2, 0, 2, fits_now=(), fits_empty=ROOM), 1, "", id="full"),
        pytest.param(Count(2, 1, 1, fits_now=ROOM, fits_empty=ROOM), 2, "", id="too-few-free"),
        pytest.param(Count(2, 2), 1, "", id="no-node-to-tell-from"),
        pytest.param(Count(unknown="why"), 1, "", id="unknown"),
    ],
)
def test_how_much_fits_beside_it(count: Count, asked: int, line: str) -> None:
    found = fits_line(known(count), "t4", "T4", asked)
    assert line in found
    assert bool(line) == bool(found)


def test_on_one_machine_nothing_fits_beside_two_shares_of_one_device() -> None:
    count = Count(4, 2, 2, fits_now=(Fit(1, 0, 0),), fits_empty=ROOM)
    devices = (DeviceState("GPU-1", "t4", 2), DeviceState("GPU-2", "t4", 2))
    held = replace(mine(1), devices=("GPU-1",))
    here = Availability(
        Snapshot("local", AT, {"t4": count}, devices=devices), True, AT, (held, replace(held, id="other"))
    )
    assert fits_line(here, "t4", "T4", 1) != ""
    assert fits_line(here, "t4", "T4", 2) == ""


def test_old_counts_tell_nothing_about_what_fits() -> None:
    assert fits_line(known(Count(2, 2, fits_now=ROOM, fits_empty=ROOM), fresh=False), "t4", "T4", 1) == ""


def test_two_largest_are_both_named() -> None:
    room = (Fit(1, 14_000, 2 * GIB), Fit(1, 2_000, 90 * GIB))
    line = fits_line(known(Count(2, 2, fits_now=room, fits_empty=room)), "t4", "T4", 1)
    assert line == "Fits beside one T4 now: up to 14 CPU cores and 2 GiB, or 2 CPU cores and 90 GiB."


def test_on_one_machine_the_line_tells_what_the_machine_has() -> None:
    count = Count(2, 2, fits_now=(Fit(2, 0, 0),), fits_empty=ROOM)
    devices = (DeviceState("GPU-1", "t4"), DeviceState("GPU-2", "t4"))
    here = Availability(Snapshot("local", AT, {"t4": count, "none": Count(fits_empty=ROOM)}, devices=devices), True, AT)
    assert fits_line(here, "t4", "T4", 2) == "Fits beside 2 T4: up to 14 CPU cores and 90 GiB."
    assert fits_line(here, "t4", "T4", 3) == ""
    assert fits_line(here, None, "", 0) == "Fits: up to 14 CPU cores and 90 GiB."
