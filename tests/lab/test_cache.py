from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMILLARY_CACHE", str(tmp_path / "cache"))


def test_entry_is_made_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "tool").write_text("x")

    first = cache.entry("tool-1", make, "making")
    second = cache.entry("tool-1", make, "making")

    assert first == second == cache.root() / "tool-1"
    assert (first / "tool").read_text() == "x"
    assert len(made) == 1


def test_failed_build_leaves_nothing_and_is_tried_again() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        cache.entry("tool-1", fail, "making")
    assert [path.name for path in cache.root().iterdir()] == ["locks"]

    assert cache.entry("tool-1", lambda folder: (folder / "whole").touch(), "making").joinpath("whole").exists()


def test_run_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.run_folder() == tmp_path / "cache" / "run"
    monkeypatch.setenv("ARMILLARY_LAB_RUN", str(tmp_path / "elsewhere"))
    assert cache.run_folder() == tmp_path / "elsewhere"
