"""Putting a copy back: damage that is found, and that it is all or nothing."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from hub.backup import restore as restoring
from hub.backup.archive import manifest_of, unpack
from hub.backup.problem import BackupError
from hub.backup.restore import restore
from hub.controller.lease import Lease
from hub.db.address import AddressError, database_url
from hub.db.transaction import write
from hub.db.upgrade import revision_of
from hub.one_hub import HUB
from tests.hub.backup_world import AFTER, BEFORE, Installation, cut, here, one, put_back

__all__ = ["here", "one"]


# --- damage ------------------------------------------------------------------------------------------------------


def _turned(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x55
    file.write_bytes(data)


def _rewritten(change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Callable[[Path], None]:
    def work(file: Path) -> None:
        with tarfile.open(file) as archive:
            members = [(one, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
        change(members)
        with tarfile.open(file, "w:gz") as archive:
            for member, content in members:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    return work


def _said(members: list[tuple[tarfile.TarInfo, bytes]], **more: Any) -> None:
    said = {**json.loads(members[0][1]), **more}
    members[0] = (members[0][0], json.dumps(said).encode())


def _link(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member = tarfile.TarInfo(members.pop()[0].name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members.append((member, b""))


def _escape(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, content = members.pop()
    said = json.loads(members[0][1])
    for file in said["files"]:
        if file["path"] == member.name:
            file["path"] = member.name = "secrets/../../escaped"
    _said(members, files=said["files"])
    members.append((member, content))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "damaged"),
        (_turned, "damaged"),
        (lambda file: file.write_bytes(b"no archive at all"), "no copy of an installation"),
        (lambda file: file.write_bytes(b""), "no copy of an installation"),
        (_rewritten(lambda members: members.insert(0, members.pop())), "does not begin with manifest.json"),
        (_rewritten(list.pop), "is missing"),
        (_rewritten(lambda members: members.append((tarfile.TarInfo("more"), b"x"))), "'more', which does not belong"),
        (_rewritten(lambda members: members.append(members[-1])), "does not belong"),
        (_rewritten(_link), "does not belong"),
        (_rewritten(_escape), "does not belong"),
        (_rewritten(lambda members: _said(members, format=99, version="7.0")), r"newer Armillary \(7.0\)"),
        (_rewritten(lambda members: _said(members, files="all")), "cannot be read"),
        (_rewritten(lambda members: _said(members, revision="9999")), "version 9999, which this program does not know"),
        (_rewritten(lambda members: _said(members, databases={"armillary": "postgresql"})), "holds a postgresql"),
    ],
)
def test_a_copy_that_cannot_be_used_changes_nothing(
    here: Installation, damage: Callable[[Path], object], says: str
) -> None:
    copy = here.copy()
    here.change()
    damage(copy)
    with pytest.raises(BackupError, match=says):
        put_back(here, copy)
    assert here.state_of_all() == AFTER
    assert not (here.folder.parent / "escaped").exists()
    assert not here.settings.paths.unfinished_restore.exists()
    assert not here.settings.paths.backups.exists()


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_no_changed_byte_goes_unnoticed(here: Installation, place: int) -> None:
    """Of the content; of what gzip itself does not check (its header's time, say) nothing is used."""
    copy = here.copy()
    data = bytearray(copy.read_bytes())
    at = 10 + (len(data) - 11) * place // 100
    data[at] ^= 0xFF
    copy.write_bytes(data)
    with pytest.raises(BackupError):
        unpack(copy, None)


# --- all or nothing ----------------------------------------------------------------------------------------------


@contextmanager
def alive(database: Engine, name: str) -> Iterator[None]:
    """Somebody holds this lease and says so."""
    lease, over = Lease(database, "another", 5, name=name), threading.Event()
    assert lease.try_acquire() is not None

    def renew() -> None:
        while not over.wait(0.02):
            lease.try_acquire()

    thread = threading.Thread(target=renew)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("name", [HUB, "controller"])
def test_while_hub_or_controller_run_nothing_is_put_back(one: Installation, name: str) -> None:
    copy = one.copy()
    one.change()
    with alive(one.own, name), pytest.raises(BackupError, match=f"a {name} .* runs"):
        restore(copy, one.settings, one.file, lease_s=0.5)
    assert one.state_of_all() == AFTER
    assert not one.settings.paths.unfinished_restore.exists()
    put_back(one, copy)
    assert one.state_of_all() == BEFORE, "whoever is silent is not waited for"


@pytest.mark.parametrize("step", [0, 1])
def test_what_was_half_put_back_cannot_be_started_and_is_finished_by_doing_it_again(
    one: Installation, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = one.copy()
    one.change()
    real, calls = restoring.put_back, []

    def fails(database: Any, source: Path) -> None:
        calls.append(database.name)
        if len(calls) > step:
            raise BackupError("the disk is full")
        real(database, source)

    monkeypatch.setattr(restoring, "put_back", fails)
    with pytest.raises(BackupError, match="Nothing was changed" if step == 0 else "Only a part"):
        put_back(one, copy)
    if step == 0:
        assert one.state_of_all() == AFTER
        database_url(one.settings)
    else:
        with pytest.raises(AddressError, match=f"armillary backup restore {copy} --yes"):
            database_url(one.settings)
    monkeypatch.setattr(restoring, "put_back", real)
    put_back(one, copy)
    assert one.state_of_all() == BEFORE
    database_url(one.settings)


def test_tables_of_an_older_version_are_brought_up_to_date(here: Installation) -> None:
    older = Installation(_made(here.folder / "older"))
    with closing(sqlite3.connect(older.settings.paths.database)) as old:
        old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        old.commit()
    older.close()
    older.settings.paths.database.unlink()
    _upgrade_to(older, "0001")
    with older.hubs.begin() as connection:
        connection.execute(text("CREATE TABLE servers (name VARCHAR(20))"))
    copy = older.copy()
    assert manifest_of(copy).revision == "0001"
    newest = revision_of(here.own)
    said = put_back(here, copy)
    assert f"Brought the tables from version 0001 to {newest}." in said
    assert revision_of(here.own) == newest
    older.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _upgrade_to(one: Installation, revision: str) -> None:
    from alembic import command

    from hub.db import steps
    from hub.db.upgrade import SCRIPTS

    def work(connection: Any) -> None:
        config = steps.config(SCRIPTS)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    write(one.own, work)
