"""The table of uids: one person, one number, for good."""

import asyncio
import copy
import pwd
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

import hub.uids
from hub.db.engine import connect
from hub.uids import SqlUidRegistry, UidError, import_old
from spawner.protocols import UidRegistry
from tests.databases import program

NAMES = [
    "ann",
    "Ann",
    "ben",
    "../../etc",
    "a/b",
    unicodedata.normalize("NFC", "ä"),
    unicodedata.normalize("NFD", "ä"),
    "x" * 255,
    "-",
    ".",
]


@pytest.fixture(autouse=True)
def no_container_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own /etc/subuid out of the numbers that the tests expect."""
    monkeypatch.setattr(hub.uids, "_SUBORDINATE", ())


async def test_everybody_gets_a_number_of_their_own_and_keeps_it(database: Engine) -> None:
    registry = SqlUidRegistry(database, first_uid=300_000)
    assert isinstance(registry, UidRegistry)
    given = {name: await registry.uid_of(name) for name in NAMES}
    assert sorted(given.values()) == list(range(300_000, 300_000 + len(NAMES)))
    again = SqlUidRegistry(database, first_uid=300_000)
    assert {name: await again.uid_of(name) for name in reversed(NAMES)} == given
    assert await again.people() == given


async def test_a_higher_start_later_changes_nobody(database: Engine) -> None:
    ann = await SqlUidRegistry(database, first_uid=300_000).uid_of("ann")
    moved = SqlUidRegistry(database, first_uid=400_000)
    assert await moved.uid_of("ann") == ann
    assert await moved.uid_of("ben") == 400_000
    assert await SqlUidRegistry(database, first_uid=300_000).uid_of("eve") == 400_001


async def test_many_at_once_in_one_process_never_share(database: Engine) -> None:
    registry = SqlUidRegistry(database, first_uid=300_000)
    given = await asyncio.gather(*(registry.uid_of(f"user{number % 20}") for number in range(60)))
    assert given[:20] == given[20:40] == given[40:]
    assert len(set(given)) == 20


def test_many_processes_never_share(database_url: str, database: Engine) -> None:
    text = (
        "import asyncio, sys; import hub.uids; hub.uids._SUBORDINATE = ()\n"
        "from hub.db.engine import connect\n"
        "r = hub.uids.SqlUidRegistry(connect(sys.argv[1]), first_uid=300_000)\n"
        "print(*[asyncio.run(r.uid_of(f'{name}')) for name in sys.argv[2:]])"
    )
    names = [f"user{number}" for number in range(12)]
    started = [program(text, database_url, *(names if odd else reversed(names))) for odd in (True, False, True)]
    answers = [process.communicate(timeout=60)[0].split() for process in started]
    assert answers[0] == answers[2] == answers[1][::-1]
    assert len(set(answers[0])) == len(names)


async def test_numbers_of_the_machines_accounts_are_passed_over(database: Engine) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    registry = SqlUidRegistry(database, first_uid=nobody)
    assert await registry.uid_of("ann") == nobody + 1


async def test_numbers_set_aside_for_containers_are_passed_over(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subuid = tmp_path / "subuid"
    subuid.write_text("# comment\nops:299990:20\ndev:300010:5\nbroken:x:y\n")
    monkeypatch.setattr(hub.uids, "_SUBORDINATE", (subuid, tmp_path / "missing"))
    registry = SqlUidRegistry(database, first_uid=300_000)
    assert await registry.uid_of("ann") == 300_015


async def test_a_number_that_an_account_of_the_machine_took_later_is_refused(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await SqlUidRegistry(database, first_uid=300_000).uid_of("ann")
    monkeypatch.setattr(hub.uids, "_account", lambda uid: "backup" if uid == 300_000 else None)
    with pytest.raises(UidError, match=r"300000.*'ann'.*'backup'"):
        await SqlUidRegistry(database, first_uid=300_000).uid_of("ann")


async def test_a_person_without_a_name_gets_none(database: Engine) -> None:
    with pytest.raises(UidError):
        await SqlUidRegistry(database).uid_of("")


async def test_a_name_that_no_database_can_hold_gets_none(database: Engine) -> None:
    with pytest.raises(UidError):
        await SqlUidRegistry(database).uid_of("half a pair \ud800")


async def test_a_database_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "armillary.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UidError, match=r"armillary\.sqlite"):
        await SqlUidRegistry(connect(f"sqlite:///{path}")).uid_of("ann")


async def test_configuration_copies_keep_one_registry(database: Engine) -> None:
    registry = SqlUidRegistry(database)
    assert copy.deepcopy(registry) is registry
    assert copy.deepcopy({"uid_registry": registry})["uid_registry"] is registry


# --- the file of older versions ----------------------------------------------------------------------------------


def old_table(path: Path, *rows: tuple[int, str]) -> Path:
    """Make the file as version 0.1 did."""
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.execute(
            "CREATE TABLE uids (uid INTEGER PRIMARY KEY, user_name TEXT NOT NULL UNIQUE, "
            "given_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')))"
        )
        old.executemany("INSERT INTO uids (uid, user_name) VALUES (?, ?)", rows)
        old.commit()
    return path


async def test_uids_of_an_older_version_are_taken_over_once_and_go_on_from_there(
    database: Engine, tmp_path: Path
) -> None:
    rows = [(300_000 + 2 * number, name) for number, name in enumerate(NAMES)]
    path = old_table(tmp_path / "uids.sqlite", *rows)
    assert import_old(path, database) == len(NAMES)
    assert import_old(path, database) == 0
    registry = SqlUidRegistry(database, first_uid=300_000)
    assert await registry.people() == {name: uid for uid, name in rows}
    assert await registry.uid_of("new") == rows[-1][0] + 1
    assert import_old(path, database) == 0
    assert path.is_file()


async def test_two_persons_of_one_uid_are_found_and_nothing_is_taken_over(database: Engine, tmp_path: Path) -> None:
    assert await SqlUidRegistry(database, first_uid=300_000).uid_of("ann") == 300_000
    path = old_table(tmp_path / "uids.sqlite", (299_999, "eve"), (300_000, "ben"))
    with pytest.raises(UidError, match=r"uid 300000 is 'ben', but in the database it is 'ann'"):
        import_old(path, database)
    assert await SqlUidRegistry(database).people() == {"ann": 300_000}


async def test_one_person_of_two_uids_is_found(database: Engine, tmp_path: Path) -> None:
    await SqlUidRegistry(database, first_uid=300_000).uid_of("ann")
    with pytest.raises(UidError, match="'ann'"):
        import_old(old_table(tmp_path / "uids.sqlite", (300_007, "ann")), database)


async def test_there_may_be_no_old_file_or_one_that_was_never_used(database: Engine, tmp_path: Path) -> None:
    assert import_old(tmp_path / "uids.sqlite", database) == 0
    (tmp_path / "uids.sqlite").touch()
    assert import_old(tmp_path / "uids.sqlite", database) == 0


async def test_a_damaged_old_file_is_named(database: Engine, tmp_path: Path) -> None:
    (tmp_path / "uids.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UidError, match=r"uids\.sqlite"):
        import_old(tmp_path / "uids.sqlite", database)
