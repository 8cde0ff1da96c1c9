"""Build the images of this folder, with buildah or docker, in the order in which they need each other.

    python images/build.py                             all, named localhost/armillary/NAME:TAG
    python images/build.py hub base --name registry.example.org/armillary --push
    python images/build.py --sbom dist                 and write what is in each: dist/NAME.cdx.json
    python images/build.py --list                      which there are, with their tags; builds nothing
    python images/build.py --base debian:bookworm-slim@sha256:… --builder docker
    python images/build.py gpu --build-arg PYTORCH=yes what a Dockerfile declares with ARG

A tag is made from what the image is built from: the same sources, base and arguments, the same tag; what is there
already is not built again. An image whose Dockerfile begins with `ARG BASE_IMAGE=localhost/armillary/X` is built on our
image X, all others on `--base`.

Package indexes are those of this machine's pip and npm: their settings and the file of authorities are mounted for the
build only (buildah), and nothing of them stays in an image. With docker name a mirror in docker's own settings.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NAME = "localhost/armillary"
BASE = "debian:bookworm-slim"
SOURCE = "https://armillary.example.org/"

_PARENT = re.compile(rf"^ARG BASE_IMAGE={re.escape(NAME)}/([a-z0-9-]+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ARG ([A-Z_]+)", re.MULTILINE)
_WHEELS = "wheels"
_PACKAGES = ("profiles", "spawner", "hub")
_OWN_FILES = ("pyproject.toml", "jupyterhub_config.py", "README.md", "LICENSE")
# Where the builder's machine tells a build how to reach package indexes.
_MOUNTED = "/run/armillary-build"
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Arguments that this program gives by itself.
_OURS = ("BASE_IMAGE", "PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG", "NODE_EXTRA_CA_CERTS")
_NONE: Mapping[str, str] = MappingProxyType({})


class Problem(Exception):
    """Why an image cannot be built, and what to do."""


@dataclass(frozen=True)
class Image:
    """One image: its folder, and the image of ours that it is built on; None: a base from elsewhere."""

    name: str
    folder: Path
    parent: str | None


def images() -> dict[str, Image]:
    """Return every image, those first that others are built on."""
    found = {}
    for file in sorted(HERE.glob("*/Dockerfile")):
        parent = _PARENT.search(file.read_text(encoding="utf-8"))
        found[file.parent.name] = Image(file.parent.name, file.parent, parent[1] if parent else None)
    ordered: dict[str, Image] = {}

    def add(image: Image) -> None:
        if image.parent is not None:
            add(found[image.parent])
        ordered[image.name] = image

    for image in found.values():
        add(image)
    return ordered


def arguments_of(image: Image) -> frozenset[str]:
    """Return the names of the build arguments that an image can be given."""
    return frozenset(_ARGUMENT.findall((image.folder / "Dockerfile").read_text(encoding="utf-8"))) - {*_OURS}


def tag_of(image: Image, base: str, arguments: Mapping[str, str] = _NONE) -> str:
    """Return the tag of an image that is built on this base: twelve hexadecimal digits of a hash of all its sources.

    Build arguments change the tags of those images only that declare them, and of what is built on these.
    """
    parent = None if image.parent is None else images()[image.parent]
    digest = hashlib.sha256((base if parent is None else tag_of(parent, base, arguments)).encode())
    for name, value in sorted(_own(arguments, image).items()):
        digest.update(f"\0{name}={value}".encode())
    for path in _files(image.folder):
        _note(digest, path.as_posix(), image.folder / path)
    if (image.folder / _WHEELS).is_dir():
        if image.name == "hub":
            for path in _own_sources():
                _note(digest, path.as_posix(), ROOT / path)
        else:
            digest.update(f"\0{labextension().key()}".encode())
    return digest.hexdigest()[:12]


def _own(arguments: Mapping[str, str], image: Image) -> dict[str, str]:
    """Those of the build arguments that this image declares."""
    declared = arguments_of(image) if arguments else ()
    return {name: value for name, value in arguments.items() if name in declared}


@contextmanager
def context(image: Image) -> Iterator[Path]:
    """Yield what the image is built from: its files, and our wheels where it takes wheels.

    Raises
    ------
    Problem
        A wheel cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="armillary-context-") as temporary:
        folder = Path(temporary, "context")
        for path in _files(image.folder):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(image.folder / path, folder / path)
        if (image.folder / _WHEELS).is_dir():
            if image.name == "hub":
                _own_wheel(folder / _WHEELS)
            else:
                shutil.copy(_extension(), folder / _WHEELS)
        yield folder


