"""Each image does what it is for, as a user that is not root; and its bill of materials names what it was locked to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.lab import images

# They are built with the lab's buildah.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

LIMITS_MB = {"base": 800, "gpu": 3500, "hub": 800, "postgres": 500, "proxy": 400, "quantum": 1600, "vscode": 1500}
"""Larger ones are made by mistake: a cache, a compiler."""

LOGIN = "env -u PATH bash -lc 'python -c \"print(6 * 7)\"'"
"""As the terminals of JupyterLab and VS Code do."""


def program(name: str) -> str:
    """A command that runs one of our programs in an image's Python."""
    text = (Path(__file__).parent / "programs" / f"{name}.py").read_text()
    return f"python - <<'END OF PROGRAM'\n{text}\nEND OF PROGRAM"


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
    "gpu": [
        (program("gpu"), "all found$"),
        ("jupyter lab --version", r"4\.\d+"),
        (LOGIN, "42"),
    ],
    "postgres": [
        ("PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) postgres --version", r"postgres \(PostgreSQL\) 1[5-9]")
    ],
    "quantum": [
        (program("quantum"), "all counted$"),
        ("jupyter lab --version", r"4\.\d+"),
        (LOGIN, "42"),
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
def test_its_bill_of_materials(name: str) -> None:
    content = images.content(name)
    megabytes = content.archive_bytes / 1e6
    print(f"{content.reference}: {megabytes:.0f} MB")
    assert megabytes < LIMITS_MB[name]
    parts = json.loads(content.bill.read_text())["components"]
    assert "libc6" in {part["name"] for part in parts}
    found = {part["name"]: part["version"] for part in parts if part["purl"].startswith("pkg:pypi/")}
    locked = images.SOURCES / name / "requirements.txt"
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", locked.read_text() if locked.exists() else "", re.MULTILINE)
    wanted = {one for one, _ in pins}  # some with a version for each Python
    both = wanted & set(found)
    assert {(one, found[one]) for one in both} <= set(pins)
    if name in ("base", "gpu", "hub", "quantum"):
        assert len(both) > 0.8 * len(wanted)
        assert "setuptools" not in found or name != "hub"
