"""What an image of the lab is built from, and what it is known by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lab import images
from tests.lab.errors import LabError


class NoNode(Exception):
    """Why the extension cannot be built."""


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A program that builds the extension, which a test may change."""
    wheel = tmp_path / "armillary_lab-1-py3-none-any.whl"
    wheel.write_bytes(b"ours")
    made = SimpleNamespace(key=lambda: "first", wheel=lambda: wheel, Problem=NoNode)
    monkeypatch.setattr(images, "_labextension", lambda: made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image that takes wheels, in which somebody has left one."""
    folder = tmp_path / "image"
    (folder / "wheels").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM x\n")
    (folder / "wheels" / "README.md").write_text("wheels\n")
    (folder / "wheels" / "old.whl").write_bytes(b"old")
    return folder


def test_an_image_that_takes_wheels_is_another_when_the_extension_is(extension: SimpleNamespace, folder: Path) -> None:
    before = images._digest(folder)
    (folder / "wheels" / "old.whl").write_bytes(b"older")
    assert images._digest(folder) == before
    extension.key = lambda: "second"
    assert images._digest(folder) != before


def test_an_image_without_wheels_has_nothing_to_do_with_the_extension(extension: SimpleNamespace, folder: Path) -> None:
    for left in (folder / "wheels").iterdir():
        left.unlink()
    (folder / "wheels").rmdir()
    before = images._digest(folder)
    extension.key = lambda: "second"
    assert images._digest(folder) == before
    with images._context(folder) as context:
        assert context == folder


def test_the_wheel_that_was_built_is_the_only_one_in_the_context(extension: SimpleNamespace, folder: Path) -> None:
    (folder / "Dockerfile").chmod(0o755)
    with images._context(folder) as context:
        found = {path.relative_to(context).as_posix() for path in context.rglob("*") if path.is_file()}
        assert found == {"Dockerfile", "wheels/README.md", "wheels/armillary_lab-1-py3-none-any.whl"}
        assert (context / "Dockerfile").stat().st_mode & 0o100
        assert (context / "wheels" / "armillary_lab-1-py3-none-any.whl").read_bytes() == b"ours"
    assert not context.exists()
    assert (folder / "wheels" / "old.whl").exists()


def test_an_extension_that_cannot_be_built_is_said(extension: SimpleNamespace, folder: Path) -> None:
    def fail() -> Path:
        raise NoNode("Node 20 or newer is needed")

    extension.wheel = fail
    with pytest.raises(LabError, match="the JupyterLab extension cannot be built: Node 20"), images._context(folder):
        pass


def test_the_base_image_takes_wheels() -> None:
    assert (images.SOURCES / "base" / "wheels" / "README.md").is_file()
