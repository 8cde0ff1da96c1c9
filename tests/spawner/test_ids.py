"""Names that are made one after the other stand together, and are never the same."""

from __future__ import annotations

import re
import time

import pytest

from spawner.ids import new_id


def test_names_are_never_the_same_and_stand_in_the_order_of_their_moments() -> None:
    before = [new_id() for _ in range(2000)]
    time.sleep(0.002)
    after = [new_id() for _ in range(2000)]
    assert len({*before, *after}) == 4000
    assert max(before) < min(after)
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in before)


@pytest.mark.parametrize("ns", [0, -1, 1 << 100])
def test_no_clock_makes_a_name_of_another_shape_or_repeats_one(ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: ns)
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
