"""When a process that died is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.launch.restarts import RestartPolicy

POLICY = RestartPolicy(limit=3, window_s=60, first_pause_s=0.5, longest_pause_s=1.5)


@pytest.mark.parametrize(
    ("deaths", "pause_s"),
    [
        pytest.param((100.0,), 0.5, id="first"),
        pytest.param((100.0, 101.0), 1.0, id="second-waits-twice-as-long"),
        pytest.param((100.0, 101.0, 102.0), 1.5, id="never-longer-than-the-longest"),
        pytest.param((100.0, 101.0, 102.0, 103.0), None, id="one-too-many"),
        pytest.param((0.0, 1.0, 2.0, 100.0), 0.5, id="old-deaths-are-forgiven"),
    ],
)
def test_pause_after_deaths(deaths: tuple[float, ...], pause_s: float | None) -> None:
    assert POLICY.pause_after(deaths) == pause_s


@given(st.lists(st.floats(min_value=61, max_value=1e6), min_size=1))
def test_a_process_that_dies_less_often_than_the_window_is_started_for_ever(gaps: list[float]) -> None:
    now, deaths = 0.0, ()
    for gap in gaps:
        now += gap
        deaths = POLICY.recent((*deaths, now))
        assert POLICY.pause_after(deaths) == 0.5


@given(st.lists(st.floats(min_value=0, max_value=10), min_size=4, max_size=30))
def test_a_crash_loop_always_ends(gaps: list[float]) -> None:
    now, deaths, ended = 0.0, (), False
    for gap in gaps:
        now += gap
        deaths = POLICY.recent((*deaths, now))
        ended = ended or POLICY.pause_after(deaths) is None
    assert ended
