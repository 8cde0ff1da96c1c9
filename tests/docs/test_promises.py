"""Commands, tests and releases that the texts name exist."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest

from tests.docs.blocks import DOCS, ROOT, pages

_MAKE = re.compile(r"`make ([a-z]+)|^make ([a-z]+)", re.MULTILINE)
_TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def _texts() -> dict[str, str]:
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages()}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    named = {(name, page) for page, text in _texts().items() for pair in _MAKE.findall(text) for name in pair if name}
    assert {(name, page) for name, page in named if name not in targets} == set()


def test_every_make_target_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))) - {"help"}:
        assert f"make {target}" in text


def test_every_test_that_is_named_as_proof_exists() -> None:
    named = {found for text in _texts().values() for found in _TEST.findall(text)}
    assert named
    for file, function in sorted(named):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in functions, f"{file} has no test {function}"


def test_every_statement_about_security_names_its_proof() -> None:
    text = (DOCS / "explanation" / "security.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| Statement"))
    ]
    assert len(rows) > 10
    for row in rows:
        assert _TEST.search(row), f"no proof for: {row}"


@pytest.fixture
def releases() -> list[dict[str, object]]:
    read: list[dict[str, object]] = tomllib.loads((ROOT / "releases.toml").read_text(encoding="utf-8"))["release"]
    return read


def test_the_newest_release_is_the_version_of_the_project(releases: list[dict[str, object]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert releases[0]["version"] == project["version"]


def test_releases_and_change_log_agree(releases: list[dict[str, object]]) -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)
    assert headings == [(release["version"], str(release["date"])) for release in releases]


def test_every_release_has_its_commit(releases: list[dict[str, object]]) -> None:
    for place, release in enumerate(releases):
        commit = release.get("commit")
        assert (commit is None and place == 0) or re.fullmatch(r"[0-9a-f]{40}", str(commit)), release
