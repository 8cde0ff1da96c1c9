"""Bills of materials: what is in an image after all its layers, and nothing that a later one removed."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.lab.images import program

STATUS = """\
Package: bash
Status: install ok installed
Version: 5.2.15-2+b7

Package: gone
Status: deinstall ok config-files
Version: 1

"""
LIBRARY = "opt/armillary/lib/python3.11/site-packages"
METADATA = "Metadata-Version: 2.4\nName: {}\nVersion: {}\n{}\n\nText that says Name: wrong\n"
NODE = "srv/node_modules"


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    found: ModuleType = program().sbom()
    return found


def tar(files: Mapping[str, str | bytes]) -> bytes:
    """An archive with these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def image(folder: Path, *layers: Mapping[str, str]) -> Path:
    """An archive of an image with these layers, as `docker save` writes it."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": names}])
    content: dict[str, str | bytes] = {
        "manifest.json": manifest,
        **{name: tar(layer) for name, layer in zip(names, layers, strict=True)},
    }
    file = folder / "image.tar"
    file.write_bytes(tar(content))
    return file


def names(sbom: ModuleType, archive: Path) -> list[str]:
    return [f"{one.kind}:{one.name}@{one.version} {one.licence}".strip() for one in sbom.packages(archive)]


def test_packages_of_debian_python_and_node_are_found(sbom: ModuleType, tmp_path: Path) -> None:
    archive = image(
        tmp_path,
        {"./var/lib/dpkg/status": STATUS},
        {
            f"{LIBRARY}/Jupyter_Hub-6.1.1.dist-info/METADATA": METADATA.format(
                "Jupyter_Hub", "6.1.1", "License-Expression: BSD-3-Clause"
            ),
            f"{LIBRARY}/old-1.dist-info/METADATA": METADATA.format("old", "1", "License: MIT\n  and more lines"),
            f"{LIBRARY}/broken-1.dist-info/METADATA": "no headers",
            f"{NODE}/@scope/part/package.json": '{"name": "@scope/part", "version": "2.0.0", "license": "MIT"}',
            f"{NODE}/@scope/part/test/package.json": '{"name": "a-test", "version": "0.0.0"}',
            f"{NODE}/part/package.json": "not json",
            "srv/package.json": '{"name": "not-installed", "version": "1.0.0"}',
        },
    )
    assert names(sbom, archive) == [
        "deb:bash@5.2.15-2+b7",
        "npm:@scope/part@2.0.0 MIT",
        "pypi:jupyter-hub@6.1.1 BSD-3-Clause",
        "pypi:old@1 MIT",
    ]


def test_what_a_later_layer_removes_or_replaces_is_not_there(sbom: ModuleType, tmp_path: Path) -> None:
    def metadata(name: str, version: str) -> dict[str, str]:
        return {f"{LIBRARY}/{name}-{version}.dist-info/METADATA": METADATA.format(name, version, "")}

    archive = image(
        tmp_path,
        {"var/lib/dpkg/status": STATUS, **metadata("one", "1"), **metadata("two", "1"), **metadata("three", "1")},
        {f"{LIBRARY}/.wh.one-1.dist-info": "", **metadata("one", "2")},
        {f"{LIBRARY}/two-1.dist-info/.wh..wh..opq": "", "var/lib/dpkg/status": STATUS.replace("bash", "dash")},
    )
    assert names(sbom, archive) == ["deb:dash@5.2.15-2+b7", "pypi:one@2", "pypi:three@1"]


def test_the_file_is_what_the_format_says(sbom: ModuleType, tmp_path: Path) -> None:
    library = {f"{LIBRARY}/one-1.dist-info/METADATA": METADATA.format("one", "1", "License: any text")}
    archive = image(tmp_path, {"var/lib/dpkg/status": STATUS}, library)
    assert sbom.write(archive, "localhost/armillary/hub", "abc", tmp_path / "dist" / "hub.cdx.json") == 2

    text = (tmp_path / "dist" / "hub.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    said = json.loads(text)
    assert said["metadata"]["component"]["name"] == "localhost/armillary/hub"
    assert {part["purl"] for part in said["components"]} == {"pkg:deb/debian/bash@5.2.15-2%2Bb7", "pkg:pypi/one@1"}


@pytest.mark.parametrize("content", [b"", b"no archive", tar({"other": "x"})], ids=["empty", "text", "other"])
def test_what_is_no_image_is_said(sbom: ModuleType, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.tar is no archive of an image"):
        sbom.packages(tmp_path / "file.tar")
