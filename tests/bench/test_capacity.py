"""The benchmark of the form works, from a simulated cluster to the written page. Its numbers mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import capacity


@pytest.mark.timeout(900)
def test_a_small_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    size = ["--nodes", "40", "--pods", "200", "--changes", "20", "--rounds", "2", "--views", "10"]
    assert capacity.main([*size, "--write", str(folder)]) == 0

    raw = json.loads((folder / "capacity.json").read_text())
    assert {(view["hub"], view["round"]) for view in raw["views"]} == {
        (hub, n) for hub in capacity.HUBS for n in (0, 1)
    }
    assert raw["changes_per_s"] > 0
    assert all(raw["loops"][hub]["callbacks"] > 0 for hub in capacity.HUBS)
    # what the page was fed: a fifth of the nodes has seven slices each, a fifth four T4
    assert raw["totals"]["a100-1g.5gb"] >= 8 * 7
    assert raw["totals"]["t4"] >= 8 * 4
    page = (folder / "capacity.md").read_text()
    assert all(f"| {title} |" in page for title in capacity.HUBS.values())
