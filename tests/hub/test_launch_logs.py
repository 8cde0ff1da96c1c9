"""Logs with an upper size."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.launch.logs import RotatingLog


def everything(path: Path) -> list[str]:
    parts = sorted(path.parent.glob(f"{path.name}*"), reverse=True)
    return [line for part in parts for line in part.read_text().splitlines()]


def test_log_stays_below_its_limit_and_keeps_the_newest_lines(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "hub.log", limit_bytes=100, backups=2)
    for number in range(100):
        log.write(b"line %03d\n" % number)
    log.close()
    sizes = {part.name: part.stat().st_size for part in tmp_path.iterdir()}
    assert set(sizes) == {"hub.log", "hub.log.1", "hub.log.2"}
    assert max(sizes.values()) <= 100
    lines = everything(tmp_path / "hub.log")
    assert lines == [f"line {number:03d}" for number in range(100 - len(lines), 100)]


def test_log_goes_on_where_the_last_launcher_stopped(tmp_path: Path) -> None:
    for text in (b"before\n", b"after\n"):
        log = RotatingLog(tmp_path / "hub.log")
        log.write(text)
        log.close()
    assert (tmp_path / "hub.log").read_text() == "before\nafter\n"
    assert (tmp_path / "hub.log").stat().st_mode & 0o077 == 0


def test_full_disk_drops_lines_and_says_how_many_afterwards(tmp_path: Path) -> None:
    full = tmp_path / "hub.log"
    full.symlink_to("/dev/full")
    log = RotatingLog(full)
    log.write(b"lost\n")
    log.write(b"lost too\n")
    full.unlink()
    log.write(b"here again\n")
    log.close()
    assert full.read_text() == "(2 lines could not be written here)\nhere again\n"


@pytest.mark.parametrize("text", [b"\xff\xfe\n", "ü\n".encode()], ids=["not-text", "umlaut"])
def test_tail_is_readable_whatever_was_written(tmp_path: Path, text: bytes) -> None:
    log = RotatingLog(tmp_path / "hub.log")
    log.write(text)
    log.close()
    assert list(log.tail) == [text.decode("utf-8", "replace").strip()]
