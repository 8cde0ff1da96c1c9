"""Put a copy of an installation back. Hub, service and controller are stopped meanwhile; sessions may go on."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from hub.backup import archive
from hub.backup.archive import Manifest
from hub.backup.contents import ARMILLARY, Contents, Database, contents
from hub.backup.create import create, folder_of, members_below, staged_name, sweep
from hub.backup.databases import put_back
from hub.backup.problem import BackupError
from hub.controller.lease import CONTROLLER, Lease
from hub.db.engine import connect
from hub.db.transaction import DatabaseAway
from hub.db.upgrade import Upgrade, knows, revision_of, upgrade
from hub.launch.secrets import private_folder, write_private
from hub.one_hub import HUB, LEASE_S
from hub.settings import Settings

__all__ = ["Plan", "plan", "restore"]

_POLL_S = 0.5
_STAGED = ".restoring-"


@dataclass(frozen=True)
class Plan:
    """What putting a copy back would do, in sentences."""

    manifest: Manifest
    says: tuple[str, ...]


def plan(file: Path, settings: Settings, settings_file: Path | None) -> Plan:
    """Check a copy from end to end, and return what putting it back would change. Changes nothing.

    Raises
    ------
    BackupError, hub.db.address.AddressError, hub.secret.ConfigError, OSError
        It is damaged, of a newer Armillary, or does not fit these settings.
    """
    manifest = archive.unpack(file, None)
    parts = contents(settings, settings_file)
    if not knows(manifest.revision):
        raise BackupError(
            f"{file} has tables of version {manifest.revision}, which this program does not know: Armillary "
            f"{manifest.version} made it. Put it back with that version or a newer one"
        )
    says = []
    for database in parts.databases:
        kind = manifest.databases.get(database.name)
        if kind != database.kind:
            raise BackupError(
                f"{file} holds a {kind} database for {database.name}, and the settings name {database.shown}. Name a "
                f"{kind} database in the settings; what is in it is replaced"
            )
        says.append(f"replace {database.shown}")
    for name, folder in _folders(settings, manifest).items():
        says.append(f"write {len(members_below(manifest, name))} files to {folder}")
    return Plan(manifest, tuple(says))


def restore(
    file: Path,
    settings: Settings,
    settings_file: Path | None,
    *,
    lease_s: float | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Put a copy back, after a copy of what is there now was made. May be run again if it was broken off.

    Until it is done hub, service and controller refuse to start.

    Parameters
    ----------
    lease_s
        How long hub and controller are listened for, in seconds. Default: as long as they may be silent.

    Raises
    ------
    BackupError, hub.db.transaction.DatabaseAway, OSError
        The text says whether anything was changed.
    """
    parts = contents(settings, settings_file)
    plan(file, settings, settings_file)
    mark = settings.paths.unfinished_restore
    _nobody_runs(parts, max(LEASE_S, settings.controller.lease_s) + 1.0 if lease_s is None else lease_s)
    if not mark.exists() and not _is_empty(parts):
        say(f"What was there is kept as {create(settings, settings_file, folder_of(settings))}.")
    private_folder(settings.state_dir.absolute())
    sweep(settings.state_dir, _STAGED)
    with tempfile.TemporaryDirectory(prefix=_STAGED, dir=settings.state_dir) as made:
        staged = private_folder(Path(made) / "copy")
        manifest = archive.unpack(file, staged)
        begun_before = mark.exists()
        write_private(mark, f"{file.absolute()}\n")
        for number, database in enumerate(parts.databases):
            try:
                put_back(database, staged / staged_name(database.name, database.kind))
            except BackupError as error:
                if number or begun_before:
                    raise BackupError(f"{error}. Only a part was put back: do it again before you start") from error
                mark.unlink()
                raise BackupError(f"{error}. Nothing was changed") from error
            say(f"Replaced {database.shown}.")
        for name, folder in _folders(settings, manifest).items():
            for member in members_below(manifest, name):
                _put_file(staged / member.path, folder / Path(member.path).relative_to(name))
            say(f"Wrote the files of {folder}.")
    done = _upgraded(parts)
    if done.changed:
        say(f"Brought the tables from version {done.before} to {done.after}.")
    mark.unlink()


def _folders(settings: Settings, manifest: Manifest) -> dict[str, Path]:
    known = {"secrets": settings.paths.secrets, "provider": settings.paths.canaille}
    return {name: folder for name, folder in known.items() if members_below(manifest, name)}


def _put_file(source: Path, target: Path) -> None:
    private_folder(target.parent)
    for beside in ("-wal", "-shm", "-journal"):
        target.with_name(target.name + beside).unlink(missing_ok=True)
    draft = target.with_name(f".{target.name}.restored")
    shutil.copyfile(source, draft)
    draft.chmod(0o600)
    draft.replace(target)


def _is_empty(parts: Contents) -> bool:
    return any(database.file is not None and not database.file.is_file() for database in parts.databases) or (
        _tables(parts) is None
    )


def _tables(parts: Contents) -> str | None:
    if (own := _own(parts)).file is not None and not own.file.is_file():
        return None
    with _connected(own) as engine:
        return revision_of(engine)


def _upgraded(parts: Contents) -> Upgrade:
    with _connected(_own(parts)) as engine:
        return upgrade(engine)


def _own(parts: Contents) -> Database:
    return next(database for database in parts.databases if database.name == ARMILLARY)


@contextmanager
def _connected(database: Database) -> Iterator[Engine]:
    engine = connect(database.url.render_as_string(hide_password=False))
    try:
        yield engine
    finally:
        engine.dispose()


def _nobody_runs(parts: Contents, listen_s: float) -> None:
    """Refuse while a hub or a controller says, within this time, that it lives."""
    try:
        if _tables(parts) is None:
            return
        with _connected(_own(parts)) as engine:
            living = {name: Lease(engine, "restore", listen_s, name=name) for name in (HUB, CONTROLLER)}
            deadline = time.monotonic() + listen_s + 2.0
            while living := {name: lease for name, lease in living.items() if lease.try_acquire() is None}:
                if time.monotonic() > deadline:
                    raise BackupError(
                        f"a {' and a '.join(living)} that uses {_own(parts).shown} runs. Stop Armillary first "
                        "(sessions go on); nothing was changed"
                    )
                time.sleep(_POLL_S)
    except DatabaseAway as error:
        raise BackupError(f"{error}; nothing was changed") from error
