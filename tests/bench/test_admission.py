"""The benchmark of decisions runs, on a small site, and its page says what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import admission_report
from tests.bench.admission import measure
from tests.bench.admission_site import Site
from tests.bench.history import History


@pytest.mark.timeout(600)
def test_it_runs_and_writes_its_page(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    site = Site(History(rows=3000, users=60, groups=3, running=20), queued=10)
    run = measure(site, 8, tmp_path, writers=(1, 2))
    assert [(one.database, one.writers) for one in run.measured] == [
        ("SQLite", 1), ("SQLite", 2), ("PostgreSQL", 1), ("PostgreSQL", 2),
    ]  # fmt: skip
    for one in run.measured:
        assert len(one.bare) == len(one.decision) == 8
        assert one.naive
    page = admission_report.write(run, tmp_path / "out").read_text(encoding="utf-8")
    assert "| PostgreSQL, 2: decision | 8 |" in page
    raw = json.loads((tmp_path / "out" / "admission.json").read_text(encoding="utf-8"))
    assert len(raw["measured"]) == 4
