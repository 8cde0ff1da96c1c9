"""The table of uids: one person, one number, for good."""

import asyncio
import copy
import os
import pwd
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import hub.uids
from hub.uids import SqliteUidRegistry, UidError
from spawner.protocols import UidRegistry

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


async def test_everybody_gets_a_number_of_their_own_and_keeps_it(tmp_path: Path) -> None:
    registry = SqliteUidRegistry(tmp_path / "uids.sqlite", first_uid=300_000)
    assert isinstance(registry, UidRegistry)
    given = {name: await registry.uid_of(name) for name in NAMES}
    assert sorted(given.values()) == list(range(300_000, 300_000 + len(NAMES)))
    again = SqliteUidRegistry(tmp_path / "uids.sqlite", first_uid=300_000)
    assert {name: await again.uid_of(name) for name in reversed(NAMES)} == given
    assert await again.people() == given


async def test_a_higher_start_later_changes_nobody(tmp_path: Path) -> None:
    path = tmp_path / "uids.sqlite"
    ann = await SqliteUidRegistry(path, first_uid=300_000).uid_of("ann")
    moved = SqliteUidRegistry(path, first_uid=400_000)
    assert await moved.uid_of("ann") == ann
    assert await moved.uid_of("ben") == 400_000
    assert await SqliteUidRegistry(path, first_uid=300_000).uid_of("eve") == 400_001


async def test_many_at_once_in_one_process_never_share(tmp_path: Path) -> None:
    registry = SqliteUidRegistry(tmp_path / "uids.sqlite", first_uid=300_000)
    given = await asyncio.gather(*(registry.uid_of(f"user{number % 20}") for number in range(60)))
    assert given[:20] == given[20:40] == given[40:]
    assert len(set(given)) == 20


def test_many_processes_never_share(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; import hub.uids; hub.uids._SUBORDINATE = ()\n"
        "r = hub.uids.SqliteUidRegistry(Path(sys.argv[1]), first_uid=300_000)\n"
        "print(*[asyncio.run(r.uid_of(f'{name}')) for name in sys.argv[2:]])"
    )
    names = [f"user{number}" for number in range(12)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "uids.sqlite"), *(names if odd else reversed(names))],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(hub.uids.__file__).parents[1],
        )
        for odd in (True, False, True)
    ]
    answers = [process.communicate()[0].split() for process in started]
    assert answers[0] == answers[2] == answers[1][::-1]
    assert len(set(answers[0])) == len(names)


async def test_numbers_of_the_machines_accounts_are_passed_over(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    registry = SqliteUidRegistry(tmp_path / "uids.sqlite", first_uid=nobody)
    assert await registry.uid_of("ann") == nobody + 1


async def test_numbers_set_aside_for_containers_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subuid = tmp_path / "subuid"
    subuid.write_text("# comment\nops:299990:20\ndev:300010:5\nbroken:x:y\n")
    monkeypatch.setattr(hub.uids, "_SUBORDINATE", (subuid, tmp_path / "missing"))
    registry = SqliteUidRegistry(tmp_path / "uids.sqlite", first_uid=300_000)
    assert await registry.uid_of("ann") == 300_015


async def test_a_number_that_an_account_of_the_machine_took_later_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "uids.sqlite"
    await SqliteUidRegistry(path, first_uid=300_000).uid_of("ann")
    monkeypatch.setattr(hub.uids, "_account", lambda uid: "backup" if uid == 300_000 else None)
    with pytest.raises(UidError, match=r"300000.*'ann'.*'backup'"):
        await SqliteUidRegistry(path, first_uid=300_000).uid_of("ann")


async def test_a_person_without_a_name_gets_none(tmp_path: Path) -> None:
    with pytest.raises(UidError):
        await SqliteUidRegistry(tmp_path / "uids.sqlite").uid_of("")


async def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "uids.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UidError, match=r"uids\.sqlite"):
        await SqliteUidRegistry(path).uid_of("ann")


async def test_the_file_is_private_and_configuration_copies_keep_one_registry(tmp_path: Path) -> None:
    registry = SqliteUidRegistry(tmp_path / "uids.sqlite")
    await registry.uid_of("ann")
    assert os.stat(registry.path).st_mode & 0o777 == 0o600
    assert copy.deepcopy(registry) is registry
