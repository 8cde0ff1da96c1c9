"""Images from `images/`, built on a Debian of our own (no registry is needed) and kept as archives in the cache.

An image's tag is made from what it is built from, so that it is built again when that has changed and only then.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as once
from functools import partial
from pathlib import Path
from types import ModuleType

from tests.lab import build, cache, packages
from tests.lab.errors import LabError, LabUnavailable

SOURCES = Path(__file__).resolve().parents[2] / "images"
_DEBIAN = "debian-bookworm-1"
_REPOSITORY = "localhost/armillary"
_ARCHIVE = "image.tar"
_WHEELS = "wheels"
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Where the builder's machine tells a build how to reach package indexes; nothing of it stays in an image.
_BUILD_FOLDER = "/run/armillary-build"


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
def _buildah() -> Iterator[list[str | Path]]:
    """The start of a buildah command line; its layers are kept in the cache, its mounts are not."""
    if os.geteuid() != 0:
        raise LabUnavailable("Images are built as root; run the tests as root, or without the cluster tier.")
    packages.install(packages.IMAGES)
    root = cache.root() / "buildah"
    with cache.locked("buildah"), tempfile.TemporaryDirectory(prefix="armillary-buildah-") as run:
        try:
            yield ["buildah", "--root", root, "--runroot", run, "--storage-driver", "overlay"]
        finally:
            for point in _mounts_below(root, Path(run)):
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _mounts_below(*folders: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if any(Path(point).is_relative_to(folder) for folder in folders)]


def _pip_settings() -> str:
    """This machine's pip settings as a file for builds, with the CA bundle at its place there."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    ).stdout
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {}
    for name, value in re.findall(r"^(?:global|install|:env:)\.(\S+?)='(.*)'$", listed, flags=re.MULTILINE):
        if name in ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries"):
            settings["global"][name.removeprefix("default-")] = value
    settings["global"]["cert"] = f"{_BUILD_FOLDER}/ca.crt"
    with tempfile.TemporaryFile("w+") as file:
        settings.write(file)
        file.seek(0)
        return file.read()


def _ca_bundle() -> Path:
    named = (os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    return Path(next(filter(None, named), _CA_BUNDLE))


def _build(buildah: list[str | Path], context: Path, tag: str, base: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="armillary-build-") as folder:
        Path(folder, "pip.conf").write_text(_pip_settings())
        shutil.copy(_ca_bundle(), Path(folder, "ca.crt"))
        Path(folder).chmod(0o755)
        arguments = [f"--build-arg=PIP_CONFIG_FILE={_BUILD_FOLDER}/pip.conf"]
        if base is not None:
            arguments.append(f"--build-arg=BASE_IMAGE={base}")
        _run(
            *buildah,
            "bud",
            "--layers",
            "--isolation=chroot",
            "--network=host",
            "--pull-never",
            f"--volume={folder}:{_BUILD_FOLDER}:ro",
            *arguments,
            f"--tag={tag}",
            context,
        )


def _has(buildah: list[str | Path], tag: str) -> bool:
    command = [str(part) for part in (*buildah, "inspect", "--type", "image", tag)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _save(buildah: list[str | Path], tag: str, archive: Path) -> None:
    # Docker's archive format is the one whose layers stay uncompressed: both ends are faster on this one machine.
    _run(*buildah, "push", "--quiet", tag, f"docker-archive:{archive}:{tag}")


def _make_image(name: str, tag: str, into: Path) -> None:
    debian = f"{_REPOSITORY}/debian:{_DEBIAN}"
    with _buildah() as buildah:
        if not _has(buildah, debian):
            _build(buildah, _debian(), debian, None)
        with _context(SOURCES / name) as context:
            _build(buildah, context, tag, debian)
        _save(buildah, tag, into / _ARCHIVE)


@once
def _labextension() -> ModuleType:
    """The program that builds the JupyterLab extension; it lies beside images that take it, in no package."""
    spec = importlib.util.spec_from_file_location("armillary_labextension_build", SOURCES / "labextension" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _context(folder: Path) -> Iterator[Path]:
    """What the image is built from: its files, and the extension's wheel where it takes wheels."""
    if not (folder / _WHEELS).is_dir():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="armillary-context-") as temporary:
        context = Path(temporary, "context")
        for path in _files(folder):
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / path, context / path)
        shutil.copy(_wheel(), context / _WHEELS)
        yield context


def _wheel() -> Path:
    build = _labextension()
    try:
        made: Path = build.wheel()
    except build.Problem as problem:
        raise LabError(f"the JupyterLab extension cannot be built: {problem}") from problem
    return made


def _make_pause(tag: str, into: Path) -> None:
    program = build.pause()
    with _buildah() as buildah, tempfile.TemporaryDirectory() as context:
        shutil.copy(program / "pause", context)
        Path(context, "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
        _build(buildah, Path(context), tag, None)
        _save(buildah, tag, into / _ARCHIVE)


def _digest(folder: Path) -> str:
    """A short hash of the folder's files (names, whether they can be run, contents) and of the extension's sources."""
    digest = hashlib.sha256(_DEBIAN.encode())
    for path in _files(folder):
        runs = (folder / path).stat().st_mode & 0o100
        content = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        digest.update(f"\0{path.as_posix()}\0{runs}\0{content}".encode())
    if (folder / _WHEELS).is_dir():
        digest.update(f"\0{_labextension().key()}".encode())
    return digest.hexdigest()[:12]


def _files(folder: Path) -> list[Path]:
    """The image's files, relative to its folder; of the wheels only ours is taken, from where it is built."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts and path.suffix != ".whl")


def names() -> list[str]:
    """The images that can be built: folders of `images/` with a Dockerfile."""
    return sorted(path.parent.name for path in SOURCES.glob("*/Dockerfile"))


def archive(name: str) -> tuple[str, Path]:
    """The image's full reference and its archive (Docker's format), built when needed.

    Raises:
        LabError: there is no such image, or its build failed.
    """
    if name not in names():
        raise LabError(f"there is no images/{name}/Dockerfile; images are: {', '.join(names())}")
    digest = _digest(SOURCES / name)
    tag = f"{_REPOSITORY}/{name}:{digest}"
    notice = f"building image {name}, about two minutes, once for each change of images/{name}"
    return tag, cache.entry(f"image-{name}-{digest}", partial(_make_image, name, tag), notice) / _ARCHIVE


def pause_archive() -> tuple[str, Path]:
    """Reference and archive of the image that holds a pod's namespaces."""
    tag = f"{_REPOSITORY}/pause:1"
    return tag, cache.entry("image-pause-1", partial(_make_pause, tag), "building the pause image") / _ARCHIVE
