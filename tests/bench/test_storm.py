"""The benchmark of storms works, from simulated nodes to the written page. Its numbers mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import storm


@pytest.mark.timeout(900)
def test_a_small_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_SETTLED_S", 1.5)
    folder = tmp_path / "benchmarks"
    assert storm.main(["--people", "12", "--write", str(folder)]) == 0

    raw = json.loads((folder / "storm.json").read_text())
    assert [one["hub"] for one in raw["storms"]] == list(storm.HUBS)
    for one in raw["storms"]:
        assert one["failures"] == []
        assert len(one["seconds"]) == one["people"] == 12
        assert one["login_s"]
        assert all(seconds is not None for seconds in one["restart_s"])
        assert one["shares_s"]["jupyterhub"] > 0
    page = (folder / "storm.md").read_text()
    assert "| 12, Armillary |" in page
    assert "| 12, JupyterHub alone |" in page
