"""What is in an image: a bill of materials in CycloneDX's JSON (ECMA-424), made from the image's archive.

    python images/sbom.py ARCHIVE FILE

Reads what `docker save` and `buildah push … docker-archive:` write, layer by layer, and runs nothing of it. Found are
packages of Debian (its database), of Python (their metadata) and of Node (their manifests), each with version, licence
and package URL. A package that a later layer removes is not listed.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

__all__ = ["Package", "packages", "write"]

_DPKG = PurePosixPath("var/lib/dpkg/status")
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, order=True)
class Package:
    """One package: `kind` is a package URL's type (`deb`, `pypi`, `npm`)."""

    kind: str
    name: str
    version: str
    licence: str = ""


def packages(archive: Path) -> list[Package]:
    """Return the packages of an image, sorted.

    Raises
    ------
    ValueError
        It is no archive of one image.
    """
    found: dict[PurePosixPath, list[Package]] = {}
    try:
        with tarfile.open(archive) as image:
            for layer in _layers(image):
                file = image.extractfile(layer)
                assert file is not None
                with tarfile.open(fileobj=file) as content:
                    _apply(content, found)
    except (tarfile.TarError, KeyError) as error:
        raise ValueError(f"{archive} is no archive of an image, as `docker save` writes one: {error}") from error
    return sorted({package for some in found.values() for package in some})


def write(archive: Path, name: str, version: str, file: Path) -> int:
    """Write the bill of materials of an image; returns how many packages it lists."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    bom = Bom()
    bom.metadata.component = image = Component(name=name, version=version, type=ComponentType.CONTAINER)
    parts = []
    for package in packages(archive):
        space, _, plain = package.name.rpartition("/")
        space = "debian" if package.kind == "deb" else space
        url = PackageURL(package.kind, space or None, plain, package.version)
        licences = [DisjunctiveLicense(name=package.licence)] if package.licence else []
        parts.append(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                purl=url,
                licenses=licences,
                bom_ref=url.to_string(),
            )
        )
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(image, parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(JsonV1Dot6(bom).output_as_string(indent=1), encoding="utf-8")
    return len(parts)


def _layers(image: tarfile.TarFile) -> list[str]:
    manifest = image.extractfile("manifest.json")
    assert manifest is not None
    [said] = json.load(manifest)
    return [str(layer) for layer in said["Layers"]]


def _apply(layer: tarfile.TarFile, found: dict[PurePosixPath, list[Package]]) -> None:
    """Note what a layer adds, and forget what it removes or replaces (OCI image specification, "Layer")."""
    added: dict[PurePosixPath, list[Package]] = {}
    for member in layer:
        path = PurePosixPath(member.name.removeprefix("./"))
        if path.name == _OPAQUE:
            _forget(found, path.parent)
        elif path.name.startswith(_WHITEOUT):
            _forget(found, path.with_name(path.name.removeprefix(_WHITEOUT)))
        elif member.isfile() and (read := _reader(path)) is not None:
            file = layer.extractfile(member)
            assert file is not None
            added[path] = list(read(file.read().decode("utf-8", "replace")))
    found.update(added)


def _forget(found: dict[PurePosixPath, list[Package]], gone: PurePosixPath) -> None:
    for path in [path for path in found if path == gone or gone in path.parents]:
        del found[path]


def _reader(path: PurePosixPath) -> Callable[[str], Iterable[Package]] | None:
    if path == _DPKG:
        return _debian
    if path.name == "METADATA" and path.parent.suffix == ".dist-info":
        return _python
    if path.name == "package.json" and "node_modules" in path.parts and _is_package(path):
        return _node
    return None


def _is_package(path: PurePosixPath) -> bool:
    """Whether a manifest is a package's own: directly in a folder of node_modules, or of a scope there."""
    above = path.parent.parent
    return above.name == "node_modules" or (above.name.startswith("@") and above.parent.name == "node_modules")


def _debian(text: str) -> Iterator[Package]:
    for block in re.split(r"\n\n+", text):
        said = dict(re.findall(r"^(Package|Status|Version): (.*)$", block, re.MULTILINE))
        if said.get("Status", "").endswith(" installed"):
            yield Package("deb", said["Package"], said["Version"])


def _python(text: str) -> Iterable[Package]:
    said = HeaderParser().parsestr(text)
    name, version = said.get("Name"), said.get("Version")
    if not name or not version:
        return []
    licence = said.get("License-Expression") or said.get("License") or ""
    first = licence.strip().splitlines()[0] if licence.strip() else ""
    return [Package("pypi", re.sub(r"[-_.]+", "-", name).lower(), version, first[:100])]


def _node(text: str) -> Iterable[Package]:
    try:
        said = json.loads(text)
    except ValueError:
        return []
    if not isinstance(said, dict) or not isinstance(said.get("name"), str) or not isinstance(said.get("version"), str):
        return []
    licence = said.get("license")
    return [Package("npm", said["name"], said["version"], licence if isinstance(licence, str) else "")]


def main(arguments: list[str]) -> int:
    """Write what the command line names; returns the exit status."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    archive, file = Path(arguments[0]), Path(arguments[1])
    try:
        number = write(archive, archive.stem, "", file)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{file}: {number} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
