"""An installation for the tests of copies: rows in both databases, secrets, a provider's files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select, text

from hub.backup.create import create
from hub.backup.note import SUBJECT
from hub.backup.restore import restore
from hub.db.address import database_url
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import audit
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from hub.settings import Settings, load
from tests.databases import LazyServer


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
        said = read(
            self.own,
            lambda connection: list(connection.scalars(select(audit.c.subject).where(audit.c.subject != SUBJECT))),
        )
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


def cut(file: Path) -> None:
    """Take the last third of a file away."""
    os.truncate(file, file.stat().st_size * 2 // 3)
