"""Sums are what the plainest count of the sessions' times gives, at any moment, for any window; and they are cheap."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import date

import pytest
from sqlalchemy import Connection, insert, text

from hub.db.tables import ledger as table
from hub.db.tables import usage_spans
from hub.usage import ledger
from hub.usage.charges import add_up
from hub.usage.ledger import Ran
from hub.usage.reports import Scope, by_days, total
from hub.usage.sums import decayed, share_seconds, used, used_by_each
from hub.usage.windows import QUARTER_S, WINDOWS, bounds, day_start, days_of
from tests.hub.statements import statements
from tests.hub.usage_world import ROME, WEEK_S, Books, at, held, overlap

KINDS = {"t4": 1.0, "a100-1g.5gb": 1 / 7, "": 0.0}
USERS = ("ann", "ben", "cid", "dan")


class History:
    """Sessions at random over some days, and their times as the test itself knows them."""

    def __init__(self, books: Books, seed: int) -> None:
        self.books = books
        self.random = random.Random(seed)
        self.begun: dict[str, float] = {}
        self.times: dict[str, tuple[str, str, str, list[tuple[float, float]]]] = {}

    def step(self) -> None:
        now = self.books.clock.now
        running = list(self.begun)
        match self.random.choice(["open", "open", "beat", "beat", "close", "fold"]):
            case "open" if len(running) < 12:
                self.open(f"s{len(self.times)}")
            case "close" if running:
                key = self.random.choice(running)
                self.books.close(key)
                self.times[key][3].append((self.begun.pop(key), now))
            case "fold":
                self.books.fold()
            case _:
                self.books.beat(*(key for key in running if self.random.random() < 0.8))
        self.books.clock.advance(self.random.choice([0, 30, 30, 450, 3000, 20_000]) * self.random.random())

    def open(self, key: str) -> None:
        user, kind = self.random.choice(USERS), self.random.choice(list(KINDS))
        account = self.random.choice([f"user:{user}", "group:cms", "group:lhcb"])
        count = 1 if kind else 0
        self.books.open(held(key, user, account, accelerator=kind or None, count=count, share=KINDS[kind]))
        self.begun[key] = self.books.clock.now
        self.times[key] = (user, account, kind, [])

    def expected(self, subject: str, since: float, until: float) -> dict[str, float]:
        """Share-seconds by kind, and of all."""
        found = {"": 0.0}
        for key, (user, account, kind, times) in self.times.items():
            if subject not in (account, f"by:{user}"):
                continue
            now = [(self.begun[key], self.books.clock.now)] if key in self.begun else []
            seconds = overlap([*times, *now], since, until) * KINDS[kind]
            found[""] += seconds
            if kind:
                found[kind] = found.get(kind, 0.0) + seconds
        return found


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, at("2026-10-23T09:13:20"))  # the clocks change on the 25th
    yield made
    made.close_engine()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_window_of_every_subject_is_what_a_plain_count_gives(books: Books, seed: int) -> None:
    history = History(books, seed)
    for number in range(240):
        history.step()
        if number % 20:
            continue
        now = books.clock.now
        for subject in ("group:cms", "user:ann", "by:ben", "group:nobody"):
            found = books.used(subject, *WINDOWS)
            for window in WINDOWS:
                expected = history.expected(subject, bounds(window, now, ROME).since, now)
                for kind, seconds in expected.items():
                    assert found.get((window, kind), 0.0) == pytest.approx(seconds, abs=0.5), (subject, window, kind)


def test_any_time_that_is_over_is_what_a_plain_count_gives(books: Books) -> None:
    history = History(books, 7)
    begin = books.clock.now
    for _ in range(300):
        history.step()
    chosen = random.Random(8)
    for _ in range(60):
        first, second = sorted(chosen.uniform(begin - 86_400, books.clock.now + 86_400) for _ in range(2))
        since, until = (moment // QUARTER_S * QUARTER_S for moment in (first, second))
        for subject in ("group:cms", "by:ann"):
            found = books.read(lambda c, s=subject, a=since, b=until: share_seconds(c, s, a, b))
            for kind, seconds in history.expected(subject, since, until).items():
                assert found.get(kind, 0.0) == pytest.approx(seconds, abs=0.5)


def test_days_are_what_a_plain_count_gives_folded_or_not(books: Books) -> None:
    history = History(books, 11)
    first = date(2026, 10, 23)
    for number in range(200):
        history.step()
        if number % 50 == 49:
            last = date.fromtimestamp(books.clock.now + 86_400)
            found = books.read(lambda c, to=last: by_days(c, Scope(), first, to, ROME))
            assert {use.key: use.share_s for use in found if use.share_s} == pytest.approx(
                {key: value for key, value in plain_days(history).items() if value}, abs=0.5
            )
    mine = books.read(lambda c: by_days(c, Scope("ann", "group:cms"), first, last, ROME, ("accelerator",)))
    assert total(mine).session_s == pytest.approx(
        sum(
            overlap(times, 0, math.inf)
            for user, account, _, times in whole(history)
            if (user, account) == ("ann", "group:cms")
        ),
        abs=1,
    )
    [everything] = books.read(lambda c: by_days(c, Scope(), first, last, ROME, ()))
    assert everything.session_s == pytest.approx(
        sum(overlap(times, 0, math.inf) for *_, times in whole(history)), abs=1
    )
    assert books.read(lambda c: by_days(c, Scope("nobody"), first, last, ROME)) == []


def whole(history: History) -> list[tuple[str, str, str, list[tuple[float, float]]]]:
    now = history.books.clock.now
    return [
        (user, account, kind, [*times, *([(history.begun[key], now)] if key in history.begun else [])])
        for key, (user, account, kind, times) in history.times.items()
    ]


def plain_days(history: History) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for user, account, kind, times in whole(history):
        for since, until in times:
            for day, begin, end in days_of(since, until, ROME):
                key = (day.isoformat(), account, user, kind)
                found[key] = found.get(key, 0.0) + (end - begin) * KINDS[kind]
    return found


def test_older_use_counts_half_after_each_half_life(books: Books) -> None:
    books.open(held("old", share=1.0), held("other", user="ben", account="user:ben", share=1.0))
    books.clock.advance(3600)
    books.close("old", "other")
    books.fold()
    one = books.read(lambda c: decayed(c, WEEK_S))
    assert one == pytest.approx({"group:cms": 3600, "user:ben": 3600}, rel=0.01)
    books.clock.advance(WEEK_S)
    books.open(held("new", share=1.0))
    books.clock.advance(3600)
    books.close("new")
    books.fold()
    assert books.read(lambda c: decayed(c, WEEK_S, ["group:cms"])) == pytest.approx({"group:cms": 5400}, rel=0.01)
    assert books.read(lambda c: decayed(c, WEEK_S))["user:ben"] == pytest.approx(1800, rel=0.01)
    books.clock.advance(-2 * WEEK_S)  # nothing grows when the clock is set back
    assert books.read(lambda c: decayed(c, WEEK_S))["group:cms"] == pytest.approx(5400, rel=0.01)


def test_how_often_it_is_folded_changes_nothing(database_url: str) -> None:
    books = Books(database_url, at("2026-11-21T10:00"))
    books.open(held("s", share=1.0))
    for number in range(100):
        books.clock.advance(3600)
        books.beat("s")
        if number % 7 == 0:
            books.fold()
    books.fold()
    rate = math.log(2) / WEEK_S
    exact = -math.expm1(-rate * 360_000) / rate
    assert books.read(lambda c: decayed(c, WEEK_S))["group:cms"] == pytest.approx(exact, rel=1e-6)
    books.close_engine()


def test_a_correction_lowers_the_decayed_use_and_never_below_nothing(books: Books) -> None:
    books.open(held("s", share=1.0))
    books.clock.advance(3600)
    books.close("s")
    books.fold()
    books.write(lambda c: ledger.correct(c, "s", -3600, "root"))
    books.fold()
    assert books.read(lambda c: decayed(c, WEEK_S))["group:cms"] == pytest.approx(0, abs=1)


def test_two_subjects_and_all_windows_are_two_statements(books: Books) -> None:
    books.open(held("s"))
    with statements(books.engine) as sent:
        books.read(lambda c: used_by_each(c, {"group:cms": WINDOWS, "by:ann": WINDOWS}, ROME))
    assert len([one for one in sent if one.startswith("SELECT")]) == 2
    assert books.read(lambda c: used_by_each(c, {}, ROME)) == {}
    assert books.read(lambda c: used(c, "by:ann", [], ROME)) == {}


def test_no_sum_reads_a_whole_table(tmp_path: object) -> None:
    books = Books(f"sqlite:///{tmp_path}/state/a.sqlite", at("2026-11-21T10:00"))
    fill(books)
    with statements(books.engine) as sent:
        books.read(lambda c: used_by_each(c, {"group:cms": WINDOWS, "by:ann": WINDOWS}, ROME))
        books.read(lambda c: share_seconds(c, "group:cms", day_start(date(2026, 11, 2), ROME), at("2026-11-09T00:00")))
        books.read(ledger.opened)
        books.write(lambda c: ledger.beat(c, {"open-1": Ran()}))
    plans = books.read(lambda c: [line for one in sent if "ledger" in one or "spans" in one for line in plan(c, one)])
    assert len(plans) > 20
    assert not [
        line
        for line in plans
        if line.startswith("SCAN") and ("ledger" in line or "spans" in line) and "USING INDEX" not in line
    ]
    books.close_engine()


def fill(books: Books) -> None:
    """A history by which the planner has something to choose."""

    def work(connection: Connection) -> None:
        now = books.clock.now
        empty = dict.fromkeys(("server", "image", "digest", "node", "by", "ended_as"), "")
        opened = {
            **empty,
            "profile": "lab",
            "accelerator": "t4",
            "count": 1,
            "share": 1.0,
            "folded_s": 0.0,
            "seconds": 900.0,
        }
        rows = []
        for number in range(3000):
            since = now - 900 * number
            end = None if number < 20 else since + 900
            row = {"id": f"open-{number}", "user_name": USERS[number % 4], "account": "group:cms", "opened_at": since}
            rows.append({**opened, **row, "beat_at": since, "closed_at": end, "folded": end is not None})
        connection.execute(insert(table), rows)
        quarter = int(now // QUARTER_S)
        found = {("group:cms", 1, quarter - number, "t4"): [900.0] * 3 for number in range(3000)}
        add_up(connection, usage_spans, found)

    books.write(work)


def plan(connection: Connection, statement: str) -> list[str]:
    if not statement.startswith(("SELECT", "UPDATE")):
        return []
    asked = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?"))
    return [str(row[3]) for row in asked]


def test_the_small_index_of_postgresql_is_used(database_url: str) -> None:
    books = Books(database_url, at("2026-11-21T10:00"))
    fill(books)
    if books.engine.dialect.name == "sqlite":
        plans = books.read(lambda c: plan(c, "SELECT id FROM ledger WHERE folded IS 0 AND account = ?"))
    else:
        with books.engine.begin() as connection:
            connection.execute(text("ANALYZE"))
        query = "EXPLAIN SELECT id FROM ledger WHERE folded IS false AND account = 'group:cms'"
        plans = books.read(lambda c: [str(row[0]) for row in c.execute(text(query))])
    assert "ix_ledger_account" in plans[0] or "ix_ledger_account" in plans[-1], plans
    assert "ix_ledger_account_opened_at" not in "".join(plans)
    books.close_engine()
