"""One copy as one file: a compressed tar whose first member says what is in it, with a checksum for each.

It holds secrets, and is readable by its owner only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.backup.problem import BackupError

__all__ = ["FORMAT", "Manifest", "Member", "described", "manifest_of", "pack", "unpack"]

FORMAT = 1
"""Raised when older versions could not read the file any more."""

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 10_000_000
_PIECE = 1 << 20


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Model):
    """One file of a copy: its size in bytes and SHA-256 in hexadecimal digits."""

    path: str = Field(pattern=r"^[^/\x00-\x1f][^\x00-\x1f]{0,500}$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Model):
    """What a copy is of. `databases` says the kind of each, `revision` the version of Armillary's tables; `made_at` in
    UTC (RFC 3339)."""

    format: int
    version: str
    made_at: str
    public_url: str
    engine: str
    databases: Mapping[str, str]
    revision: str
    files: tuple[Member, ...]


def pack(folder: Path, target: Path, manifest: Manifest) -> None:
    """Write the files of this folder, which the manifest names, into a new archive; it is durable when this returns.

    Raises
    ------
    OSError
        It could not be written; nothing is left of it.
    """
    draft = target.with_name(f".{target.name}.partial")
    draft.unlink(missing_ok=True)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
                text = manifest.model_dump_json(indent=1).encode()
                archive.addfile(_plain(_MANIFEST, len(text)), io.BytesIO(text))
                for member in manifest.files:
                    with (folder / member.path).open("rb") as content:
                        archive.addfile(_plain(member.path, member.size), content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def described(folder: Path) -> tuple[Member, ...]:
    """Return every file below this folder, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple(
        Member(path=str(PurePosixPath(file.relative_to(folder))), size=file.stat().st_size, sha256=_sum_of(file))
        for file in files
    )


def manifest_of(archive: Path) -> Manifest:
    """Return what a copy says about itself; what is in it is not looked at.

    Raises
    ------
    BackupError
        It is no copy, or one of a newer Armillary.
    OSError
        It cannot be read.
    """
    with _opened(archive) as opened:
        return _manifest(opened, archive)


def unpack(archive: Path, folder: Path | None) -> Manifest:
    """Check a copy from end to end and write its files below an empty folder; None: check only.

    Raises
    ------
    BackupError
        It is no copy, damaged, or holds what it does not name.
    OSError
        It cannot be read, or the folder not written.
    """
    with _opened(archive) as opened:
        manifest = _manifest(opened, archive)
        missing = {member.path: member for member in manifest.files}
        for found in opened:
            if found.name == _MANIFEST:
                continue
            member = missing.pop(found.name, None)
            content = opened.extractfile(found) if found.isreg() else None
            if member is None or content is None or ".." in PurePosixPath(found.name).parts:
                raise BackupError(f"{archive} holds {found.name!r}, which does not belong there")
            if (found.size, _taken_out(content, None if folder is None else folder / member.path)) != (
                member.size,
                member.sha256,
            ):
                raise BackupError(f"{archive} is damaged: {member.path} is not what was copied")
        if missing:
            raise BackupError(f"{archive} is damaged: {sorted(missing)[0]} is missing")
        return manifest


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, mode="r:gz") as opened:
            yield opened
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BackupError(f"{archive} is no copy of an installation, or damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise BackupError(f"{archive} is no copy of an installation, or damaged: {error}") from error  # gzip's own


def _manifest(opened: tarfile.TarFile, archive: Path) -> Manifest:
    first = opened.next()
    content = opened.extractfile(first) if first is not None and first.isreg() else None
    if first is None or content is None or first.name != _MANIFEST or first.size > _LARGEST_MANIFEST:
        raise BackupError(f"{archive} is no copy of an installation: it does not begin with {_MANIFEST}")
    try:
        said = json.loads(content.read())
        if isinstance(said, dict) and isinstance(said.get("format"), int) and said["format"] > FORMAT:
            raise BackupError(f"{archive} was made by a newer Armillary ({said.get('version')}); use that one")
        return Manifest.model_validate(said)
    except (ValueError, ValidationError) as error:
        raise BackupError(f"{archive} is no copy of an installation: {_MANIFEST} cannot be read") from error


def _plain(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _taken_out(content: IO[bytes], target: Path | None) -> str:
    sum_ = hashlib.sha256()
    if target is None:
        while piece := content.read(_PIECE):
            sum_.update(piece)
        return sum_.hexdigest()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        while piece := content.read(_PIECE):
            sum_.update(piece)
            file.write(piece)
    return sum_.hexdigest()


def _sum_of(file: Path) -> str:
    with file.open("rb") as content:
        return _taken_out(content, None)
