"""Rows of tickets: their moments, what each change leaves alone, and that who is late changes nothing."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, Engine

from hub.admission import reservations, tickets
from hub.admission.memory import Memory
from hub.admission.tickets import Ticket
from hub.db.transaction import read, write
from spawner.reservation import Reservation

OPTIONS = {"profile": "gpu", "accelerator": "card", "count": "1"}


def ticket(name: str, **more: object) -> Ticket:
    values = {"user": name, "server": "", "profile": "gpu", "options": OPTIONS, "account": f"user:{name}", **more}
    return Ticket(name, accelerator="card", count=1, share=1.0, **values)  # type: ignore[arg-type]


def stored(database: Engine, *names: str) -> list[Ticket]:
    return [write(database, lambda found, name=name: tickets.insert(found, ticket(name))) for name in names]  # type: ignore[misc]


def find(database: Engine, name: str) -> Ticket:
    found = read(database, lambda connection: tickets.find(connection, name))
    assert found is not None
    return found


def test_a_ticket_is_stored_as_it_is_with_the_databases_moments(database: Engine) -> None:
    [one] = stored(database, "ann")
    plain = replace(one, rank=0.0, asked_at=0.0, changed_at=0.0, not_before=0.0)
    assert plain == ticket("ann")
    assert one.rank > 1_600_000_000
    assert find(database, "ann") == one


def test_who_waits_is_told_by_priority_and_rank(database: Engine) -> None:
    stored(database, "ann", "bob", "cleo")
    write(database, lambda found: tickets.move(found, "cleo", priority=1))
    write(database, lambda found: tickets.move(found, "ann", rank=find(database, "bob").rank + 1))
    assert [one.id for one in read(database, tickets.waiting)] == ["cleo", "bob", "ann"]


def test_a_ticket_is_promoted_once_and_put_back_only_by_the_start_that_it_had(database: Engine) -> None:
    [one] = stored(database, "ann")
    assert write(database, lambda found: tickets.promote(found, "ann", "start-1", seen_to_s=30))
    assert not write(database, lambda found: tickets.promote(found, "ann", "start-2", seen_to_s=30))
    assert find(database, "ann").spawn_id == "start-1"
    late = lambda found: tickets.put_back(found, "ann", "start-0", said="late", wait_s=0)  # noqa: E731
    assert not write(database, late)
    again = lambda found: tickets.put_back(found, "ann", "start-1", said="again", wait_s=60, failed=True)  # noqa: E731
    assert write(database, again)
    back = find(database, "ann")
    assert (back.state, back.spawn_id, back.attempts, back.said, back.rank) == ("waiting", None, 1, "again", one.rank)
    assert back.not_before > back.changed_at + 59


def test_the_first_end_counts(database: Engine) -> None:
    stored(database, "ann")
    assert write(database, lambda found: tickets.end(found, "ann", "left", "You left."))
    assert not write(database, lambda found: tickets.end(found, "ann", "failed", "Too late."))
    assert not write(database, lambda found: tickets.promote(found, "ann", "start-1", seen_to_s=30))
    ended = find(database, "ann")
    assert (ended.ended_as, ended.said, ended.ended_at is not None) == ("left", "You left.", True)
    assert read(database, tickets.open_ones) == ()


def test_a_starting_ticket_is_adopted_when_nobody_sees_to_it(database: Engine) -> None:
    stored(database, "ann", "bob")
    write(database, lambda found: tickets.promote(found, "ann", "start-1", seen_to_s=-1))
    write(database, lambda found: tickets.promote(found, "bob", "start-2", seen_to_s=60))
    assert write(database, lambda found: tickets.adopt(found, seen_to_s=60, but={"ann"})) == ()
    assert [one.id for one in write(database, lambda found: tickets.adopt(found, seen_to_s=60))] == ["ann"]
    assert write(database, lambda found: tickets.adopt(found, seen_to_s=60)) == ()


def test_a_changed_ticket_loses_its_place_only_if_it_must(database: Engine) -> None:
    [one] = stored(database, "ann")
    kept = write(database, lambda found: tickets.change(found, replace(one, count=2), keeps_place=True))
    assert (kept.count, kept.rank) == (2, one.rank)
    lost = write(database, lambda found: tickets.change(found, replace(one, count=3), keeps_place=False))
    assert lost.rank > one.rank


def test_old_tickets_are_forgotten_and_open_ones_never(database: Engine) -> None:
    stored(database, "ann", "bob")
    write(database, lambda found: tickets.end(found, "ann", "left", ""))
    assert write(database, lambda found: tickets.forget(found, 3600)) == 0
    assert write(database, lambda found: tickets.forget(found, -1)) == 1
    assert find(database, "bob").state == "waiting"


def test_what_is_remembered_is_what_is_there(database: Engine) -> None:
    memory = Memory()

    def same(connection: Connection) -> bool:
        known = memory.look(connection).known
        assert known.reservations == reservations.all(connection)
        assert set(known.granted_at) == {one.id for one in known.reservations}
        assert tuple(known.waiting.values()) == tickets.waiting(connection)
        assert tuple(known.starting.values()) == tickets.starting(connection)
        return True

    assert read(database, same)
    stored(database, "ann", "bob", "cleo")
    for name in ("one", "two"):
        held = Reservation(name, "ann", name, "gpu", "card", 1, 1000, options=OPTIONS, state="granted")
        write(database, lambda found, held=held: reservations.insert(found, held, expires_in_s=60))  # type: ignore[misc]
    assert read(database, same)
    write(database, lambda found: tickets.promote(found, "ann", "one", seen_to_s=30))
    write(database, lambda found: tickets.move(found, "cleo", priority=2))
    write(database, lambda found: tickets.change(found, replace(ticket("bob"), count=2), keeps_place=True))
    begun = Reservation("one", "ann", "one", "gpu", "card", 1, 2000)
    write(database, lambda found: reservations.begin(found, begun, expires_in_s=60))
    assert read(database, same)
    write(database, lambda found: tickets.put_back(found, "ann", "one", said="again", wait_s=5, needs_login=True))
    write(database, lambda found: reservations.mark_seen(found, ["two"]))
    write(database, lambda found: reservations.delete(found, ["one"]))
    assert read(database, same)
    write(database, lambda found: tickets.logged_in(found, "ann"))
    write(database, lambda found: tickets.end(found, "bob", "left", ""))
    assert read(database, same)
