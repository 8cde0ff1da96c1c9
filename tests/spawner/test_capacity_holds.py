"""What is held is found by id and by accelerator, however it came to be known."""

from __future__ import annotations

import pytest

from spawner.capacity.availability import Availability
from spawner.capacity.holds import Holds
from spawner.reservation import Reservation

pytestmark = pytest.mark.unit


def held(name: str, accelerator: str | None, *, count: int = 1, seen: bool = False) -> Reservation:
    return Reservation(name, "ann", name, "gpu", accelerator, count, seen=seen)


ONE, TWO, PLAIN = held("one", "t4"), held("two", "a100", count=2, seen=True), held("plain", None)


def test_they_are_found_by_id_and_by_accelerator() -> None:
    holds = Holds((ONE, TWO, PLAIN))
    assert tuple(holds) == (ONE, TWO, PLAIN)
    assert holds.by_id == {"one": ONE, "two": TWO, "plain": PLAIN}
    assert holds.by_kind == {"t4": [ONE], "a100": [TWO], "": [PLAIN]}


@pytest.mark.parametrize("one", [held("three", "t4"), held("three", None), held("three", "u55c")])
def test_one_more_is_found_like_the_others_and_changes_none(one: Reservation) -> None:
    before = Holds((ONE, TWO, PLAIN))
    after, anew = before.plus(one), Holds((ONE, TWO, PLAIN, one))
    assert (tuple(after), after.by_id, after.by_kind) == (tuple(anew), anew.by_id, anew.by_kind)
    assert (tuple(before), before.by_kind) == ((ONE, TWO, PLAIN), Holds((ONE, TWO, PLAIN)).by_kind)


def test_an_availability_finds_them_whether_or_not_it_was_told_how() -> None:
    for given in ((ONE, TWO, PLAIN), Holds((ONE, TWO, PLAIN))):
        known = Availability(reservations=given)
        assert (list(known.of("t4")), list(known.of(None)), list(known.of("u55c"))) == ([ONE], [PLAIN], [])
        assert (known.unseen("t4"), known.unseen("a100"), known.unseen(None)) == (1, 0, 1)
