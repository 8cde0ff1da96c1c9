"""Rows of the ledger: every second once, whatever the clock does and whoever dies; sums that are always those seconds."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from hub.db.tables import ledger as table
from hub.usage import ledger
from hub.usage.ledger import LAST_BEAT, LedgerProblem, Ran
from tests.hub.statements import statements
from tests.hub.usage_world import ROME, Books, at, held

NOON = at("2026-11-21T12:00:03")


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, NOON)
    yield made
    made.close_engine()


def test_a_session_is_charged_from_the_grant_to_its_end(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(40)
    assert books.beat("s") == 1
    books.clock.advance(10)
    assert books.close("s") == 1
    row = books.row("s")
    assert (row.opened_at, row.closed_at) == pytest.approx((NOON, NOON + 50), abs=1e-3)
    assert row.ended_as == "stopped"
    assert row.seconds == pytest.approx(50, abs=1e-3)
    assert (row.account, row.user_name, row.accelerator, row.share, row.memory) == (
        *("group:cms", "ann", "t4", 0.5),
        1 << 30,
    )
    for subject in ("group:cms", "by:ann"):
        assert books.used(subject, "day") == pytest.approx({("day", "t4"): 25, ("day", ""): 25}, abs=1e-3)
    assert books.used("user:ann", "day") == {}


def test_what_is_charged_to_nobody_in_particular_is_the_persons_own(books: Books) -> None:
    books.open(held("s", account=""))
    assert books.row("s").account == "user:ann"


def test_opening_twice_and_closing_twice_is_doing_it_once(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(30)
    assert books.write(lambda c: ledger.open(c, held("s", share=1.0))) is False
    assert (books.close("s", "other"), books.row("s").share) == (1, 0.5)
    books.clock.advance(30)
    assert books.close("s", ended_as="again") == 0
    assert books.write(lambda c: ledger.open(c, held("s"))) is False
    assert books.beat("s") == 0
    row = books.row("s")
    assert (row.ended_as, row.seconds) == ("stopped", pytest.approx(30, abs=1e-3))
    assert books.totals()[1] == pytest.approx(30, abs=1e-3)


def test_an_end_before_the_last_heartbeat_takes_nothing_back(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(60)
    books.beat("s")
    books.clock.advance(20)
    books.close("s", end=NOON + 50)
    assert (books.row("s").closed_at, books.row("s").seconds) == pytest.approx((NOON + 60, 60), abs=1e-3)


def test_an_end_that_is_known_is_the_end_and_none_is_later_than_now(books: Books) -> None:
    books.open(held("s"), held("t"))
    books.clock.advance(60)
    books.close("s", end=NOON + 42)
    books.close("t", end=NOON + 4200)
    assert (books.row("s").seconds, books.row("t").seconds) == pytest.approx((42, 60), abs=1e-3)


def test_what_nobody_saw_end_is_charged_up_to_when_it_was_last_seen(books: Books) -> None:
    books.open(held("s"), held("never-begun"))
    for _ in range(4):
        books.clock.advance(30)
        books.beat("s")
    books.clock.advance(7200)  # controller and hub are dead
    books.close("s", "never-begun", ended_as="gone", end=LAST_BEAT)
    assert books.row("s").seconds == pytest.approx(120, abs=1e-3)
    assert books.row("never-begun").seconds == 0
    assert books.totals()[1] == pytest.approx(120, abs=1e-3)


def test_what_ran_on_while_no_controller_did_is_charged_by_the_next_one(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(1800)
    assert books.used("group:cms", "day")["day", ""] == pytest.approx(
        900, abs=1e-3
    )  # not beaten yet, counted all the same
    books.beat("s")
    assert books.used("group:cms", "day")["day", ""] == pytest.approx(900, abs=1e-3)
    assert books.row("s").seconds == pytest.approx(1800, abs=1e-3)


@pytest.mark.parametrize(("lasted_s", "charged"), [(None, 0.0), (30.0, 30.0)])
def test_a_clock_that_is_set_back_charges_nothing_below_zero_and_nothing_twice(
    books: Books, lasted_s: float | None, charged: float
) -> None:
    books.open(held("s"))
    books.clock.advance(600)
    books.beat("s")
    books.clock.advance(30 - 3600)
    assert books.used("group:cms", "day")["day", ""] == pytest.approx(300, abs=1e-3)
    books.beat("s", lasted_s=lasted_s)
    assert books.row("s").seconds == pytest.approx(600 + charged, abs=1e-3)
    for _ in range(120):  # an hour again, by the same numbers
        books.clock.advance(30)
        books.beat("s", lasted_s=30)
    books.close("s")
    assert books.row("s").seconds == pytest.approx(600 + charged + 3600, abs=0.1)
    books.fold()
    assert books.totals() == pytest.approx((4200 + charged,) * 3, abs=0.1)


def test_a_close_after_the_clock_was_set_back_charges_nothing(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(600)
    books.beat("s")
    books.clock.advance(-3600)
    books.close("s")
    row = books.row("s")
    assert (row.seconds, row.closed_at) == pytest.approx((600, NOON + 600), abs=1e-3)
    assert row.opened_at <= row.closed_at


def test_a_clock_that_is_set_forward_charges_what_another_one_counted(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(30)
    books.beat("s")
    books.clock.advance(3630)
    books.beat("s", lasted_s=30)
    assert books.row("s").seconds == pytest.approx(60, abs=1e-3)


def test_without_an_accelerator_the_share_is_nothing_and_the_time_is_kept(books: Books) -> None:
    books.open(held("s", accelerator=None, count=0, share=0.0, account="user:ann"))
    books.clock.advance(3600)
    books.close("s")
    books.fold()
    assert books.row("s").accelerator == ""
    assert books.used("by:ann", "day") == {("day", ""): 0.0}
    assert books.totals() == pytest.approx((3600, 3600, 3600), abs=1e-2)


def test_a_row_over_midnight_and_the_end_of_the_month_is_cut_there(database_url: str) -> None:
    books = Books(database_url, at("2026-11-30T23:30"))
    books.open(held("s"))
    books.clock.set(at("2026-12-01T00:40"))
    assert books.used("group:cms", "day", "month")["month", ""] == pytest.approx(1200, abs=1e-2)
    books.beat("s")
    assert books.used("group:cms", "day", "month") == pytest.approx(
        {("day", "t4"): 1200, ("day", ""): 1200, ("month", "t4"): 1200, ("month", ""): 1200}, abs=1e-2
    )
    books.fold()
    assert books.days() == pytest.approx(
        {("2026-11-30", "group:cms"): 1800, ("2026-12-01", "group:cms"): 2400}, abs=1e-2
    )
    books.close_engine()


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_on_which_the_clocks_change_is_charged_as_long_as_it_is(database_url: str, day: str, hours: int) -> None:
    books = Books(database_url, at(f"{day}T00:00") - 7200)
    books.open(held("s"))
    for _ in range(60):
        books.clock.advance(1800)
        books.beat("s")
    books.fold()
    assert books.days()[day, "group:cms"] == pytest.approx(hours * 3600, abs=1e-2)
    books.close_engine()


def test_where_and_what_it_runs_is_noted_once_it_is_known(books: Books) -> None:
    books.open(held("s"), held("t"))
    books.clock.advance(30)
    books.write(lambda c: ledger.beat(c, {"s": Ran("n1", "lab:1", "sha256:aa"), "t": Ran()}))
    books.clock.advance(30)
    books.write(lambda c: ledger.beat(c, {"s": Ran(), "t": Ran(node="n2")}))
    s, t = books.row("s"), books.row("t")
    assert (s.node, s.image, s.digest) == ("n1", "lab:1", "sha256:aa")
    assert (t.node, t.image, t.digest) == ("n2", "", "")
    assert (s.seconds, t.seconds) == pytest.approx((60, 60), abs=1e-3)


def test_two_thousand_open_rows_are_beaten_by_few_statements(books: Books) -> None:
    keys = [f"s{number}" for number in range(2000)]
    books.write(lambda c: [ledger.open(c, held(key, user=f"u{key}", account=f"group:{key[-1]}")) for key in keys])
    books.clock.advance(30)
    with statements(books.engine) as sent:
        assert books.beat(*keys, "unknown") == 2000
    assert len(sent) < 30, sent
    assert books.totals()[:2] == pytest.approx((60_000, 60_000), abs=2)
    assert books.used("by:us7", "day")["day", "t4"] == pytest.approx(15, abs=1e-3)


def test_a_heartbeat_that_is_not_committed_is_none(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(30)

    def beat_and_die(connection: object) -> None:
        ledger.beat(connection, {"s": Ran()})  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        books.write(beat_and_die)
    assert (books.row("s").seconds, books.totals()[1]) == (0, 0)
    books.beat("s")
    assert books.totals()[:2] == pytest.approx((30, 30), abs=1e-3)


def test_open_rows_are_told_the_oldest_first(books: Books) -> None:
    books.open(held("b"))
    books.clock.advance(10)
    books.open(held("a"), held("c"))
    books.close("c")
    assert [row.id for row in books.read(ledger.opened)] == ["b", "a"]


# Corrections ---------------------------------------------------------------------------------------------------------


def test_a_correction_is_a_row_of_its_own_and_changes_every_sum(books: Books) -> None:
    books.open(held("s"))
    books.clock.advance(7200)
    books.close("s")
    before = books.row("s")
    books.fold()
    made = books.write(lambda c: ledger.correct(c, "s", -1800, "root: the node was down"))
    assert books.row("s")._mapping == {**before._mapping, "folded": True, "folded_s": before.seconds}
    row = books.row(made)
    assert (row.corrects, row.seconds, row.by, row.user_name) == ("s", -1800, "root: the node was down", "ann")
    assert books.used("group:cms", "day")["day", "t4"] == pytest.approx(2700, abs=1e-2)
    books.write(lambda c: ledger.correct(c, "s", -1800, "root: all of it"))
    books.write(lambda c: ledger.correct(c, "s", 600, "root: not all of it"))
    books.fold()
    books.fold()
    assert books.totals() == pytest.approx((4200, 4200, 4200), abs=1e-2)
    assert books.used("by:ann", "day", "30d")["30d", ""] == pytest.approx(2100, abs=1e-2)


def test_a_correction_takes_off_the_end_so_that_no_sum_falls_below_zero(database_url: str) -> None:
    books = Books(database_url, at("2026-11-20T23:00"))
    books.open(held("s"))
    books.clock.advance(7200)
    books.close("s")
    books.write(lambda c: ledger.correct(c, "s", -3600, "root"))
    books.write(lambda c: ledger.correct(c, "s", -1800, "root"))
    books.fold()
    assert books.days() == pytest.approx({("2026-11-20", "group:cms"): 1800, ("2026-11-21", "group:cms"): 0}, abs=1e-2)
    books.close_engine()


@pytest.mark.parametrize(
    ("seconds", "by", "said"),
    [
        (-62, "root", "62 s cannot be taken off"),
        (0, "root", "other than 0"),
        (float("nan"), "root", "other than 0"),
        (-1, " ", "who makes it"),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(books: Books, seconds: float, by: str, said: str) -> None:
    books.open(held("s"))
    books.clock.advance(60)
    with pytest.raises(LedgerProblem, match="still open"):
        books.write(lambda c: ledger.correct(c, "s", -1, "root"))
    books.close("s")
    with pytest.raises(LedgerProblem, match=said):
        books.write(lambda c: ledger.correct(c, "s", seconds, by))
    with pytest.raises(LedgerProblem, match="no row 'x'"):
        books.write(lambda c: ledger.correct(c, "x", -1, "root"))
    made = books.write(lambda c: ledger.correct(c, "s", -60, "root"))
    with pytest.raises(LedgerProblem, match="is a correction of 's'"):
        books.write(lambda c: ledger.correct(c, made, 60, "root"))


# Days ----------------------------------------------------------------------------------------------------------------


def test_days_are_folded_once_however_often_it_is_done_and_wherever_it_dies(books: Books) -> None:
    books.open(held("s"), held("t", user="ben", account="user:ben"))
    for _ in range(20):
        books.clock.advance(30)
        books.beat("s", "t")
        books.fold()
        with pytest.raises(KeyboardInterrupt):
            books.write(_fold_and_die)
    books.close("s", "t")
    assert books.fold() == 2
    assert books.fold() == 0
    assert books.totals() == pytest.approx((1200, 1200, 1200), abs=1e-2)
    assert books.read(lambda c: c.scalar(select(func.count()).where(table.c.folded))) == 2


def _fold_and_die(connection: object) -> None:
    from hub.usage.rollup import fold

    fold(connection, ROME, 1e6)  # type: ignore[arg-type]
    raise KeyboardInterrupt


def test_another_time_zone_counts_from_then_on(books: Books) -> None:
    books.clock.set(at("2026-11-21T23:00"))
    books.open(held("s"))
    books.clock.advance(1800)
    books.beat("s")
    books.fold()
    books.clock.advance(1800)
    books.close("s")
    books.fold(ZoneInfo("Asia/Tokyo"))
    assert books.days() == pytest.approx(
        {("2026-11-21", "group:cms"): 1800, ("2026-11-22", "group:cms"): 1800}, abs=1e-2
    )
