"""The controller's heartbeat: only of the one that leads, right whatever the clocks do, and caught up with afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from sqlalchemy.exc import OperationalError

from hub.admission import reservations
from hub.controller.lease import Lease, StaleEpoch
from hub.controller.loop import Publisher
from hub.controller.status import Status
from hub.settings.quotas import QuotaSettings
from hub.usage import heart as module
from hub.usage.heart import Heart, follow
from hub.usage.ledger import HEARTBEAT_S, Ran
from hub.usage.rollup import FOLD_EVERY_S
from tests.hub.test_publish import FULL
from tests.hub.usage_world import ROME, WEEK_S, Books, at, held


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, at("2026-11-21T12:00"))
    yield made
    made.close_engine()


class Steady:
    """A clock that nobody sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lead(books: Books) -> int:
    return Lease(books.engine, "me", 60).try_acquire() or 0


def test_it_charges_and_folds_every_few_minutes(books: Books) -> None:
    clock = Steady()
    heart = Heart(books.engine, lead(books), ROME, WEEK_S, clock=clock)
    books.open(held("s"))
    for _ in range(41):
        heart.beat({"s": Ran("n1")})
        books.clock.advance(15)
        clock.now += 15
    charged, _, days = books.totals()
    assert charged == pytest.approx(600, abs=0.1)
    assert FOLD_EVERY_S == 300
    assert days == pytest.approx(600, abs=0.1)
    assert books.row("s").node == "n1"


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_database_clock_that_is_set_changes_nothing(books: Books, jump_s: float) -> None:
    clock = Steady()
    heart = Heart(books.engine, lead(books), ROME, WEEK_S, clock=clock)
    books.open(held("s"))
    for number in range(9):
        heart.beat({"s": Ran()})
        books.clock.advance(15 + (jump_s if number == 4 else 0))
        clock.now += 15
    books.close("s")
    assert books.row("s").seconds == pytest.approx(9 * 15, abs=0.1)


def test_what_was_not_seen_for_a_while_is_caught_up_with(books: Books) -> None:
    clock = Steady()
    heart = Heart(books.engine, lead(books), ROME, WEEK_S, clock=clock)
    books.open(held("s"), held("t"))
    for number in range(20):
        heart.beat({"s": Ran(), **({"t": Ran()} if number in (0, 19) else {})})
        books.clock.advance(15)
        clock.now += 15
    assert (books.row("s").seconds, books.row("t").seconds) == pytest.approx((285, 285), abs=0.1)


def test_one_that_leads_no_more_charges_nothing(books: Books) -> None:
    heart = Heart(books.engine, lead(books) + 1, ROME, WEEK_S)
    books.open(held("s"))
    books.clock.advance(15)
    with pytest.raises(StaleEpoch):
        heart.beat({"s": Ran()})
    assert books.row("s").seconds == 0


def test_a_heartbeat_that_failed_is_caught_up_with(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Steady()
    heart = Heart(books.engine, lead(books), ROME, WEEK_S, clock=clock)
    books.open(held("s"))
    heart.beat({"s": Ran()})
    usual = module.fenced
    monkeypatch.setattr(module, "fenced", _away)
    for _ in range(10):
        books.clock.advance(15)
        clock.now += 15
        with pytest.raises(OSError, match="away"):
            heart.beat({"s": Ran()})
    monkeypatch.setattr(module, "fenced", usual)
    heart.beat({"s": Ran()})
    assert books.row("s").seconds == pytest.approx(150, abs=0.1)


def _away(*words: object) -> int:
    raise OSError("the database is away")


@dataclass
class Knows:
    """What a controller knows of itself."""

    running: Mapping[str, Ran] | None
    publish_age_s: float | None = 0.0
    said: list[str] = field(default_factory=list)

    def report(self, problem: str, log: logging.Logger) -> None:
        self.said.append(problem)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


async def test_it_beats_while_it_can_be_seen_what_runs(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    books.open(held("s"))
    knows, stop = Knows(None), asyncio.Event()
    task = asyncio.create_task(follow(books.engine, QuotaSettings(), knows, lead(books), stop, 0.01))
    try:
        await asyncio.sleep(0.1)
        books.clock.advance(20)
        knows.publish_age_s, knows.running = 60.0, {"s": Ran()}
        await asyncio.sleep(0.1)
        assert books.row("s").seconds == 0  # neither blind nor by old counts
        knows.publish_age_s = 1.0
        await until(lambda: books.row("s").seconds > 19)
        monkeypatch.setattr(module, "fenced", _away)
        await until(lambda: knows.said != [])
        assert knows.said[0] == "the ledger could not be written: the database is away"
        monkeypatch.undo()
        books.clock.advance(20)
        await until(lambda: books.row("s").seconds > 39)
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def test_it_ends_when_another_leads(books: Books) -> None:
    with pytest.raises(StaleEpoch):
        await follow(books.engine, QuotaSettings(), Knows({}), lead(books) + 1, asyncio.Event())


async def test_what_is_published_is_what_is_charged(books: Books) -> None:
    status = Status(10.0)
    publisher = Publisher(books.engine, lead(books), status)
    books.write(lambda c: [reservations.insert(c, held(key), expires_in_s=600) for key in ("s", "t", "never")])
    await publisher.publish(FULL, seen=["s", "t"])
    assert status.running is None  # the API server is away
    clear = FULL.__class__("local", FULL.taken_at, {})
    await publisher.publish(clear, seen=["s", "t"], ran={"s": Ran("n1")})
    assert status.running == {"s": Ran("n1"), "t": Ran()}
    books.clock.advance(10)
    Heart(books.engine, 1, ROME, WEEK_S).beat(status.running)
    books.clock.advance(10)
    await publisher.publish(clear, seen=["t"], gone=["s"])
    books.clock.advance(590)
    await publisher.publish(clear, gone=["t"])  # whoever should have looked was dead
    s, t, never = (books.row(key) for key in ("s", "t", "never"))
    assert s.seconds == pytest.approx(20, abs=0.1)
    assert t.seconds == pytest.approx(10 + HEARTBEAT_S, abs=0.1)
    assert (never.seconds, never.ended_as) == (0, "expired")
    assert (s.ended_as, status.running) == ("gone", {})


async def test_a_database_error_of_any_kind_is_said(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: object) -> int:
        raise OperationalError("", None, Exception("disk I/O error"))

    monkeypatch.setattr(module, "fenced", broken)
    knows, stop = Knows({}), asyncio.Event()
    task = asyncio.create_task(follow(books.engine, QuotaSettings(), knows, 1, stop))
    await until(lambda: knows.said != [])
    stop.set()
    await asyncio.wait_for(task, 30)
    assert "disk I/O error" in knows.said[0]
