"""The statistics of the benchmarks."""

from __future__ import annotations

import random

import pytest

from tests.bench.ratio import Ratio, percentile, ratio_of_medians

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(0, 1.0), (50, 2.5), (100, 4.0), (95, 3.85)],
)
def test_percentile_lies_between_neighbours(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(expected)


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 95) == 7.0


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_percentile_refuses_what_has_none(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match=r"percent"):
        percentile(values, percent)


def test_same_samples_have_ratio_one() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert ratio_of_medians(values, values) == Ratio(1.0, 1.0, 1.0)


def test_interval_is_around_the_ratio_and_repeats() -> None:
    noise = random.Random(1)
    ours = [3 + noise.random() for _ in range(40)]
    other = [6 + noise.random() for _ in range(40)]

    found = ratio_of_medians(ours, other, resamples=2000)

    assert found.low < found.value < found.high
    assert found.low > 0.45
    assert found.high < 0.65
    assert found == ratio_of_medians(ours, other, resamples=2000)


def test_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    noise = random.Random(2)
    covered = 0
    for _ in range(60):
        ours = [noise.lognormvariate(0.0, 0.3) for _ in range(20)]
        other = [noise.lognormvariate(0.5, 0.3) for _ in range(20)]
        found = ratio_of_medians(ours, other, resamples=100)
        covered += found.low <= 0.6065 <= found.high  # exp(-0.5)
    assert 50 <= covered <= 60


def test_pairs_are_drawn_together() -> None:
    # Each pair has exactly the same ratio but pairs differ wildly: unpaired draws would give a wide interval.
    other = [1.0, 10.0, 100.0, 1000.0, 10000.0]
    found = ratio_of_medians([value / 2 for value in other], other)
    assert (found.low, found.high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("ours", "other", "match"),
    [([], [], "pairs"), ([1.0], [1.0, 2.0], "pairs"), ([0.0], [1.0], "above 0")],
)
def test_refuses_what_has_no_ratio(ours: list[float], other: list[float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ratio_of_medians(ours, other)