@dataclass(frozen=True)
class Builder:
    """The start of a command line of buildah or docker."""

    command: tuple[str, ...] = ("buildah",)

    @property
    def is_docker(self) -> bool:
        """Whether it is docker, or something that takes its words."""
        return Path(self.command[0]).name in ("docker", "podman", "nerdctl")

    def has(self, reference: str) -> bool:
        """Return whether this image is here."""
        words = ("image", "inspect") if self.is_docker else ("inspect", "--type", "image")
        return subprocess.run([*self.command, *words, reference], capture_output=True, check=False).returncode == 0

    def build(
        self,
        folder: Path,
        reference: str,
        base: str | None,
        labels: Sequence[str] = (),
        arguments: Mapping[str, str] = _NONE,
    ) -> None:
        """Build what lies in this folder; `base` None: it is built on nothing.

        Raises
        ------
        Problem
            It failed; the text has the end of what was said.
        """
        words = [f"--label={label}" for label in labels] + [f"--tag={reference}"]
        words += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        if base is not None:
            words.append(f"--build-arg=BASE_IMAGE={base}")
        if self.is_docker:
            _run([*self.command, "build", *words, str(folder)])
            return
        with _how_to_reach_indexes() as (mounted, said):
            words += [f"--volume={mounted}:{_MOUNTED}:ro", *(f"--build-arg={argument}" for argument in said)]
            _run([*self.command, "bud", "--layers", "--isolation=chroot", "--network=host", *words, str(folder)])

    def save(self, reference: str, archive: Path) -> None:
        """Write an archive of it, as `docker save` does."""
        if self.is_docker:
            _run([*self.command, "save", "--output", str(archive), reference])
        else:
            _run([*self.command, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"])

    def push(self, reference: str) -> None:
        """Send it to its registry."""
        _run([*self.command, "push", reference])


def labels_of(image: Image, tag: str, base: str) -> list[str]:
    """Return the labels of an image, by the names of OCI."""
    first = next(line for line in (image.folder / "Dockerfile").read_text(encoding="utf-8").splitlines() if line)
    said = {
        "title": f"armillary-{image.name}",
        "description": first.lstrip("# "),
        "version": _version(),
        "revision": tag,
        "licenses": "BSD-3-Clause",
        "source": SOURCE,
        "base.name": base,
    }
    return [f"org.opencontainers.image.{key}={value}" for key, value in said.items()]


@cache
def labextension() -> ModuleType:
    """The program that builds the JupyterLab extension; it lies beside images that take it, in no package."""
    return _program("armillary_labextension_build", HERE / "labextension" / "build.py")


@cache
def sbom() -> ModuleType:
    """The program that writes what is in an image."""
    return _program("armillary_images_sbom", HERE / "sbom.py")


def _program(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _extension() -> Path:
    build = labextension()
    try:
        made: Path = build.wheel()
    except build.Problem as problem:
        raise Problem(f"the JupyterLab extension cannot be built: {problem}") from problem
    return made


def _own_wheel(into: Path) -> None:
    """Build the wheel of this project; the same sources make the same file."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    with tempfile.TemporaryDirectory(prefix="armillary-sources-") as temporary:
        for path in _own_sources():
            (Path(temporary, path)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, Path(temporary, path))
        _run([*command, "--wheel-dir", str(into), temporary], SOURCE_DATE_EPOCH="1")


def _own_sources() -> list[Path]:
    found = [Path(name) for name in _OWN_FILES]
    for package in _PACKAGES:
        found += [Path(package) / path for path in _files(ROOT / package)]
    return sorted(found)


def _files(folder: Path) -> list[Path]:
    """The files of a folder, relative to it, without what was compiled or built."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts and path.suffix not in (".whl", ".pyc"))


def _note(digest: hashlib._Hash, name: str, file: Path) -> None:
    runs = file.stat().st_mode & 0o100
    digest.update(f"\0{name}\0{runs}\0{hashlib.sha256(file.read_bytes()).hexdigest()}".encode())


def _version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "0"


@contextmanager
def _how_to_reach_indexes() -> Iterator[tuple[str, list[str]]]:
    """Yield a folder to mount, and the arguments of a build that name what lies in it."""
    with tempfile.TemporaryDirectory(prefix="armillary-build-") as folder:
        Path(folder, "pip.conf").write_text(_pip_settings(), encoding="utf-8")
        Path(folder, "npmrc").write_text(_npm_settings(), encoding="utf-8")
        shutil.copy(_ca_bundle(), Path(folder, "ca.crt"))
        Path(folder).chmod(0o755)
        yield (
            folder,
            [
                f"PIP_CONFIG_FILE={_MOUNTED}/pip.conf",
                f"NPM_CONFIG_USERCONFIG={_MOUNTED}/npmrc",
                f"NODE_EXTRA_CA_CERTS={_MOUNTED}/ca.crt",
            ],
        )


def _pip_settings() -> str:
    """This machine's pip settings as a file for builds, with the file of authorities at its place there."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False).stdout
    lines = ["[global]"]
    for name, value in re.findall(r"^(?:global|install|:env:)\.(\S+?)='(.*)'$", listed, flags=re.MULTILINE):
        if name in ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries"):
            lines.append(f"{name.removeprefix('default-')} = {value}")
    lines.append(f"cert = {_MOUNTED}/ca.crt")
    settings = configparser.ConfigParser(interpolation=None, strict=False)  # what is said twice: the last one holds
    settings.read_string("\n".join(lines))
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        settings.write(file)
        file.seek(0)
        return file.read()


def _npm_settings() -> str:
    """This machine's npm settings that say where packages come from."""
    lines = [f"cafile={_MOUNTED}/ca.crt"]
    for name in ("registry", "proxy", "https-proxy"):
        value = os.environ.get(f"npm_config_{name.replace('-', '_')}") or _npm_says(name)
        if value and value not in ("null", "undefined"):
            lines.append(f"{name}={value}")
    return "\n".join(lines) + "\n"


def _npm_says(name: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        return ""
    return subprocess.run(
        [npm, "config", "get", name], capture_output=True, text=True, cwd="/", check=False
    ).stdout.strip()


def _ca_bundle() -> Path:
    named = (os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    return Path(next(filter(None, named), _CA_BUNDLE))


def _run(command: Sequence[str], **environ: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **environ}, check=False
    )
    if done.returncode:
        shown = " ".join(command[:8])
        raise Problem(f"`{shown} …` failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="images/build.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(images())}; default: all")
    parser.add_argument("--name", default=NAME, help=f"registry and path before their names (default {NAME})")
    parser.add_argument("--tag", help="another tag beside that of the sources, for instance a version")
    parser.add_argument("--base", default=BASE, help=f"the Debian that they are built on (default {BASE})")
    parser.add_argument("--builder", default="buildah", help="buildah or docker, or the path of one (default buildah)")
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="an argument that a Dockerfile declares"
    )
    parser.add_argument(
        "--sbom", type=Path, metavar="FOLDER", help="write bills of materials there (needs cyclonedx-python-lib)"
    )
    parser.add_argument("--push", action="store_true", help="send them to the registry")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    given = parser.parse_args(arguments)
    known = images()
    if unknown := set(given.images) - set(known):
        parser.error(f"no image {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    wanted = _wanted(known, given.images)
    given.arguments = dict(words.split("=", 1) for words in given.build_arg if "=" in words)
    legal = sorted({name for image in wanted for name in arguments_of(image)})
    if wrong := [words for words in given.build_arg if words.partition("=")[0] not in legal or "=" not in words]:
        parser.error(
            f"--build-arg {wrong[0]} is no NAME=VALUE of these images; names are: {', '.join(legal) or 'none'}"
        )
    builder = Builder((given.builder,))
    try:
        for image in wanted:
            reference = f"{given.name}/{image.name}:{tag_of(image, given.base, given.arguments)}"
            if not given.list:
                _make(builder, image, reference, given)
            print(reference, flush=True)
    except (Problem, FileNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _wanted(known: dict[str, Image], names: Sequence[str]) -> list[Image]:
    """Return those that are named, or all, and what they are built on."""
    needed = set(names or known)
    for image in reversed(known.values()):
        if image.name in needed and image.parent is not None:
            needed.add(image.parent)
    return [image for image in known.values() if image.name in needed]


def _make(builder: Builder, image: Image, reference: str, given: argparse.Namespace) -> None:
    base = given.base
    if image.parent is not None:
        base = f"{given.name}/{image.parent}:{tag_of(images()[image.parent], given.base, given.arguments)}"
    if not builder.has(reference):
        labels = labels_of(image, reference.rpartition(":")[2], base)
        with context(image) as folder:
            builder.build(folder, reference, base, labels, _own(given.arguments, image))
    names = [reference]
    if given.tag:
        names.append(f"{given.name}/{image.name}:{given.tag}")
        _run([*builder.command, "tag", *names])
    if given.sbom:
        with tempfile.TemporaryDirectory(prefix="armillary-sbom-") as folder:
            archive = Path(folder, "image.tar")
            builder.save(reference, archive)
            name, _, tag = reference.rpartition(":")
            sbom().write(archive, name, tag, given.sbom / f"{image.name}.cdx.json")
    if given.push:
        for name in names:
            builder.push(name)


if __name__ == "__main__":
    sys.exit(main())
