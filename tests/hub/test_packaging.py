"""The wheel: everything that runs is in it, and it works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("profiles", "spawner", "hub")


def run(*argv: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with nothing of this checkout on its path."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ARMILLARY_"))}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-P", *argv], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a package index would get it."""
    folder = tmp_path_factory.mktemp("dist")
    built = run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), folder=ROOT)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installer makes of the wheel: its files and its metadata in a folder on the path."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_every_file_of_the_packages_is_in_it_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    assert {str(path) for path in files if path.suffix in {".py", ".html", ".css", ".yaml", ".typed"}} <= names
    assert {name.split("/")[0] for name in names} == set(PACKAGES)
    needed = {"profiles/catalogue.yaml", "hub/templates/page.html", "hub/templates/armillary.css"}
    needed |= {"hub/launch/jupyterhub_config.py"}  # what `armillary run` gives the hub where there is no checkout
    assert needed | {"spawner/templates/form.html"} | {f"{package}/py.typed" for package in PACKAGES} <= names


def test_jupyterhub_finds_the_spawners_and_the_authenticator_by_name(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info")
    points = ConfigParser()
    points.read(metadata / "entry_points.txt")
    assert dict(points["console_scripts"]) == {"armillary": "hub.cli:main"}
    assert set(points["jupyterhub.spawners"]) == {"armillary-kubernetes", "armillary-local"}
    assert set(points["jupyterhub.authenticators"]) == {"armillary-oidc"}
    program = (
        "from importlib.metadata import distribution\n"
        "for point in distribution('armillary').entry_points:\n"
        "    print(point.load().__module__)\n"
    )
    loaded = run("-c", program, folder=installed.parent, path=installed)
    assert loaded.returncode == 0, loaded.stderr
    assert sorted(loaded.stdout.split()) == ["hub.auth.oidc", "hub.cli", "spawner.kube", "spawner.local"]


def test_the_command_and_the_form_work_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import sys; from hub.cli import main; sys.exit(main(sys.argv[1:]))"
    checked = run("-c", program, "check", str(installed / "profiles/catalogue.yaml"), folder=tmp_path, path=installed)
    assert (checked.returncode, checked.stdout) == (0, "no problems\n"), checked.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    shown = run("-c", program, "--version", folder=tmp_path, path=installed)
    assert shown.stdout == f"armillary {version}\n"
    draw = "from spawner.form import render; print(render([], selected={}, notices=['noted']))"
    form = run("-c", draw, folder=tmp_path, path=installed)
    assert "noted" in form.stdout, form.stderr
    where = "import hub, hub.config; print(hub.__file__); assert (hub.config.TEMPLATES / 'home.html').is_file()"
    found = run("-c", where, folder=tmp_path, path=installed)
    assert found.stdout.startswith(str(installed)), found.stderr


def test_the_database_is_made_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import sys; from hub.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "armillary.yaml").write_text("state_dir: state\n")
    made = run("-c", program, "db", "upgrade", folder=tmp_path, path=installed)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"Made the tables in the SQLite file {tmp_path}/state/armillary.sqlite")
    checked = run("-c", program, "db", "check", folder=tmp_path, path=installed)
    assert (checked.returncode, checked.stderr) == (0, "")
