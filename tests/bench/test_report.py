"""What a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import hubs, report
from tests.bench.report import Conditions, Start
from tests.bench.stages import MOMENTS, STAGES, Marks

pytestmark = pytest.mark.unit

CONDITIONS = Conditions("2030-01-02 03:04 UTC", "2 cores, 24 GiB", {"Kubernetes": "v1.34.4"})


SECONDS = {"plain": 6, "quick-proxy": 5, "armillary": 3}


def start(hub: str, pair: int, seconds: float) -> Start:
    """A start whose stages all take as long."""
    marks = Marks()
    marks.at = {moment: seconds * (place + 1) / len(MOMENTS) for place, moment in enumerate(MOMENTS)}
    return Start(hub, pair, dict(marks.at), marks.stages(), 1.5)


def test_stages_add_up_to_the_whole_and_are_never_negative() -> None:
    marks = Marks()
    marks.at = dict.fromkeys(MOMENTS, 1.0) | {"scheduled": 0.9, "route": 3.0, "ready": 2.9, "page": 4.0}

    stages = marks.stages()

    assert sum(stages.values()) == pytest.approx(4.0)
    assert min(stages.values()) == 0
    assert list(stages) == list(STAGES)


def test_first_time_counts() -> None:
    marks = Marks()
    marks.note("page")
    first = marks.at["page"]
    marks.note("page")
    assert marks.at == {"page": first}


def test_page_and_raw_numbers_are_written(tmp_path: Path) -> None:
    starts = [start(hub, pair, seconds + pair) for pair in range(3) for hub, seconds in SECONDS.items()]

    page = report.write(starts, CONDITIONS, tmp_path / "benchmarks")

    text = page.read_text()
    assert "**plain KubeSpawner: 0.57 (95 % interval 0.50 to 0.62)**" in text
    assert "quick proxy: 0.67 (95 % interval 0.60 to 0.71)." in text
    assert "| KubeSpawner | 3 | 7.00 | 7.90 | 6.00 | 8.00 |" in text
    assert "| Armillary | 3 | 4.00 | 4.90 | 3.00 | 5.00 |" in text
    assert all(meaning in text for meaning in STAGES.values())
    assert "Kubernetes v1.34.4" in text
    raw = json.loads((tmp_path / "benchmarks" / "spawn.json").read_text())
    assert len(raw["starts"]) == 9
    assert raw["starts"][0] == {"hub": "plain", "round": 0, "load": 1.5, "moments": start("plain", 0, 6).moments}


def test_raw_numbers_of_a_full_run_stay_small(tmp_path: Path) -> None:
    starts = [start(hub, pair, 6.54321) for pair in range(80) for hub in hubs.HUBS]

    report.write(starts, CONDITIONS, tmp_path)

    assert (tmp_path / "spawn.json").stat().st_size < 200_000
