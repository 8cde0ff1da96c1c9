"""Copies of an installation: what is in one, what damage is found, and that putting one back is all or nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select, text
from sqlalchemy.engine import make_url

from hub.backup import restore as restoring
from hub.backup.archive import manifest_of, unpack
from hub.backup.create import create, every
from hub.backup.problem import BackupError
from hub.backup.restore import plan, restore
from hub.controller.lease import Lease
from hub.db.address import AddressError, database_url
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import audit
from hub.db.transaction import read, write
from hub.db.upgrade import revision_of, upgrade
from hub.one_hub import HUB
from hub.settings import Settings, load
from tests.databases import LazyServer

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-password-that-nobody-sees"


class Installation:
    """One with rows in both databases, secrets and a provider's files."""

    def __init__(self, folder: Path, own: str = "", hubs: str = "") -> None:
        self.folder = folder
        self.file = folder / "armillary.yaml"
        self.file.write_text("state_dir: state\npublic_url: https://hub.example.org\n")
        self.environ = {"ARMILLARY_DATABASE__URL": own, "ARMILLARY_HUB__DATABASE_URL": hubs} if own else {}
        self.settings: Settings = load(self.file, self.environ)
        self.state = self.settings.state_dir
        self.state.mkdir(exist_ok=True)
        self.own = connect(database_url(self.settings))
        self.hubs = create_engine(hubs or f"sqlite:///{self.settings.paths.hub_database}")
        self.settings.paths.secrets.mkdir(mode=0o700, exist_ok=True)

    def fill(self) -> Installation:
        upgrade(self.own)
        self.say("before")
        with self.hubs.begin() as connection:
            connection.execute(text("CREATE TABLE servers (name VARCHAR(20))"))
            connection.execute(text("INSERT INTO servers VALUES ('before')"))
        self.settings.paths.cookie_secret.write_text("before\n")
        self.settings.paths.canaille.mkdir()
        (self.settings.paths.canaille / "canaille.json").write_text("{}")
        with closing(sqlite3.connect(self.settings.paths.canaille / "accounts.sqlite")) as accounts:
            accounts.execute("PRAGMA journal_mode = WAL")
            accounts.execute("CREATE TABLE people (name TEXT)")
            accounts.execute("INSERT INTO people VALUES ('before')")
            accounts.commit()
        return self

    def change(self) -> None:
        self.say("after")
        with self.hubs.begin() as connection:
            connection.execute(text("UPDATE servers SET name = 'after'"))
        self.settings.paths.cookie_secret.write_text("after\n")
        with closing(sqlite3.connect(self.settings.paths.canaille / "accounts.sqlite")) as accounts:
            accounts.execute("UPDATE people SET name = 'after'")
            accounts.commit()

    def say(self, what: str) -> None:
        row = {"at": Now(), "actor": "user:ann", "action": "test", "subject": what}
        write(self.own, lambda connection: connection.execute(insert(audit).values(**row)))

    def state_of_all(self) -> tuple[list[str], str, str, str]:
        said = read(self.own, lambda connection: list(connection.scalars(select(audit.c.subject))))
        with self.hubs.connect() as connection:
            name = str(connection.scalar(text("SELECT name FROM servers")))
        with closing(sqlite3.connect(self.settings.paths.canaille / "accounts.sqlite")) as accounts:
            person = str(accounts.execute("SELECT name FROM people").fetchone()[0])
        return sorted(said), name, self.settings.paths.cookie_secret.read_text().strip(), person

    def copy(self, **more: Any) -> Path:
        return create(self.settings, self.file, more.pop("into", self.folder / "copies"), **more)

    def close(self) -> None:
        self.own.dispose()
        self.hubs.dispose()


BEFORE = (["before"], "before", "before", "before")
AFTER = (["after", "before"], "after", "after", "after")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.hub)])
def one(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: LazyServer) -> Iterator[Installation]:
    """An installation with something in it, on either kind of database."""
    if request.param == "sqlite":
        found = Installation(tmp_path).fill()
        yield found
        found.close()
        return
    server = postgres_server.get()
    urls = [server.fresh_database() for _ in range(2)]
    found = Installation(tmp_path, *urls).fill()
    yield found
    found.close()
    for url in urls:
        server.drop(url)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    """One with SQLite."""
    found = Installation(tmp_path).fill()
    yield found
    found.close()


