"""The benchmark of starts works, from two hubs on a real Kubernetes to the written page. Its numbers mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import hubs, spawn
from tests.bench.stages import MOMENTS


@pytest.mark.timeout(900)
def test_two_pairs(tmp_path: Path) -> None:
    assert spawn.main(["--pairs", "2", "--write", str(tmp_path / "benchmarks")]) == 0

    raw = json.loads((tmp_path / "benchmarks" / "spawn.json").read_text())
    assert {(start["hub"], start["round"]) for start in raw["starts"]} == {
        (hub, n) for hub in hubs.HUBS for n in (0, 1)
    }
    assert [start["hub"] for start in raw["starts"][:3]] != [start["hub"] for start in raw["starts"][3:]]
    assert all(start["moments"].keys() >= set(MOMENTS) for start in raw["starts"])
    page = (tmp_path / "benchmarks" / "spawn.md").read_text()
    assert all(f"| {title} | 2 |" in page for title in hubs.HUBS.values())
    assert raw["versions"]["Kubernetes"].startswith("v1.")
