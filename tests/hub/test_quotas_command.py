"""`armillary quotas`, run as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from hub.db.engine import connect
from hub.db.transaction import write
from hub.db.upgrade import upgrade
from hub.quotas.declared import read_text
from hub.quotas.model import parse_field
from hub.quotas.store import declare, put
from tests.hub.quota_world import quotas

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "quotas", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with settings and a database with limits."""
    (tmp_path / "armillary.yaml").write_text("state_dir: state\nquotas: {accounts: [user]}\n")
    engine = connect(f"sqlite:///{tmp_path}/state/armillary.sqlite")
    upgrade(engine)
    limits = {"default": {"servers": 2, "memory": "64Gi"}, "group:urn:x: y": {"hours:week": 40}}
    limits["group:Zoë \N{MICROSCOPE}"] = {"queued": 3}
    write(engine, lambda connection: declare(connection, quotas(limits), "file quotas.yaml"))
    field = parse_field("hours:week")
    write(engine, lambda connection: put(connection, "member:cms", field, None, "user:root"))
    write(engine, lambda connection: put(connection, "group:cms", field, Decimal("2.5"), "user:root"))
    engine.dispose()
    return tmp_path


def test_limits_are_shown_as_a_file_that_says_the_same_and_who_set_them(site: Path) -> None:
    done = run("show", folder=site)
    assert (done.returncode, done.stderr) == (0, "")
    again = read_text(done.stdout)
    assert {(row.subject, row.field, row.value) for row in again.rows} == {
        ("default", "servers", 2),
        ("default", "memory", 64 << 30),
        ("group:urn:x: y", "hours:week", 40),
        ("group:Zoë \N{MICROSCOPE}", "queued", 3),
        ("group:cms", "hours:week", Decimal("2.5")),
        ("member:cms", "hours:week", None),
    }
    lines = {line.split("#")[0].strip(): line.partition("# ")[2] for line in done.stdout.splitlines()}
    assert lines["servers: 2"].startswith("declared by file quotas.yaml, 20")
    assert lines["hours:week: unlimited"].startswith("set by user:root, 20")
    only = run("show", "--subject", "default", folder=site)
    assert set(yaml.safe_load(only.stdout)) == {"default"}


def test_what_limits_a_person_is_shown_by_account(site: Path) -> None:
    done = run("show", "--of", "ann", "cms", "lunch", folder=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout.replace("hours:week: 2.5", "shared: 2.5")) == {
        "user:ann": {"servers": 2, "memory": "64Gi"},
        "group:cms": {"servers": 2, "memory": "64Gi", "hours:week": "unlimited", "shared": 2.5},
    }
    assert list(yaml.safe_load(done.stdout)) == ["user:ann", "group:cms"]
    assert "# for all together who charge group cms (group:cms)" in done.stdout


def test_no_limits_at_all_are_said(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/state/armillary.sqlite")
    upgrade(engine)
    engine.dispose()
    (tmp_path / "armillary.yaml").write_text("state_dir: state\n")
    assert run("show", folder=tmp_path).stdout == "# no limit is set\n"


def test_files_are_checked_against_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("default: {servers: 2, 'accelerators:t4': 1}\n")
    (tmp_path / "bad.yaml").write_text("default:\n  accelerators:t44: 1\n")
    good = run("check", "good.yaml", folder=tmp_path)
    assert (good.returncode, good.stdout, good.stderr) == (0, "no problems\n", "")
    bad = run("check", "good.yaml", "bad.yaml", "missing.yaml", folder=tmp_path)
    assert (bad.returncode, bad.stderr) == (1, "")
    assert "bad.yaml:2:3 default accelerators:t44: there is no accelerator 't44' (did you mean t4?)" in bad.stdout
    assert "missing.yaml:1:1: cannot be read" in bad.stdout
    assert "no problems" not in bad.stdout


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (("show",), "enigne: local\n", "unknown key"),
        (("check", "x.yaml"), "enigne: local\n", "unknown key"),
        (("check", "x.yaml"), "catalogue: none.yaml\n", "none.yaml"),
        (("show", "--subject", "cms"), "", "'cms' is no subject of limits"),
        (("show",), "state_dir: /dev/null/nowhere\n", "/dev/null/nowhere"),
        (("show",), "state_dir: state\n", "`armillary db upgrade`"),
    ],
    ids=["settings-show", "settings-check", "catalogue", "subject", "database", "no-database"],
)
def test_what_is_wrong_is_a_sentence_and_status_1(
    words: tuple[str, ...], settings: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "armillary.yaml").write_text(settings)
    done = run(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert said in done.stdout
    assert not list(tmp_path.rglob("*.sqlite")), "looking makes no database"