def put_back(one: Installation, file: Path, **more: Any) -> list[str]:
    said: list[str] = []
    one.close()
    restore(file, one.settings, one.file, **{"lease_s": 0.1, "say": said.append, **more})
    return said


def test_everything_comes_back_and_what_was_there_is_kept(one: Installation) -> None:
    copy = one.copy()
    one.change()
    assert one.state_of_all() == AFTER
    said = put_back(one, copy)
    assert one.state_of_all() == BEFORE
    assert not one.settings.paths.unfinished_restore.exists()
    assert stat.S_IMODE(one.settings.paths.cookie_secret.stat().st_mode) == 0o600
    [kept] = every(one.settings.paths.backups)
    assert str(kept.file) in said[0]
    put_back(one, kept.file)
    assert one.state_of_all() == AFTER


def test_a_copy_goes_into_an_empty_place(one: Installation, tmp_path: Path, postgres_server: LazyServer) -> None:
    copy = one.copy()
    (tmp_path / "other").mkdir()
    server = postgres_server.get() if one.environ else None
    urls = [server.fresh_database() for _ in range(2)] if server else []
    other = Installation(tmp_path / "other", *urls)
    said = put_back(other, copy)
    assert other.state_of_all() == BEFORE
    assert not any("is kept as" in sentence for sentence in said)
    other.close()
    for url in urls:
        assert server is not None
        server.drop(url)


def test_a_copy_is_private_and_says_what_it_is_of(here: Installation) -> None:
    copy = here.copy()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    manifest = manifest_of(copy)
    assert (manifest.public_url, manifest.engine) == ("https://hub.example.org", "local")
    assert manifest.databases == {"armillary": "sqlite", "jupyterhub": "sqlite"}
    assert manifest.revision == revision_of(here.own)
    assert {member.path for member in manifest.files} == {
        "configuration/armillary.yaml",
        "databases/armillary.sqlite",
        "databases/jupyterhub.sqlite",
        "provider/accounts.sqlite",
        "provider/canaille.json",
        "secrets/cookie_secret",
    }
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name], "nothing else is left"


def test_secrets_that_a_cluster_mounts_are_kept_for_reference_and_not_put_back(here: Installation) -> None:
    folder = here.settings.paths.secrets
    (folder / "cookie_secret").unlink()
    (folder / "..2026_11_22").mkdir()
    (folder / "..2026_11_22" / "cookie_secret").write_text("mounted\n")
    (folder / "..data").symlink_to("..2026_11_22")
    (folder / "cookie_secret").symlink_to("..data/cookie_secret")
    copy = here.copy()
    paths = {member.path for member in manifest_of(copy).files}
    assert "configuration/mounted-secrets/cookie_secret" in paths
    assert not [path for path in paths if path.startswith("secrets/") or ".." in path]
    put_back(here, copy)
    assert (folder / "cookie_secret").is_symlink()
    assert here.settings.paths.cookie_secret.read_text() == "mounted\n"


def test_what_is_not_committed_is_not_in_it_and_nobody_is_kept_waiting(one: Installation) -> None:
    def work(connection: Any) -> Path:
        row = {"at": Now(), "actor": "user:ann", "action": "test", "subject": "not yet"}
        connection.execute(insert(audit).values(**row))
        return one.copy()

    copy = write(one.own, work)
    put_back(one, copy)
    assert one.state_of_all() == BEFORE


def test_older_ones_are_removed_only_after_a_good_one(here: Installation) -> None:
    copies = [here.copy() for _ in range(3)]
    assert len(set(copies)) == 3
    newest = here.copy(keep=2)
    left = [found.file for found in every(newest.parent)]
    assert len(left) == 2
    assert newest in left
    here.settings.paths.hub_database.write_bytes(b"x" * 4096)
    with pytest.raises(BackupError, match="cannot be copied"):
        here.copy(keep=1)
    assert [found.file for found in every(newest.parent)] == left


def test_files_of_somebody_who_was_killed_are_swept_up(here: Installation) -> None:
    folder = here.folder / "copies"
    old, new = folder / ".making-old", folder / ".making-new"
    for one in (old, new):
        one.mkdir(parents=True)
    os.utime(old, (0, 0))
    here.copy()
    assert (old.exists(), new.exists()) == (False, True)


# --- damage ------------------------------------------------------------------------------------------------------


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 2 // 3)


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
    for one in said["files"]:
        if one["path"] == member.name:
            one["path"] = member.name = "secrets/../../escaped"
    _said(members, files=said["files"])
    members.append((member, content))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, "damaged"),
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

    from hub.db.upgrade import SCRIPTS, _config

    def work(connection: Any) -> None:
        config = _config(SCRIPTS)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    write(one.own, work)


