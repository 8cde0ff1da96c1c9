"""`armillary db`, run as people run it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def db(*words: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "db", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_upgrade_check(database_url: str, tmp_path: Path) -> None:
    environ = {"ARMILLARY_DATABASE__URL": database_url}
    before = db("check", folder=tmp_path, **environ)
    assert (before.returncode, before.stderr) == (1, "")
    assert "`armillary db upgrade`" in before.stdout
    done = db("upgrade", folder=tmp_path, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Made the tables in the ")
    after = db("check", folder=tmp_path, **environ)
    assert (after.returncode, after.stderr) == (0, "")
    assert after.stdout.endswith("is what this version needs\n")
    again = db("upgrade", folder=tmp_path, **environ)
    assert (again.returncode, again.stderr) == (0, "")
    assert "are what this version needs" in again.stdout


def test_the_settings_may_be_named_and_old_uids_are_taken_over(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("state_dir: kept\n")
    (tmp_path / "kept").mkdir()
    with closing(sqlite3.connect(tmp_path / "kept" / "uids.sqlite")) as old:
        old.execute("CREATE TABLE uids (uid INTEGER PRIMARY KEY, user_name TEXT NOT NULL UNIQUE)")
        old.execute("INSERT INTO uids VALUES (200000, 'ann')")
        old.commit()
    done = db("upgrade", "mine.yaml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Took over 1 uids from {tmp_path}/kept/uids.sqlite." in done.stdout
    assert (tmp_path / "kept" / "armillary.sqlite").is_file()
    assert "Took over" not in db("upgrade", "mine.yaml", folder=tmp_path).stdout


@pytest.mark.parametrize("action", ["check", "upgrade"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("enigne: local\n", "unknown key"),
        ("database: {url_file: missing}\n", "missing cannot be read"),
        ("state_dir: /dev/null/nowhere\n", "/dev/null/nowhere"),
    ],
    ids=["settings", "url-file", "folder"],
)
def test_what_is_wrong_is_a_sentence_and_status_1(action: str, settings: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "armillary.yaml").write_text(settings)
    done = db(action, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert said in done.stdout


@pytest.mark.parametrize("action", ["check", "upgrade"])
def test_a_password_is_never_printed(action: str, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://me:hunter2@/armillary?host={tmp_path}"
    done = db(action, folder=tmp_path, ARMILLARY_DATABASE__URL=url)
    assert done.returncode == 1
    assert str(tmp_path) in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
