"""Each image does what it is for, as a user that is not root; and its bill of materials names what it was locked to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.lab import images

# They are built with the lab's buildah.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

LIMITS_MB = {"base": 800, "hub": 800, "postgres": 500, "proxy": 400, "vscode": 1500}
"""Larger ones are made by mistake: a cache, a compiler."""

LOGIN = "env -u PATH bash -lc 'python -c \"print(6 * 7)\"'"
"""As the terminals of JupyterLab and VS Code do."""

DOES = {
    "base": [
        ("jupyter lab --version", r"4\.\d+\.\d+"),
        ("python -c 'print(6 * 7)'", "42"),
        ("pip --version", "pip"),
        (LOGIN, "42"),
    ],
    "hub": [
        ("armillary --version", r"armillary \d"),
        ("jupyterhub --version", r"6\.\d+\.\d+"),
        ("python -c 'import hub.config, spawner.kube, profiles.loader; print(1)'", "1"),
        ("pg_dump --version", r"pg_dump \(PostgreSQL\) 1[5-9]"),
        # the configuration of Zero to JupyterHub, which may start it, wants curl's client
        ("python -c 'import tornado.curl_httpclient, yaml; print(2)'", "2"),
    ],
    "postgres": [
        ("PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) postgres --version", r"postgres \(PostgreSQL\) 1[5-9]")
    ],
    "vscode": [
        ("code-server --version", r"\b4\.\d+\.\d+ .* with Code"),
        ("jupyter lab --version", r"4\.\d+"),
        (LOGIN, "42"),
    ],
    "proxy": [("configurable-http-proxy --version", r"\d+\.\d+\.\d+")],
}


def test_every_image_is_looked_at() -> None:
    assert sorted(DOES) == sorted(LIMITS_MB) == images.names()


@pytest.mark.parametrize("name", sorted(DOES))
def test_it_does_what_it_is_for_without_root(name: str) -> None:
    does = DOES[name]
    uid, *said = images.run_in(name, "id -u", *(command for command, _ in does))
    assert uid != "0"
    for (command, expected), found in zip(does, said, strict=True):
        assert re.search(expected, found), f"{command}: {found}"


@pytest.mark.parametrize("name", sorted(DOES))
def test_its_bill_of_materials(name: str, tmp_path: Path) -> None:
    reference, archive = images.archive(name)
    megabytes = archive.stat().st_size / 1e6
    print(f"{reference}: {megabytes:.0f} MB")
    assert megabytes < LIMITS_MB[name]
    images.program().sbom().write(archive, reference, "", tmp_path / "sbom.json")
    parts = json.loads((tmp_path / "sbom.json").read_text())["components"]
    assert "libc6" in {part["name"] for part in parts}
    found = {part["name"]: part["version"] for part in parts if part["purl"].startswith("pkg:pypi/")}
    locked = images.SOURCES / name / "requirements.txt"
    wanted = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", locked.read_text() if locked.exists() else "", re.MULTILINE))
    both = set(wanted) & set(found)
    assert {one: found[one] for one in both} == {one: wanted[one] for one in both}
    if name in ("base", "hub"):
        assert len(both) > 0.8 * len(wanted)
        assert "setuptools" not in found or name != "hub"
