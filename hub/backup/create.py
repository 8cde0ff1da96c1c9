"""Make a copy of an installation, while it runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from hub.backup import archive
from hub.backup.archive import FORMAT, Manifest, Member
from hub.backup.contents import ARMILLARY, Contents, contents
from hub.backup.databases import copy_sqlite, is_sqlite, save
from hub.backup.problem import BackupError
from hub.db.engine import connect
from hub.db.upgrade import revision_of
from hub.launch.secrets import private_folder
from hub.settings import Settings

__all__ = ["Copy", "create", "every", "folder_of", "members_below", "staged_name", "sweep"]

_SUFFIX = ".tar.gz"
_PREFIX = "armillary-"
_STAGED = ".making-"
_LEFT_AFTER_S = 86_400.0
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Copy:
    """One copy that was found; `manifest` is None where the file is none, and `problem` says why."""

    file: Path
    size: int
    manifest: Manifest | None
    problem: str = ""


def folder_of(settings: Settings) -> Path:
    """Return where copies lie if nothing else is said."""
    return settings.paths.backups.absolute()


def create(settings: Settings, settings_file: Path | None, into: Path, *, keep: int | None = None) -> Path:
    """Make a copy, check it, and return its file; afterwards remove older ones of the folder than the newest `keep`.

    The two databases are copied one after the other, each as it is at one moment; what happened in between is what the
    reconciler mends after a restore, as after a crash.

    Raises
    ------
    BackupError, hub.db.address.AddressError, hub.secret.ConfigError, OSError
        There is no copy; older ones are untouched.
    """
    parts = contents(settings, settings_file)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    made_at = datetime.now(UTC)
    sweep(into, _STAGED)
    with tempfile.TemporaryDirectory(prefix=_STAGED, dir=into) as made:
        staged = private_folder(Path(made) / "copy")
        _collect(parts, staged)
        manifest = Manifest(
            format=FORMAT,
            version=_version(),
            made_at=made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            public_url=settings.public_url,
            engine=settings.engine,
            databases={database.name: database.kind for database in parts.databases},
            revision=_revision(parts),
            files=archive.described(staged),
        )
        # The moment to the microsecond: names tell the order, also of copies of the same second.
        target = into / f"{_PREFIX}{made_at:%Y%m%dT%H%M%S.%fZ}{_SUFFIX}"
        archive.pack(staged, target, manifest)
    try:
        archive.unpack(target, None)
    except BackupError:
        target.unlink()
        raise
    for old in _beyond(into, keep):
        old.unlink(missing_ok=True)
    return target


def every(folder: Path) -> list[Copy]:
    """Return the copies in this folder, the oldest first."""
    return [_looked_at(file) for file in _files(folder)]


def sweep(folder: Path, prefix: str) -> None:
    """Remove what was left, secrets and all, by somebody who was killed: folders of this name, older than a day."""
    for left in folder.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)


def staged_name(name: str, kind: str) -> str:
    """Return where a database lies in a copy."""
    return f"databases/{name}.{'sqlite' if kind == 'sqlite' else 'dump'}"


def members_below(manifest: Manifest, folder: str) -> Sequence[Member]:
    """Return the files of a copy that lie in this folder of it."""
    return [member for member in manifest.files if member.path.startswith(f"{folder}/")]


def _collect(parts: Contents, staged: Path) -> None:
    private_folder(staged / "databases")
    for database in parts.databases:
        save(database, staged / staged_name(database.name, database.kind))
    for name, folder in parts.folders.items():
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                _collect_file(file, staged / name / file.relative_to(folder))
    for name, file in parts.configuration.items():
        _collect_file(file, staged / "configuration" / name)


def _collect_file(file: Path, target: Path) -> None:
    if file.name.endswith(_BESIDE) and file.with_name(file.name.rsplit("-", 1)[0]).exists():
        return  # a SQLite database's own, which is copied with it
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_sqlite(file):
        copy_sqlite(file, target)
    else:
        shutil.copyfile(file, target)
        target.chmod(0o600)


def _revision(parts: Contents) -> str:
    own = next(database for database in parts.databases if database.name == ARMILLARY)
    engine = connect(own.url.render_as_string(hide_password=False))
    try:
        found = revision_of(engine)
    finally:
        engine.dispose()
    if found is None:
        raise BackupError(f"there are no tables in {own.shown}; make them with `armillary db upgrade`")
    return found


def _files(folder: Path) -> list[Path]:
    found = folder.glob(f"{_PREFIX}*{_SUFFIX}") if folder.is_dir() else ()
    return sorted(file for file in found if file.is_file())


def _beyond(folder: Path, keep: int | None) -> list[Path]:
    return _files(folder)[:-keep] if keep else []


def _looked_at(file: Path) -> Copy:
    size = file.stat().st_size
    try:
        return Copy(file, size, archive.manifest_of(file))
    except (BackupError, OSError) as error:
        return Copy(file, size, None, str(error))


def _version() -> str:
    try:
        return metadata.version("armillary")
    except metadata.PackageNotFoundError:
        return "checkout"
