"""`armillary usage`, run as people run it."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arro3.io import read_parquet

from hub import audit
from hub.usage.command import _month, _week
from tests.hub.usage_world import Books, at, held

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environ(database_url: str) -> dict[str, str]:
    """November 2026: ann used half a card for two hours, ben a session without one, both over midnight of the 21st."""
    books = Books(database_url, at("2026-11-21T23:00"))
    books.open(held("s"), held("t", user="ben", accelerator=None, count=0, share=0.0), held("u", account="user:ann"))
    books.clock.advance(7200)
    books.close("s", "t", "u")
    books.fold()
    books.close_engine()
    return {"ARMILLARY_DATABASE__URL": database_url, "ARMILLARY_QUOTAS__TIMEZONE": "Europe/Rome"}


def usage(*words: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "usage", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_groups_month(environ: dict[str, str], tmp_path: Path) -> None:
    done = usage("report", "--group", "cms", "--month", "2026-11", folder=tmp_path, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Use charged to group cms in 2026-11 (days of Europe/Rome)",
        "",
        "user   accelerator  accelerator-hours  card-hours  session-hours  core-hours",
        "ann    t4                        1.00        2.00           2.00        4.00",
        "ben    none                      0.00        0.00           2.00        4.00",
        "total                            1.00        2.00           4.00        8.00",
    ]


def test_a_persons_days_of_a_week(environ: dict[str, str], tmp_path: Path) -> None:
    done = usage("report", "--user", "ann", "--week", "2026-W47", "--by", "day", folder=tmp_path, environ=environ)
    lines = done.stdout.splitlines()
    assert lines[0] == "Use by ann in 2026-W47 (days of Europe/Rome)"
    assert [line.split() for line in lines[3:]] == [
        ["2026-11-21", "1.00", "2.00", "2.00", "4.00"],
        ["2026-11-22", "1.00", "2.00", "2.00", "4.00"],
        ["total", "2.00", "4.00", "4.00", "8.00"],
    ]


def test_days_and_sessions_as_files(environ: dict[str, str], tmp_path: Path) -> None:
    done = usage("export", "--day", "2026-11-22", "use.csv", folder=tmp_path, environ=environ)
    assert (done.stdout, done.stderr) == ("use.csv: 3 lines, use of everybody in 2026-11-22\n", "")
    with (tmp_path / "use.csv").open(newline="") as file:
        assert {(line["user"], line["account"]) for line in csv.DictReader(file)} == {
            ("ann", "group:cms"),
            ("ann", "user:ann"),
            ("ben", "group:cms"),
        }
    done = usage(
        "export", "--account", "user:ann", "--month", "2026-11", "use.parquet", folder=tmp_path, environ=environ
    )
    assert (done.stdout, done.stderr) == ("use.parquet: 1 sessions, use charged to user ann in 2026-11\n", "")
    assert read_parquet(str(tmp_path / "use.parquet")).read_all().num_rows == 1
    assert not list(tmp_path.glob(".*partial"))


def test_a_session_is_corrected_and_the_audit_knows(environ: dict[str, str], tmp_path: Path) -> None:
    words = ("correct", "s", "--seconds", "-3600", "--why", "the node hung")
    done = usage(*words, folder=tmp_path, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Session s: corrected by -3600 s, as ")
    books = Books(environ["ARMILLARY_DATABASE__URL"], 0.0)
    [entry] = books.read(audit.recent)
    assert (entry.actor, entry.action, entry.subject) == ("command line", "ledger.correct", "session:s")
    assert entry.after == {"correction": done.stdout.split()[-1], "seconds": -3600, "why": "the node hung"}
    books.close_engine()
    again = usage(*words[:2], "--seconds", "-7200", "--why", "x", folder=tmp_path, environ=environ)
    assert (again.returncode, again.stdout) == (1, "")
    assert "7200 s cannot be taken off" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "--month", "2026-13"], "'2026-13' is no month: write one such as 2026-11"),
        (["report", "--week", "2027-W53"], "'2027-W53' is no week"),
        (["report", "--day", "yesterday"], "'yesterday' is no day"),
        (["export", "--day", "9999-12-31", "use.parquet"], "days are of the years 1971 to 9998"),
        (["report", "--by", "colour"], "'colour' cannot be told apart; legal: day, account, user, accelerator"),
        (["report", "--by", "day,day"], "each can be there once"),
        (["report", "--account", "cms"], "legal: user:NAME, group:GROUP"),
        (["report", "--group", ""], "'group:' names nobody"),
        (["report", "--user", ""], "--user names nobody"),
        (["report", "--from-to", "2026-11-02", "2026-11-01"], "2026-11-01 is before 2026-11-02"),
        (["export", "use.xls"], "must end with .csv (days) or .parquet (sessions)"),
        (["report", "--settings", "none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_meant_is_said(words: list[str], said: str, tmp_path: Path) -> None:
    environ = {"ARMILLARY_DATABASE__URL": f"sqlite:///{tmp_path}/a.sqlite"}
    if "--settings" not in words:
        Books(environ["ARMILLARY_DATABASE__URL"], 0.0).close_engine()
    done = usage(*words, folder=tmp_path, environ=environ)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_database_without_tables_is_said(tmp_path: Path) -> None:
    done = usage("report", folder=tmp_path, environ={"ARMILLARY_DATABASE__URL": f"sqlite:///{tmp_path}/a.sqlite"})
    assert done.returncode == 1
    assert "`armillary db upgrade`" in done.stderr


@pytest.mark.parametrize(("read", "text"), [(_month, "9999-12"), (_week, "9999-W52")])
def test_the_last_month_and_week_there_can_be_have_no_end(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write one such as 2026"):
        read(text)


def test_months_and_weeks_end_where_they_end() -> None:
    assert [str(day) for day in _month("2028-02")[:2]] == ["2028-02-01", "2028-02-29"]
    assert [str(day) for day in _month("2026-12")[:2]] == ["2026-12-01", "2026-12-31"]
    assert [str(day) for day in _week("2026-W53")[:2]] == ["2026-12-28", "2027-01-03"]
