"""The command `armillary`, run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profiles.schema import json_schema

ROOT = Path(__file__).resolve().parents[2]
GOOD = "images:\n  lab: {title: Lab, local: {}}\nprofiles:\n  small: {title: Small, options: {image: [lab], cpu: 1}}\n"
BAD = "profiles:\n  small: {titel: Small}\n"


def armillary(*words: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def catalogues(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_a_good_catalogue_has_no_problems(catalogues: Path) -> None:
    done = armillary("check", "good.yaml", folder=catalogues)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no problems\n", "")


def test_the_shipped_catalogue_has_no_problems(tmp_path: Path) -> None:
    assert armillary("check", str(ROOT / "profiles" / "catalogue.yaml"), folder=tmp_path).returncode == 0


def test_problems_of_all_files_are_printed_with_their_places(catalogues: Path) -> None:
    done = armillary("check", "good.yaml", "bad.yaml", "missing.yaml", folder=catalogues)
    assert done.returncode == 1
    assert "bad.yaml:2:11 profiles.small.titel: unknown key (did you mean title?)" in done.stdout
    assert "missing.yaml:1:1: cannot be read" in done.stdout
    assert "no problems" not in done.stdout
    assert done.stderr == ""


def test_the_schema_is_that_of_the_catalogue(tmp_path: Path) -> None:
    done = armillary("schema", folder=tmp_path)
    assert json.loads(done.stdout) == json_schema()
    settings = json.loads(armillary("schema", "--settings", folder=tmp_path).stdout)
    assert set(settings["properties"]) >= {"engine", "login", "state_dir"}
    assert settings["additionalProperties"] is False


def test_settings_are_shown_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "armillary.yaml").write_text("engine: local\n")
    done = armillary("settings", folder=tmp_path, ARMILLARY_LOGIN__CLIENT_SECRET="hunter2")
    assert done.returncode == 0
    lines = {line.split("#")[0].strip(): line.partition("# ")[2] for line in done.stdout.splitlines()}
    assert lines['engine: "local"'] == "armillary.yaml:1:1"
    assert lines['client_secret: "***"'] == "ARMILLARY_LOGIN__CLIENT_SECRET"
    assert lines['client_id: "armillary"'] == "default"
    assert "hunter2" not in done.stdout


def test_settings_with_problems_say_them_and_fail(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("enigne: local\n")
    done = armillary("settings", "mine.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("mine.yaml:1:1 enigne: unknown key (did you mean engine?)")


@pytest.mark.parametrize("words", [(), ("chekc",), ("check",), ("settings", "a", "b")], ids=str)
def test_a_wrong_call_ends_with_status_2_and_the_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    done = armillary(*words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: armillary")


def test_run_goes_to_the_launcher_with_its_own_options(tmp_path: Path) -> None:
    done = armillary("run", "--port", "none", folder=tmp_path)
    assert done.returncode == 2
    assert "a port is a number from 1 to 65535" in done.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert armillary("--version", folder=tmp_path).stdout.startswith("armillary ")
    text = armillary("--help", folder=tmp_path).stdout
    assert all(name in text for name in ("check", "schema", "settings", "run", "clean"))


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hub.cli schema | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")
