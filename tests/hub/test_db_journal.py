"""What a process remembers is what is there: whoever wrote, whatever was rolled back, however old its knowledge is."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, insert, select, text, update

from hub.admission import reservations, tickets
from hub.admission.memory import Known, Memory
from hub.admission.standing import Holders
from hub.admission.tickets import Ticket
from hub.db import journal
from hub.db.tables import journal as table
from hub.db.tables import reservations as held_table
from hub.db.tables import sessions as session_table
from hub.db.transaction import read, write
from hub.idle import sessions
from spawner.reservation import Reservation
from tests.hub.statements import statements

OPTIONS = {"profile": "gpu", "accelerator": "card"}


class Undone(Exception):
    """Ends a transaction without its being written."""


def hold(connection: Connection, name: str) -> None:
    held = Reservation(name, "ann", name, "gpu", "card", 1, 1000, options=OPTIONS, state="granted")
    reservations.insert(connection, held, expires_in_s=60)


def wait(connection: Connection, name: str) -> None:
    tickets.insert(connection, Ticket(name, name, "", "gpu", OPTIONS, f"user:{name}", "card", 1, share=1.0))


def limit(connection: Connection, name: str, end: float | None) -> None:
    sessions.begin(connection, [(name, "ann", name)])
    connection.execute(update(session_table).where(session_table.c.id == name).values(ends_at=end))


def same(connection: Connection, memory: Memory) -> Known:
    """Look, and compare with the tables themselves."""
    known = memory.look(connection).known
    assert known.reservations == reservations.all(connection)
    rows = connection.execute(select(held_table.c.id, held_table.c.reserved_at))
    assert known.granted_at == {row.id: row.reserved_at for row in rows}
    assert tuple(known.waiting.values()) == tickets.waiting(connection)
    assert tuple(known.starting.values()) == tickets.starting(connection)
    ranks = [one.rank for one in tickets.waiting(connection)]
    assert known.last_rank == max(ranks, default=None)
    assert known.slots_taken == tickets.number_starting(connection)
    for one in (*known.waiting.values(), *known.starting.values()):
        assert known.ticket_of(one.user, one.server) == tickets.of_server(connection, one.user, one.server)
    for held in known.reservations:
        assert tuple(known.held_for(held.user, held.server)) == reservations.of_server(
            connection, held.user, held.server
        )
    assert known.ends == sessions.ends(connection)
    assert _names(known.holders) == _names(Holders.of(known.reservations))
    assert _names(known.waiters) == _names(Holders.of(known.waiting.values()))
    assert known.entry == journal.newest(connection)
    return known


def _names(holders: Holders[Any]) -> list[dict[str, set[str]]]:
    return [
        {who: {one.id for one in theirs} for who, theirs in found.items()}
        for found in (holders.by_user, holders.by_account, holders.by_kind)
    ]


def questions(sent: list[str]) -> list[str]:
    """What was asked, but for the turn among writers."""
    return [one for one in sent if one.lstrip().startswith("SELECT") and "advisory" not in one]


def test_nothing_is_read_again_that_has_not_changed(database: Engine) -> None:
    memory = Memory()
    for name in ("one", "two"):
        write(database, lambda connection, name=name: hold(connection, name))  # type: ignore[misc]
        write(database, lambda connection, name=name: wait(connection, name))  # type: ignore[misc]
    read(database, memory.look)
    with statements(database) as sent:
        first = read(database, memory.look).known
    assert len(questions(sent)) == 1
    assert "journal" in questions(sent)[0]
    write(database, lambda connection: hold(connection, "three"))
    with statements(database) as sent:
        second = read(database, memory.look).known
    assert len(questions(sent)) == 2
    assert second.waiting is first.waiting
    assert second.held["one"] is first.held["one"]
    read(database, lambda connection: same(connection, memory))


def test_what_sessions_measure_of_themselves_is_no_change(database: Engine) -> None:
    write(database, lambda connection: limit(connection, "one", 50.0))
    before = read(database, journal.newest)
    write(database, lambda connection: sessions.works(connection, ["one"]))
    write(database, lambda connection: limit(connection, "one", 50.0))
    assert read(database, journal.newest) == before
    write(database, lambda connection: limit(connection, "one", None))
    assert read(database, journal.newest) != before


def test_a_number_that_is_used_again_after_a_rollback_is_told_apart(database: Engine) -> None:
    memory = Memory()
    write(database, lambda connection: hold(connection, "one"))

    def undone(connection: Connection) -> None:
        reservations.delete(connection, ["one"])
        assert same(connection, memory).reservations == ()
        raise Undone

    with pytest.raises(Undone):
        write(database, undone)
    # The same change of the same row: on SQLite it gets the same number.
    write(database, lambda connection: connection.execute(update(held_table).values(seen=True)))
    write(database, lambda connection: connection.execute(update(held_table).values(seen=False)))
    assert [one.id for one in read(database, lambda connection: same(connection, memory)).reservations] == ["one"]


def test_after_a_rollback_what_was_read_in_it_is_forgotten(database: Engine) -> None:
    memory = Memory()
    write(database, lambda connection: hold(connection, "one"))
    read(database, memory.look)

    def undone(connection: Connection) -> None:
        hold(connection, "two")
        assert len(same(connection, memory).reservations) == 2
        raise Undone

    with pytest.raises(Undone):
        write(database, undone)
    assert len(read(database, lambda connection: same(connection, memory)).reservations) == 1


def test_a_process_that_has_not_looked_for_long_reads_everything(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    write(database, lambda connection: hold(connection, "one"))
    read(database, memory.look)
    monkeypatch.setattr(journal, "_KEPT", 3)
    for number in range(6):
        write(database, lambda connection, number=number: wait(connection, f"t{number}"))  # type: ignore[misc]
    assert write(database, journal.trim) > 0
    assert read(database, lambda connection: len(connection.execute(select(table)).all())) == 3
    assert len(read(database, lambda connection: same(connection, memory)).waiting) == 6
    assert write(database, journal.trim) == 0


def test_a_database_that_was_put_back_is_read_anew(database: Engine) -> None:
    """As after a backup was restored: the journal ends before what the process has seen, and then goes another way."""
    memory = Memory()
    write(database, lambda connection: hold(connection, "one"))
    write(database, lambda connection: hold(connection, "two"))
    kept = read(database, journal.newest)
    read(database, memory.look)

    def put_back(connection: Connection) -> None:
        reservations.delete(connection, ["two"])
        connection.execute(delete(table))

    write(database, put_back)
    assert kept is not None
    assert read(database, journal.newest) is None
    assert len(read(database, lambda connection: same(connection, memory)).reservations) == 1
    other = {"number": kept.number, "mark": "another", "subject": "tickets", "id": "none", "gone": True}
    write(database, lambda connection: connection.execute(insert(table).values(**other)))
    if database.dialect.name == "postgresql":  # numbers go on behind it, as in a database that was put back
        moved = text("SELECT setval(pg_get_serial_sequence('journal', 'number'), :number)")
        write(database, lambda connection: connection.execute(moved, {"number": kept.number}))
    write(database, lambda connection: hold(connection, "three"))
    assert len(read(database, lambda connection: same(connection, memory)).reservations) == 2


def test_an_old_view_changes_nothing_that_newer_ones_see(database: Engine) -> None:
    """A reader whose transaction began before the last change looks after it."""
    memory = Memory()
    write(database, lambda connection: hold(connection, "one"))
    with database.connect() as old:
        if database.dialect.name == "postgresql":
            old.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with old.begin():
            assert len(same(old, memory).reservations) == 1
            write(database, lambda connection: hold(connection, "two"))
            assert len(read(database, lambda connection: same(connection, memory)).reservations) == 2
            assert len(same(old, memory).reservations) == 1
    assert len(read(database, lambda connection: same(connection, memory)).reservations) == 2


Step = Callable[[Connection], object]


def _steps(chance: random.Random, number: int) -> Step:
    name, other = f"r{chance.randrange(12)}", f"t{chance.randrange(12)}"
    found: list[Step] = [
        lambda connection: hold(connection, f"r{number}"),
        lambda connection: wait(connection, f"t{number}"),
        lambda connection: reservations.delete(connection, [name]),
        lambda connection: reservations.mark_seen(connection, [name]),
        lambda connection: reservations.give_to(connection, name, other),
        lambda connection: reservations.set_back(connection, 30.0),
        lambda connection: tickets.promote(connection, other, name, seen_to_s=30),
        lambda connection: tickets.put_back(connection, other, name, said="again", wait_s=0.0),
        lambda connection: tickets.move(connection, other, priority=chance.randrange(3)),
        lambda connection: tickets.move(connection, other, rank=chance.random() * 1e9),
        lambda connection: tickets.end(connection, other, "left", ""),
        lambda connection: tickets.forget(connection, -1.0),
        lambda connection: tickets.set_back(connection, 5.0),
        lambda connection: limit(connection, name, chance.choice([None, 5.0, 9.0])),
        lambda connection: sessions.announce(connection, name, 5.0, "budget"),
        lambda connection: sessions.forget(connection, [name]),
        journal.trim,
    ]
    return chance.choice(found)


@pytest.mark.parametrize("seed", range(4))
def test_several_processes_see_what_is_there_after_any_changes(
    database: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_KEPT", 8)
    monkeypatch.setattr(journal, "MOST", 12)
    chance, memories = random.Random(seed), [Memory() for _ in range(3)]
    for number in range(120):
        steps = [_steps(chance, number * 3 + more) for more in range(chance.randrange(1, 4))]
        keep, looker = chance.random() < 0.8, chance.choice(memories)

        def work(connection: Connection, steps: list[Step] = steps, looker: Memory = looker, keep: bool = keep) -> None:
            for step in steps:
                step(connection)
                if chance.random() < 0.4:
                    same(connection, looker)
            if not keep:
                raise Undone

        with suppress(Undone):
            write(database, work)
        for memory in memories:
            if chance.random() < 0.5:
                read(database, lambda connection, memory=memory: same(connection, memory))  # type: ignore[misc]
    assert read(database, journal.newest) is not None