# --- the programs of PostgreSQL, and other databases -------------------------------------------------------------


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Only these programs are found."""
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def elsewhere(folder: Path) -> Settings:
    """Settings with a PostgreSQL that nobody has."""
    url = f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/{{}}?sslmode=require"
    file = folder / "elsewhere.yaml"
    file.write_text("state_dir: elsewhere\n")
    return load(
        file,
        {"ARMILLARY_DATABASE__URL": url.format("own"), "ARMILLARY_HUB__DATABASE_URL": url.format("hub")},
    )


def test_the_password_is_in_no_argument_and_in_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        f'echo "$@" > {tmp_path}/arguments; echo "$PGPASSWORD" > {tmp_path}/password; echo no such host >&2; exit 1'
    )
    programs(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(BackupError) as told:
        create(elsewhere(tmp_path), None, tmp_path / "copies")
    assert str(told.value) == "pg_dump of the PostgreSQL database own at 127.0.0.1: no such host"
    arguments = (tmp_path / "arguments").read_text()
    assert "--dbname=user=ann host=127.0.0.1 port=1 dbname=own sslmode=require" in arguments
    assert SECRET not in arguments
    assert (tmp_path / "password").read_text().strip() == SECRET
    assert every(tmp_path / "copies") == []


def test_missing_programs_are_named_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match=r"pg_dump is missing; install .*postgresql-client"):
        create(elsewhere(tmp_path), None, tmp_path / "copies")


def test_a_kind_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    file = tmp_path / "armillary.yaml"
    file.write_text("state_dir: state\n")
    settings = load(file, {"ARMILLARY_HUB__DATABASE_URL": f"mysql+pymysql://ann:{SECRET}@db/hub"})
    with pytest.raises(BackupError) as told:
        create(settings, None, tmp_path / "copies")
    assert "hub.database_url: a database of the kind mysql cannot be copied" in str(told.value)
    assert SECRET not in str(told.value)


def test_without_tables_there_is_nothing_to_copy(tmp_path: Path) -> None:
    bare = Installation(tmp_path)
    with pytest.raises(BackupError, match="there is no database at"):
        bare.copy()
    bare.close()


def test_the_url_of_this_machines_socket_reaches_the_programs(one: Installation) -> None:
    """PostgreSQL is named by a folder in the tests, and the copies above were made by its own programs."""
    if one.environ:
        assert make_url(one.environ["ARMILLARY_DATABASE__URL"]).query["host"]
    assert manifest_of(one.copy()).databases["armillary"] == one.own.dialect.name


# --- the command -------------------------------------------------------------------------------------------------


def backup(here: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "backup", *words],
        cwd=here.folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_makes_lists_checks_and_puts_back(here: Installation) -> None:
    assert "There is no copy in" in backup(here, "list").stdout
    made = backup(here, "create")
    assert (made.returncode, made.stderr) == (0, "")
    [copy] = every(here.settings.paths.backups)
    assert str(copy.file) in made.stdout
    assert "Not in it: the homes" in made.stdout
    listed = backup(here, "list")
    assert listed.returncode == 0
    assert "https://hub.example.org" in listed.stdout
    here.change()
    asked = backup(here, "restore", str(copy.file))
    assert (asked.returncode, asked.stderr) == (1, "")
    assert "It would replace the SQLite file" in asked.stdout
    assert "Nothing was changed" in asked.stdout
    assert here.state_of_all() == AFTER
    here.close()
    done = backup(here, "restore", str(copy.file), "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert here.state_of_all() == BEFORE
    _cut(copy.file)
    bad = backup(here, "restore", str(copy.file), "--yes")
    assert bad.returncode == 1
    assert "damaged" in bad.stdout
    copy.file.write_bytes(b"")
    assert "cannot be used" in backup(here, "list").stdout


@pytest.mark.parametrize("words", [("create", "--keep", "0"), ("create", "--keep", "x"), ("restore",), ()])
def test_a_wrong_call_is_told_so(here: Installation, words: tuple[str, ...]) -> None:
    done = backup(here, *words)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_what_would_be_done_is_said_in_order(here: Installation) -> None:
    says = plan(here.copy(), here.settings, here.file).says
    assert [sentence.split()[0] for sentence in says] == ["replace", "replace", "write", "write"]
