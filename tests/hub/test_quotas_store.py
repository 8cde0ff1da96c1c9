"""Limits in the database: nothing is lost or changed unseen, and every change is in the audit trail with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine, delete, insert, select

from hub.audit import Entry, recent
from hub.db.tables import audit
from hub.db.tables import quotas as table
from hub.db.transaction import read, write
from hub.quotas.amounts import parse_amount
from hub.quotas.model import QuotaRow, Quotas, parse_field
from hub.quotas.store import ABSENT, PRESENT, Changed, Declared, declare, etag, load, put, remove
from tests.hub.quota_world import FIELDS, quotas

T = TypeVar("T")
SERVERS = parse_field("servers")
ROOT = "user:root"


def do(database: Engine, work: Callable[..., T], *values: Any, **more: Any) -> T:
    """Run one function of the store in a transaction of its own."""
    return write(database, lambda connection: work(connection, *values, **more))


def trail(database: Engine) -> list[tuple[str, str, str, Any, Any]]:
    """Who did what to whom, the oldest first."""
    entries: tuple[Entry, ...] = read(database, recent)
    return [(entry.actor, entry.action, entry.subject, entry.before, entry.after) for entry in reversed(entries)]


def told(value: str, *, declared: bool = False, field: str = "servers") -> dict[str, Any]:
    """A limit as the audit trail tells it."""
    return {"field": field, "value": value, "declared": declared}


def test_what_is_set_is_found_again_and_audited_with_what_was_before(database: Engine) -> None:
    first = do(database, put, "default", SERVERS, Decimal(2), ROOT)
    second = do(database, put, "default", SERVERS, None, ROOT)
    assert read(database, load).rows == (second,)
    assert (second.value, second.declared, second.changed_by) == (None, False, ROOT)
    assert second.changed_at >= first.changed_at > 1_700_000_000
    gone = do(database, remove, "default", SERVERS, "user:eve")
    assert gone == second
    assert do(database, remove, "default", SERVERS, "user:eve") is None
    assert read(database, load) == Quotas()
    assert trail(database) == [
        (ROOT, "quota.set", "default", None, told("2")),
        (ROOT, "quota.set", "default", told("2"), told("unlimited")),
        ("user:eve", "quota.remove", "default", told("unlimited"), None),
    ]


def test_setting_what_is_set_already_is_no_change_in_the_trail(database: Engine) -> None:
    do(database, put, "default", SERVERS, Decimal(2), ROOT)
    do(database, put, "default", SERVERS, Decimal(2), "user:eve")
    assert len(trail(database)) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory", "8Pi"),
        ("memory", 9_007_199_254_740_991),
        ("hours:month", "999999999.999999"),
        ("accelerators", "0.000001"),
        ("cpu", "1m"),
        ("session_s", 0),
        ("jobs", "unlimited"),
    ],
)
def test_values_come_back_to_the_last_digit(field: str, value: object, database: Engine) -> None:
    parsed = parse_field(field)
    wanted = parse_amount(parsed, value)
    stored = do(database, put, "group:cms", parsed, wanted, ROOT)
    assert stored.value == wanted
    assert read(database, load).row("group:cms", field) == stored


def test_only_the_subjects_that_are_asked_for_are_read(database: Engine) -> None:
    for subject in ("default", "user:ann", "user:ben", "group:cms"):
        do(database, put, subject, SERVERS, Decimal(1), ROOT)
    some = read(database, lambda connection: load(connection, ["default", "user:ann", "user:none"]))
    assert some.subjects == ("default", "user:ann")
    assert read(database, lambda connection: load(connection, [])) == Quotas()
    many = [f"user:{number}" for number in range(1200)]
    assert read(database, lambda connection: load(connection, [*many, "group:cms"])).subjects == ("group:cms",)


# --- writers that do not know of each other ----------------------------------------------------------------------


def test_a_change_that_somebody_has_not_seen_is_not_overwritten(database: Engine) -> None:
    seen = do(database, put, "default", SERVERS, Decimal(2), ROOT, expected=ABSENT)
    now = do(database, put, "default", SERVERS, Decimal(3), "user:eve", expected=etag(seen))
    for work in (
        lambda: do(database, put, "default", SERVERS, Decimal(4), ROOT, expected=etag(seen)),
        lambda: do(database, put, "default", SERVERS, Decimal(4), ROOT, expected=ABSENT),
        lambda: do(database, remove, "default", SERVERS, ROOT, expected=etag(seen)),
    ):
        with pytest.raises(Changed) as refused:
            work()
        assert refused.value.now == now
    for expected in (PRESENT, etag(now)):
        with pytest.raises(Changed) as refused:
            do(database, remove, "user:nobody", SERVERS, ROOT, expected=expected)
        assert refused.value.now is None
    assert read(database, load).rows == (now,)
    assert do(database, remove, "default", SERVERS, ROOT, expected=PRESENT) == now


def test_of_many_who_have_seen_the_same_one_writes(database: Engine) -> None:
    seen = do(database, put, "default", SERVERS, Decimal(0), ROOT)

    def attempt(number: int) -> bool:
        try:
            do(database, put, "default", SERVERS, Decimal(number), f"user:{number}", expected=etag(seen))
        except Changed:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        written = [number for number, done in zip(range(1, 9), threads.map(attempt, range(1, 9)), strict=True) if done]
    assert len(written) == 1
    row = read(database, load).row("default", "servers")
    assert row is not None
    assert row.value == written[0]
    assert len(trail(database)) == 2


def test_a_mark_is_another_after_every_change() -> None:
    row = QuotaRow("default", SERVERS, Decimal(2), False, 5.0, ROOT)
    others = [
        QuotaRow("user:ann", SERVERS, Decimal(2), False, 5.0, ROOT),
        QuotaRow("default", parse_field("jobs"), Decimal(2), False, 5.0, ROOT),
        QuotaRow("default", SERVERS, None, False, 5.0, ROOT),
        QuotaRow("default", SERVERS, Decimal(2), True, 5.0, ROOT),
        QuotaRow("default", SERVERS, Decimal(2), False, 5.1, ROOT),
        QuotaRow("default", SERVERS, Decimal(2), False, 5.0, "user:eve"),
    ]
    assert len({etag(one) for one in (row, *others)}) == 7


def test_neither_the_change_nor_its_record_is_there_without_the_other(database: Engine) -> None:
    def fails(connection: Connection) -> None:
        put(connection, "default", SERVERS, Decimal(2), ROOT)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write(database, fails)
    assert read(database, load) == Quotas()
    assert trail(database) == []


# --- the file of quotas ------------------------------------------------------------------------------------------


def test_the_file_sets_changes_and_removes_what_is_its_own_and_leaves_the_rest(database: Engine) -> None:
    do(database, put, "user:ann", SERVERS, Decimal(9), ROOT)
    first = quotas({"default": {"servers": 2, "cpu": 4}, "group:cms": {"hours:week": 40}})
    assert do(database, declare, first, "file a.yaml") == (3, 0)
    assert do(database, declare, first, "file a.yaml") == (0, 0)
    second = quotas({"default": {"servers": 3}, "group:cms": {"hours:week": 40}})
    assert do(database, declare, second, "file a.yaml") == (1, 1)
    found = read(database, load)
    assert {(row.subject, row.field, row.value, row.declared) for row in found.rows} == {
        ("user:ann", "servers", 9, False),
        ("default", "servers", 3, True),
        ("group:cms", "hours:week", 40, True),
    }
    assert [entry[:4] for entry in trail(database)[-2:]] == [
        ("file a.yaml", "quota.declare", "default", told("2", declared=True)),
        ("file a.yaml", "quota.undeclare", "default", told("4", declared=True, field="cpu")),
    ]
    assert do(database, declare, Quotas(), "settings") == (0, 2)
    assert read(database, load).subjects == ("user:ann",)


def test_a_declared_limit_is_only_changed_by_who_says_that_it_is_known(database: Engine) -> None:
    do(database, declare, quotas({"default": {"servers": 2}}), "file a.yaml")
    row = read(database, load).row("default", "servers")
    assert row is not None
    with pytest.raises(Declared) as refused:
        do(database, put, "default", SERVERS, Decimal(5), ROOT, expected=etag(row))
    assert refused.value.row == row
    with pytest.raises(Declared):
        do(database, remove, "default", SERVERS, ROOT)
    changed = do(database, put, "default", SERVERS, Decimal(5), ROOT, although_declared=True)
    assert (changed.value, changed.declared) == (5, False)
    assert trail(database)[-1] == (ROOT, "quota.set", "default", told("2", declared=True), told("5"))


def test_the_file_wins_at_the_next_start(database: Engine) -> None:
    file = quotas({"default": {"servers": 2}})
    do(database, declare, file, "file a.yaml")
    do(database, put, "default", SERVERS, Decimal(2), ROOT, although_declared=True)
    assert do(database, declare, file, "file a.yaml") == (1, 0)
    do(database, remove, "default", SERVERS, ROOT, although_declared=True)
    assert do(database, declare, file, "file a.yaml") == (1, 0)
    row = read(database, load).row("default", "servers")
    assert row is not None
    assert (row.declared, row.value, row.changed_by) == (True, 2, "file a.yaml")


def test_ten_thousand_people_with_limits_cost_one_person_nothing(database: Engine) -> None:
    rows = [
        {
            "subject": f"user:{number}",
            "field": field,
            "value": 1.0,
            "declared": False,
            "changed_at": 0.0,
            "changed_by": ROOT,
        }
        for number in range(10_000)
        for field in FIELDS[:3]
    ]
    write(database, lambda connection: connection.execute(insert(table), rows))
    read_rows = read(database, lambda connection: load(connection, ["default", "user:77"])).rows
    assert len(read_rows) == 3
    plan = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[database.dialect.name]
    query = select(table).where(table.c.subject.in_(["default", "user:77"]))
    compiled = str(query.compile(database, compile_kwargs={"literal_binds": True}))
    if database.dialect.name == "postgresql":
        write(database, lambda connection: connection.exec_driver_sql("ANALYZE quotas"))
    said = read(database, lambda connection: [str(row) for row in connection.exec_driver_sql(plan + compiled)])
    assert "index" in " ".join(said).lower()
    write(database, lambda connection: connection.execute(delete(table)))


# --- the audit trail ---------------------------------------------------------------------------------------------


def test_the_trail_is_read_in_pages_and_by_who_what_and_whom(database: Engine) -> None:
    for number in range(5):
        do(database, put, "default", SERVERS, Decimal(number), "user:a" if number % 2 else "user:b")
    do(database, remove, "default", SERVERS, "user:a")
    do(database, put, "user:ann", SERVERS, Decimal(1), "user:b")

    def actions(**wanted: Any) -> list[str]:
        return [entry.action for entry in read(database, lambda connection: recent(connection, **wanted))]

    assert actions(action="quota.remove") == ["quota.remove"]
    assert len(actions(action="quota.")) == 7
    assert actions(action="quota") == []
    assert len(actions(actor="user:b")) == 4
    assert len(actions(subject="user:ann")) == 1
    assert len(actions(limit=0)) == 1
    pages: list[int] = []
    older: int | None = None
    while page := read(database, lambda connection, older=older: recent(connection, older_than=older, limit=3)):  # type: ignore[misc]
        pages += [entry.id for entry in page]
        older = page[-1].id
    assert len(pages) == 7
    assert pages == sorted(pages, reverse=True)


def test_a_value_that_is_too_long_is_cut_and_stays_readable(database: Engine) -> None:
    from hub.audit import record

    write(
        database,
        lambda connection: record(connection, "controller", "x", "y", {"a": "\x00é" * 10_000}, {"b": Decimal("1.5")}),
    )
    [entry] = read(database, recent)
    assert set(entry.before) == {"cut"}
    assert len(entry.before["cut"]) == 8192
    assert entry.after == {"b": "1.5"}
    assert read(database, lambda connection: connection.scalar(select(audit.c.actor))) == "controller"
