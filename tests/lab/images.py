"""Images from `images/`, built on a Debian of our own (no registry is needed) and kept as archives in the cache.

`images/build.py` builds them, as it does for an operator. An image's tag is made from what it is built from, so that it
is built again when that has changed and only then.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.lab import build, cache, packages
from tests.lab.errors import LabError, LabUnavailable

SOURCES = Path(__file__).resolve().parents[2] / "images"
_DEBIAN = "debian-bookworm-1"
_REPOSITORY = "localhost/armillary"
_BASE = f"{_REPOSITORY}/debian:{_DEBIAN}"
_ARCHIVE = "image.tar"
_BILL = "bill.json"
_SIZE = "bytes"
_LARGE = ("gpu", "quantum")
"""Run in buildah only: an archive of each change of them would fill the cache, and no test needs them in the cluster."""


@once
def program() -> ModuleType:
    """The program that builds the images; it is no part of a package."""
    spec = importlib.util.spec_from_file_location("armillary_images_build", SOURCES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        shown = " ".join(str(part) for part in command[:8])
        raise LabError(f"`{shown} …` failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _make_debian(into: Path) -> None:
    unneeded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "info", "locale", "lintian")]
    documents = ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    _run(
        "mmdebstrap",
        "--variant=minbase",
        "--include=ca-certificates",
        *unneeded,
        *documents,
        "bookworm",
        into / "root.tar",
    )
    (into / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["bash"]\n')


def _debian() -> Path:
    """Build context of the Debian that every image starts from."""
    return cache.entry(_DEBIAN, _make_debian, "making a Debian for images, about a minute, once")


@contextmanager
def _buildah() -> Iterator[Any]:
    """A builder; its layers are kept in the cache, its mounts are not."""
    if os.geteuid() != 0:
        raise LabUnavailable("Images are built as root; run the tests as root, or without the cluster tier.")
    packages.install(packages.IMAGES)
    root = cache.root() / "buildah"
    with cache.locked("buildah"), tempfile.TemporaryDirectory(prefix="armillary-buildah-") as run:
        try:
            yield program().Builder(("buildah", "--root", str(root), "--runroot", run, "--storage-driver", "overlay"))
        finally:
            for point in _mounts_below(root, Path(run)):
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _mounts_below(*folders: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if any(Path(point).is_relative_to(folder) for folder in folders)]


def _make_image(name: str, tag: str, into: Path) -> None:
    with _buildah() as builder:
        _built(builder, name, tag)
        builder.save(tag, into / _ARCHIVE)


def _built(builder: Any, name: str, tag: str) -> None:
    """Build an image, and before it what it is built on."""
    if builder.has(tag):
        return
    cache.say(f"building image {name}, some minutes, once for each change of images/{name}")
    images = program()
    image = images.images()[name]
    if image.parent is None:
        base = _BASE
        if not builder.has(base):
            builder.build(_debian(), base, None)
    else:
        base = _reference(image.parent)
        _built(builder, image.parent, base)
    try:
        with images.context(image) as context:
            builder.build(context, tag, base, images.labels_of(image, tag.rpartition(":")[2], base))
    except images.Problem as problem:
        raise LabError(str(problem)) from problem


def _make_pause(tag: str, into: Path) -> None:
    made = build.pause()
    with _buildah() as builder, tempfile.TemporaryDirectory() as context:
        shutil.copy(made / "pause", context)
        Path(context, "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
        builder.build(Path(context), tag, None)
        builder.save(tag, into / _ARCHIVE)


def _reference(name: str) -> str:
    images = program()
    return f"{_REPOSITORY}/{name}:{images.tag_of(images.images()[name], _DEBIAN)}"


def names() -> list[str]:
    """The images that can be built: folders of `images/` with a Dockerfile."""
    return sorted(program().images())


def archived() -> list[str]:
    """Those that are kept as archives, for the cluster."""
    return [name for name in names() if name not in _LARGE]


def archive(name: str) -> tuple[str, Path]:
    """The image's full reference and its archive (Docker's format), built when needed.

    Raises:
        LabError: there is no such image, or its build failed.
    """
    if name not in names():
        raise LabError(f"there is no images/{name}/Dockerfile; images are: {', '.join(names())}")
    tag = _reference(name)
    digest = tag.rpartition(":")[2]
    notice = f"making an archive of image {name}"
    return tag, cache.entry(f"image-{name}-{digest}", partial(_make_image, name, tag), notice) / _ARCHIVE


@dataclass(frozen=True)
class Content:
    """What is in an image: its reference, the size of its archive, its bill of materials."""

    reference: str
    archive_bytes: int
    bill: Path


def content(name: str) -> Content:
    """What is in an image, built when needed; looked up once for each change of it and of the program that looks.

    Raises:
        LabError: its build failed.
    """
    tag = _reference(name)
    looks = hashlib.sha256((SOURCES / "sbom.py").read_bytes()).hexdigest()[:8]
    entry = f"bill-{name}-{tag.rpartition(':')[2]}-{looks}"
    found = cache.entry(entry, partial(_make_bill, name, tag), f"looking up what is in image {name}")
    return Content(tag, int((found / _SIZE).read_text()), found / _BILL)


def _make_bill(name: str, tag: str, into: Path) -> None:
    if name in _LARGE:
        file = into / _ARCHIVE
        with _buildah() as builder:
            _built(builder, name, tag)
            builder.save(tag, file)
    else:
        _, file = archive(name)
    program().sbom().write(file, tag, "", into / _BILL)
    (into / _SIZE).write_text(str(file.stat().st_size))
    if name in _LARGE:
        file.unlink()


def run_in(name: str, *commands: str) -> list[str]:
    """What shell commands print in a container of `images/<name>`, as the user that the image names, without a network.

    Raises:
        LabError: one failed.
    """
    tag = _reference(name)
    with _buildah() as builder:
        _built(builder, name, tag)
        container = _run(*builder.command, "from", "--pull-never", tag).strip()
        try:
            start = ("unshare", "--net", *builder.command, "run", "--isolation=chroot", container, "--", "sh", "-c")
            return [_run(*start, command).strip() for command in commands]
        finally:
            _run(*builder.command, "rm", container)


def pause_archive() -> tuple[str, Path]:
    """Reference and archive of the image that holds a pod's namespaces."""
    tag = f"{_REPOSITORY}/pause:1"
    return tag, cache.entry("image-pause-1", partial(_make_pause, tag), "building the pause image") / _ARCHIVE
