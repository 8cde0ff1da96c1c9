"""The two ends of a transaction that writes: the turn is waited for before anything is seen, what is left for the end is
seen by what comes before it, and both hold whatever becomes of the server's plans."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.prepared import Prepared, run_together
from hub.db.tables import uids
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade
from tests.databases import LazyServer
from tests.hub.pooler import Pooler
from tests.hub.statements import statements

GIVE = Prepared(insert(uids).values(uid=bindparam("number"), user_name=bindparam("name"), given_at=Now()))
OF_NAME = Prepared(select(uids.c.uid, uids.c.user_name).where(uids.c.user_name == bindparam("name")))
HIGHEST = Prepared(select(func.coalesce(func.max(uids.c.uid), 0)))


@pytest.fixture
def postgres(postgres_server: LazyServer) -> Iterator[Engine]:
    engine = connect(postgres_server.get().fresh_database())
    upgrade(engine)
    yield engine
    engine.dispose()


def give(connection: Connection, number: int, name: str) -> None:
    run_together(connection, [(GIVE, {"number": number, "name": name})])


def numbers(engine: Engine) -> list[int]:
    return read(engine, lambda connection: list(connection.scalars(select(uids.c.uid).order_by(uids.c.uid))))


def next_one(connection: Connection) -> None:
    [[highest]] = HIGHEST.all(connection, {})
    give(connection, highest + 1, f"person-{highest + 1}")


def test_each_sees_what_those_before_it_have_written(database: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(write, database, next_one) for _ in range(60)]:
            done.result()
    assert numbers(database) == list(range(1, 61))


def test_what_is_left_for_the_end_is_seen_by_what_comes_before_it(database: Engine) -> None:
    def work(connection: Connection) -> None:
        give(connection, 1, "ann")
        assert OF_NAME.all(connection, {"name": "ann"}) == [(1, "ann")]
        give(connection, 2, "ben")
        assert connection.scalar(select(uids.c.uid).where(uids.c.user_name == "ben")) == 2
        give(connection, 3, "cleo")
        give(connection, 4, "dora")
        assert connection.execute(delete(uids).where(uids.c.user_name == "dora")).rowcount == 1
        with connection.begin_nested() as inner:
            give(connection, 5, "eve")
            inner.rollback()
        with connection.begin_nested():
            give(connection, 6, "finn")
        with pytest.raises(IntegrityError), connection.begin_nested():
            give(connection, 6, "gabi")
        assert connection.scalar(select(func.count()).select_from(uids)) == 4

    write(database, work)
    assert numbers(database) == [1, 2, 3, 6]


def test_what_fails_at_the_end_leaves_nothing_and_is_told(database: Engine) -> None:
    write(database, lambda connection: give(connection, 1, "ann"))

    def work(connection: Connection) -> None:
        connection.execute(insert(uids).values(uid=2, user_name="ben", given_at=0.0))
        give(connection, 1, "cleo")

    with pytest.raises(IntegrityError):
        write(database, work)
    assert numbers(database) == [1]
    write(database, next_one)
    assert numbers(database) == [1, 2]


def test_how_many_rows_the_first_statement_has_changed_is_told(database: Engine) -> None:
    renamed = Prepared(update(uids).values(user_name="renamed").where(uids.c.uid >= bindparam("least")))
    write(database, next_one)
    write(database, next_one)
    for least, many in ((3, 0), (2, 1), (3, 0)):
        assert write(database, lambda connection, least=least: renamed.run(connection, {"least": least})) == many  # type: ignore[misc]


def test_what_is_left_for_the_end_is_not_written_if_the_work_fails(database: Engine) -> None:
    def work(connection: Connection) -> None:
        give(connection, 1, "ann")
        raise RuntimeError("after it")

    with pytest.raises(RuntimeError):
        write(database, work)
    write(database, lambda connection: None)
    assert numbers(database) == []


def test_outside_of_a_writer_nothing_is_left_for_later(database: Engine) -> None:
    with database.begin() as connection:
        give(connection, 1, "ann")
    assert numbers(database) == [1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    number=st.integers(1, 1 << 31),
)
def test_values_come_and_go_as_they_are_at_both_ends(database: Engine, name: str, number: int) -> None:
    number = min(number, (1 << 31) - 1)

    def work(connection: Connection) -> None:
        assert OF_NAME.all(connection, {"name": name}) == []
        give(connection, number, name)

    write(database, work)
    assert read(database, lambda connection: OF_NAME.all(connection, {"name": name})) == [(number, name)]
    assert write(database, lambda connection: OF_NAME.all(connection, {"name": name})) == [(number, name)]
    write(database, lambda connection: connection.execute(delete(uids)))


# --- on PostgreSQL -------------------------------------------------------------------------------------------------


@pytest.mark.hub
@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_zero_byte_is_refused_and_does_not_cut_off_what_follows(postgres: Engine, at: str) -> None:
    def work(connection: Connection) -> None:
        if at == "begin":
            OF_NAME.all(connection, {"name": "ann\0"})
        give(connection, 1, "ann\0")

    with pytest.raises(DatabaseAway, match="NUL"):
        write(postgres, work)
    assert numbers(postgres) == []


@pytest.mark.hub
def test_each_end_is_one_way_to_the_server_and_back(postgres: Engine) -> None:
    write(postgres, next_one)
    with statements(postgres) as sent:
        write(postgres, next_one)
    assert len(sent) == 2, sent


@pytest.mark.hub
@pytest.mark.parametrize("first", ["prepared", "plain"])
def test_who_waits_for_too_long_is_told_and_has_seen_nothing(postgres: Engine, first: str) -> None:
    held, go = threading.Event(), threading.Event()
    seen: list[object] = []

    def holds(connection: Connection) -> None:
        HIGHEST.all(connection, {})
        held.set()
        assert go.wait(20)

    def waits(connection: Connection) -> None:
        seen.append(HIGHEST.all(connection, {}) if first == "prepared" else connection.scalar(text("SELECT 1")))

    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(write, postgres, holds)
        assert held.wait(10)
        began = time.monotonic()
        with pytest.raises(DatabaseAway, match="lock timeout"):
            write(postgres, waits, wait_s=0.3)
        assert 0.2 < time.monotonic() - began < 5
        go.set()
        holder.result()
    assert seen == []
    write(postgres, waits, wait_s=0.3)
    assert len(seen) == 1


@pytest.mark.hub
def test_what_is_refused_keeps_the_plans(postgres: Engine) -> None:
    def refused(connection: Connection) -> None:
        HIGHEST.all(connection, {})
        raise LookupError

    def known(connection: Connection) -> set[str]:
        return set(connection.scalars(text("SELECT name FROM pg_prepared_statements")))

    write(postgres, next_one)
    before = write(postgres, known)
    for _ in range(3):
        with pytest.raises(LookupError):
            write(postgres, refused)
    assert before
    assert write(postgres, known) == before


@pytest.mark.hub
@pytest.mark.parametrize("which", ["all", "one", "none, and one is made beside"])
def test_plans_that_are_gone_are_made_anew_and_nothing_is_lost(postgres: Engine, which: str) -> None:
    def forget(connection: Connection) -> None:
        [name] = connection.scalars(text("SELECT min(name) FROM pg_prepared_statements"))
        bare: Any = connection.connection.driver_connection
        if which == "all":
            bare.pgconn.exec_(b"DEALLOCATE ALL")
        elif which == "one":
            bare.pgconn.exec_(b"DEALLOCATE " + name.encode())
        else:
            connection.info.pop("armillary_plans")

    for done in range(1, 8):
        write(postgres, next_one)
        assert numbers(postgres) == list(range(1, done + 1))
        with postgres.begin() as connection:
            forget(connection)
    assert read(postgres, lambda connection: HIGHEST.all(connection, {})) == [(7,)]


@pytest.mark.hub
def test_a_column_of_another_type_needs_no_new_connection(postgres: Engine) -> None:
    write(postgres, next_one)
    assert read(postgres, lambda connection: OF_NAME.all(connection, {"name": "person-1"})) == [(1, "person-1")]
    other = connect(postgres.url.render_as_string(hide_password=False))
    with other.begin() as connection:
        connection.execute(text("ALTER TABLE uids ALTER uid TYPE numeric"))
    other.dispose()
    for _ in range(3):
        assert read(postgres, lambda connection: OF_NAME.all(connection, {"name": "person-1"})) == [(1, "person-1")]
        assert write(postgres, lambda connection: HIGHEST.all(connection, {})) == [(1,)]


@pytest.mark.hub
def test_behind_a_pooler_that_follows_plans_it_is_the_same(postgres: Engine, tmp_path: Path) -> None:
    folder = Path(str(postgres.url.query["host"]))
    [server] = folder.glob(".s.PGSQL.*[0-9]")
    pooler = Pooler(server, tmp_path)
    engine = connect(postgres.url.update_query_dict({"host": str(tmp_path)}).render_as_string(hide_password=False))

    def many(connection: Connection) -> None:
        for number in range(130):
            assert len(Prepared(select(uids.c.uid + number)).all(connection, {})) == 7

    def refused(connection: Connection) -> None:
        next_one(connection)
        raise LookupError

    for _ in range(7):
        write(engine, next_one)
        with pytest.raises(LookupError):
            write(engine, refused)
        with pytest.raises(IntegrityError):
            write(engine, lambda connection: give(connection, 1, "again"))
    write(engine, many)
    assert numbers(engine) == list(range(1, 8))
    assert pooler.refused == []
    engine.dispose()
    pooler.close()


@pytest.mark.hub
@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
def test_a_servers_own_default_lets_no_writer_see_less_than_those_before_it_wrote(
    postgres: Engine, default: str
) -> None:
    with postgres.begin() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = '{default}'"))
    postgres.dispose()
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(write, postgres, next_one) for _ in range(40)]:
            done.result()
    assert numbers(postgres) == list(range(1, 41))


@pytest.mark.hub
def test_values_are_in_none_of_the_servers_logs(postgres: Engine, postgres_server: LazyServer) -> None:
    held, go = threading.Event(), threading.Event()

    def holds(connection: Connection) -> None:
        HIGHEST.all(connection, {})
        held.set()
        assert go.wait(20)

    def asks(connection: Connection) -> None:
        OF_NAME.all(connection, {"name": "a-name-of-somebody"})

    def again(connection: Connection) -> None:
        HIGHEST.all(connection, {})
        give(connection, 1, "a-name-of-somebody")

    write(postgres, next_one)
    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(write, postgres, holds)
        assert held.wait(10)
        with pytest.raises(DatabaseAway):
            write(postgres, asks, wait_s=0.1)
        go.set()
        holder.result()
    with pytest.raises(IntegrityError):
        write(postgres, again)
    log = postgres_server.get().log.read_text()
    assert "lock timeout" in log
    assert "STATEMENT" in log
    assert "a-name-of-somebody" not in "".join(line for line in log.splitlines() if "DETAIL" not in line)


@pytest.mark.hub
def test_text_is_written_in_the_connections_encoding(postgres: Engine) -> None:
    latin = connect(postgres.url.update_query_dict({"client_encoding": "latin1"}).render_as_string(hide_password=False))
    write(latin, lambda connection: give(connection, 1, "Jürg"))
    write(latin, lambda connection: connection.execute(insert(uids).values(uid=2, user_name="Jörg", given_at=0.0)))
    for engine in (latin, postgres):
        for number, name in ((1, "Jürg"), (2, "Jörg")):
            found = read(engine, lambda connection, name=name: OF_NAME.all(connection, {"name": name}))  # type: ignore[misc]
            assert found == [(number, name)]
    latin.dispose()


@pytest.mark.hub
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_transaction_that_ends_before_its_end_is_told(postgres: Engine, ends: str) -> None:
    def work(connection: Connection) -> None:
        next_one(connection)
        getattr(connection, ends)()

    with pytest.raises(DatabaseAway, match="has ended before"):
        write(postgres, work)
    assert numbers(postgres) == []


@pytest.mark.hub
def test_what_failed_and_was_passed_over_is_told_since_nothing_is_committed(postgres: Engine) -> None:
    def work(connection: Connection) -> None:
        next_one(connection)
        with suppress(IntegrityError):
            connection.execute(insert(uids).values(uid=1, user_name="again", given_at=0.0))

    write(postgres, next_one)
    with pytest.raises(DatabaseAway, match="has failed"):
        write(postgres, work)
    assert numbers(postgres) == [1]


@pytest.mark.hub
def test_an_interrupted_wait_ends_at_once_and_leaves_nothing(postgres: Engine) -> None:
    held, go = threading.Event(), threading.Event()

    def holds(connection: Connection) -> None:
        HIGHEST.all(connection, {})
        held.set()
        assert go.wait(20)

    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(write, postgres, holds)
        assert held.wait(10)
        main = threading.get_ident()
        threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            write(postgres, next_one)
        assert time.monotonic() - began < 5
        go.set()
        holder.result()
    write(postgres, next_one)
    assert numbers(postgres) == [1]


@pytest.mark.hub
def test_a_connection_keeps_no_more_than_some_plans(postgres: Engine) -> None:
    def work(connection: Connection) -> int:
        for number in range(130):
            assert Prepared(select(uids.c.uid + number)).all(connection, {}) == [(number + 1,)]
        return int(connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) or 0)

    write(postgres, next_one)
    assert 0 < write(postgres, work) <= 100
    write(postgres, next_one)
    assert numbers(postgres) == [1, 2]


@pytest.mark.hub
@pytest.mark.parametrize("when", ["at first", "before the end"])
def test_a_connection_that_breaks_at_either_end_writes_nothing_and_the_next_is_a_new_one(
    postgres: Engine, when: str
) -> None:
    other = connect(postgres.url.render_as_string(hide_password=False))
    write(postgres, next_one)

    def cut(connection: Connection) -> None:
        bare: Any = connection.connection.driver_connection
        with other.begin() as beside:
            beside.execute(text("SELECT pg_terminate_backend(:of)"), {"of": bare.info.backend_pid})
        time.sleep(0.2)

    def work(connection: Connection) -> None:
        if when == "at first":
            cut(connection)
        next_one(connection)
        cut(connection)

    with pytest.raises(DatabaseAway):
        write(postgres, work)
    assert numbers(postgres) == [1]
    write(postgres, next_one)
    assert numbers(postgres) == [1, 2]
    other.dispose()


@pytest.mark.hub
def test_where_the_server_shall_keep_no_plans_it_is_the_same(postgres_server: LazyServer) -> None:
    url = postgres_server.get().fresh_database()
    engine = connect(f"{url}{'&' if '?' in url else '?'}prepare_threshold=none")
    upgrade(engine)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(write, engine, next_one) for _ in range(20)]:
            done.result()
    assert numbers(engine) == list(range(1, 21))
    with pytest.raises(IntegrityError):
        write(engine, lambda connection: give(connection, 20, "again"))
    write(engine, lambda connection: connection.execute(update(uids).values(given_at=1.0)))
    engine.dispose()
