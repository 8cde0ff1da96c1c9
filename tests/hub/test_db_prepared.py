"""Statements that are put together once: the same rows, the same errors, whatever happens to the connection between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, bindparam, func, insert, literal, select, text
from sqlalchemy.exc import IntegrityError

from hub.db.address import AddressError
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.prepared import Prepared, Step, run_together
from hub.db.tables import uids
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade
from tests.databases import LazyServer
from tests.hub.statements import statements

GIVE = Prepared(insert(uids).values(uid=bindparam("number"), user_name=bindparam("name"), given_at=Now()))
OF_NAMES = Prepared(
    select(uids.c.uid, uids.c.user_name, literal("x").label("fixed"))
    .where(uids.c.user_name.in_(bindparam("names", expanding=True)), uids.c.uid < bindparam("below"))
    .order_by(uids.c.uid)
    .limit(50)
)
PEOPLE = [f"person-{number}" for number in range(20)]


@pytest.fixture
def people(database: Engine) -> Engine:
    def work(connection: Connection) -> None:
        for number, name in enumerate(PEOPLE):
            assert GIVE.run(connection, {"number": number, "name": name}) == 1

    write(database, work)
    return database


def found(engine: Engine, names: Sequence[str], below: int = 1000) -> list[str]:
    rows = read(engine, lambda connection: OF_NAMES.all(connection, {"names": names, "below": below}))
    assert all(row[2] == "x" for row in rows)
    return [row[1] for row in rows]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7, 8, 9, 20])
def test_lists_of_any_length_find_what_they_name_and_each_once(people: Engine, number: int) -> None:
    assert found(people, PEOPLE[:number]) == PEOPLE[:number]
    assert found(people, tuple(reversed(PEOPLE[:number]))) == PEOPLE[:number]


def test_each_call_has_values_of_its_own(people: Engine) -> None:
    assert found(people, PEOPLE[:3], below=2) == PEOPLE[:2]
    assert found(people, PEOPLE[5:8], below=7) == PEOPLE[5:7]
    assert found(people, ["nobody", "'; DROP TABLE uids; --"]) == []


def test_a_value_that_is_missing_is_a_mistake_and_not_the_one_of_the_call_before(people: Engine) -> None:
    assert found(people, PEOPLE[:3], below=2)
    with pytest.raises(KeyError, match="below"):
        read(people, lambda connection: OF_NAMES.all(connection, {"names": PEOPLE[:3]}))


def test_a_row_that_is_there_already_is_told_as_sqlalchemy_tells_it(people: Engine) -> None:
    with pytest.raises(IntegrityError):
        write(people, lambda connection: GIVE.run(connection, {"number": 3, "name": "somebody-else"}))
    assert found(people, ["somebody-else", PEOPLE[3]]) == [PEOPLE[3]]


def test_what_fails_later_takes_it_back(people: Engine) -> None:
    def work(connection: Connection) -> None:
        GIVE.run(connection, {"number": 99, "name": "late"})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write(people, work)
    assert found(people, ["late"]) == []


def test_tables_that_have_gained_a_column_are_read_as_before(people: Engine, database_url: str) -> None:
    names = PEOPLE[:3]
    for _ in range(8):  # from the sixth time on PostgreSQL has a plan for any values
        assert found(people, names) == names
    other = connect(database_url)
    with other.begin() as connection:
        connection.execute(text("ALTER TABLE uids ADD COLUMN remark TEXT"))
        connection.execute(text("CREATE INDEX by_remark ON uids (remark)"))
    other.dispose()
    for _ in range(8):
        assert found(people, names) == names


def test_what_fails_while_rows_are_fetched_is_told_as_well(people: Engine) -> None:
    # SQLite works out row by row, and fails at the sixth; PostgreSQL fails at once.
    sqlite = people.dialect.name == "sqlite"
    late = Prepared(select(uids.c.uid, func.late(uids.c.uid) if sqlite else 1 / (uids.c.uid - 5)).order_by(uids.c.uid))

    def work(connection: Connection) -> None:
        if sqlite:
            bare: Any = connection.connection.dbapi_connection
            bare.create_function("late", 1, lambda uid: uid if uid < 5 else 1 // 0)
        late.all(connection, {})

    with pytest.raises(DatabaseAway):
        read(people, work)
    assert found(people, PEOPLE[:2]) == PEOPLE[:2]


@pytest.mark.hub
def test_a_connection_that_breaks_is_a_database_that_is_away_and_is_not_used_again(
    postgres_server: LazyServer,
) -> None:
    url = postgres_server.get().fresh_database()
    people, other = connect(url), connect(url)
    upgrade(people)
    write(people, lambda connection: GIVE.run(connection, {"number": 1, "name": PEOPLE[1]}))

    def broken(connection: Connection) -> None:
        mine = connection.scalar(text("SELECT pg_backend_pid()"))
        with other.begin() as beside:
            beside.execute(text("SELECT pg_terminate_backend(:of)"), {"of": mine})
        OF_NAMES.all(connection, {"names": PEOPLE, "below": 5})

    with pytest.raises(DatabaseAway, match="PostgreSQL"):
        read(people, broken)
    assert found(people, PEOPLE[:2]) == PEOPLE[1:2]
    people.dispose()
    other.dispose()


@pytest.mark.hub
@pytest.mark.parametrize(("more", "kept"), [("", True), ("prepare_threshold=none", False)])
def test_the_server_keeps_the_plan_unless_the_url_says_none(postgres_server: LazyServer, more: str, kept: bool) -> None:
    url = postgres_server.get().fresh_database()
    engine = connect(f"{url}{'&' if '?' in url else '?'}{more}" if more else url)
    upgrade(engine)

    def work(connection: Connection) -> list[str]:
        OF_NAMES.all(connection, {"names": PEOPLE, "below": 5})
        connection.execute(text("SELECT 1"))
        return list(connection.scalars(text("SELECT statement FROM pg_prepared_statements")))

    for _ in range(7):
        statements = read(engine, work)
    assert any("uids" in one for one in statements) is kept
    assert not any(one == "SELECT 1" for one in statements)
    engine.dispose()


def test_another_threshold_is_refused() -> None:
    with pytest.raises(AddressError, match="prepare_threshold"):
        connect("postgresql+psycopg://ann:secret@db.example.org/armillary?prepare_threshold=5")


def test_several_are_done_together_or_not_at_all(people: Engine) -> None:
    def give(*numbers: int) -> list[Step]:
        return [(GIVE, {"number": number, "name": f"new-{number}"}) for number in numbers]

    with statements(people) as sent:
        write(people, lambda connection: run_together(connection, give(50, 51, 52)))
    inserts = [one for one in sent if "INSERT" in one]
    assert len(inserts) == (3 if people.dialect.name == "sqlite" else 1)
    assert found(people, ["new-50", "new-51", "new-52"]) == ["new-50", "new-51", "new-52"]
    with pytest.raises(IntegrityError):
        write(people, lambda connection: run_together(connection, give(60, 51)))
    assert found(people, ["new-60"]) == []
    write(people, lambda connection: run_together(connection, give(61)))
    write(people, lambda connection: run_together(connection, []))
    assert found(people, ["new-61"]) == ["new-61"]
