"""What the page of the storms says of numbers that are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import storm_report
from tests.bench.report import Conditions
from tests.bench.storm import Storm
from tests.bench.storm_people import Click

pytestmark = pytest.mark.unit

CONDITIONS = Conditions("2030-01-02 03:04 UTC", "2 cores, 24 GiB", {"Kubernetes": "v1.34.4"})


def storm(hub: str, people: int, memory_after: float, failures: int = 0) -> Storm:
    """A storm at a hub that had 150 MB before, half a second of whose loop went to reflectors and events."""
    clicks = [Click(f"person{n}", 5.0, "it broke" if n < failures else "") for n in range(people)]
    shares = {"reflectors": 0.4, "events": 0.1, "jupyterhub": 20.0, "idle": 30.0}
    return Storm(hub, people, tuple(clicks), (0.1,), shares, (1.0,), 150.0, memory_after, 160.0, 2.0, 3.0)


def test_of_the_memory_what_is_jupyterhubs_own_is_told_apart(tmp_path: Path) -> None:
    storms = [storm("plain", 100, 180.0), storm("armillary", 100, 165.0), storm("bare", 100, 160.0)]

    text = storm_report.write(storms, CONDITIONS, tmp_path).read_text()

    assert "| 100, JupyterHub alone | 150 | 160 | 100 | 160 | 2.0 | 3.0 |" in text
    own = text.partition("## What of the memory is JupyterHub's own")[2].partition("\n## ")[0]
    assert "| 100, KubeSpawner | 300 | 100 | 200 | 1.00 |" in own
    assert "| 100, Armillary | 150 | 100 | 50 | 0.25 |" in own
    assert "| 100, JupyterHub alone |" not in own
    raw = json.loads((tmp_path / "storm.json").read_text())
    assert [one["hub"] for one in raw["storms"]] == ["plain", "armillary", "bare"]


def test_a_run_that_was_broken_off_is_written_all_the_same(tmp_path: Path) -> None:
    storms = [storm("bare", 100, 160.0), storm("armillary", 100, 165.0), storm("plain", 500, 180.0)]

    text = storm_report.write(storms, CONDITIONS, tmp_path).read_text()

    own = text.partition("## What of the memory is JupyterHub's own")[2].partition("\n## ")[0]
    assert "| 100, Armillary | 150 | 100 | 50 | – |" in own
    assert "500" not in own


def test_the_loops_time_is_told_for_each_server_that_was_started(tmp_path: Path) -> None:
    storms = [storm("plain", 100, 180.0, failures=50), storm("armillary", 100, 165.0)]

    text = storm_report.write(storms, CONDITIONS, tmp_path).read_text()

    assert "| 100, KubeSpawner | 0.4 | 0.1 | 20.0 | 0.0 | 0.0 | 30.0 | 0.00 | 10.00 |" in text
    assert "| 100, Armillary | 0.4 | 0.1 | 20.0 | 0.0 | 0.0 | 30.0 | 0.00 | 5.00 |" in text
