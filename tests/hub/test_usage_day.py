"""A day of 5,000 sessions with kills at random: the ledger says what the test itself saw, within a heartbeat a session.

The sessions are the test's: it knows when each began and ended. What is tested are the rows of the ledger, under all
that can happen to those who write them: transactions that die before they are committed, or are committed and never
answered; controllers that die and are followed by others some seconds later; hubs that die before they tell of an end,
so that only the controller finds it out; starts that were granted and never begun. On PostgreSQL a twentieth
of them; all of them too with ARMILLARY_ALL_STEPS=1.
"""

from __future__ import annotations

import heapq
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from sqlalchemy import Connection, event, select

from hub.controller.lease import CONTROLLER, StaleEpoch
from hub.db.tables import lease
from hub.db.tables import ledger as table
from hub.usage import ledger
from hub.usage.heart import BEAT_EVERY_S, Heart
from hub.usage.ledger import HEARTBEAT_S, LAST_BEAT, NOTICED, Ran
from hub.usage.reports import Scope, by_days, total
from hub.usage.windows import day_of
from tests.faults.admission_steps import ALL_STEPS
from tests.hub.usage_world import ROME, WEEK_S, Books, at, held

SESSIONS = 5_000
DAY_S = 86_400.0
TAKEOVER_S = 12.0
"""What the lease and the look of one that stands by take (`hub.controller`)."""
LOOK_S = 3.0
"""How often the controller sees what has ended."""


class Killed(BaseException):
    """A process was killed in the middle of a transaction."""


@dataclass
class Session:
    """A session as the test knows it; a start that never began has no `begun`."""

    key: str
    share: float
    begun: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.begun is None or self.ended is None else self.ended - self.begun


@dataclass
class Day:
    """The world of one day: things happen at moments, in order."""

    books: Books
    random: random.Random
    sessions: dict[str, Session] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    heart: Heart | None = None
    epoch: int = 0
    kills: int = 0
    replays: int = 0

    def at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (moment, next(self.numbers), what))

    def soon(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.books.clock.now + seconds, what)

    def go(self) -> None:
        while self.agenda:
            moment, _, what = heapq.heappop(self.agenda)
            if moment > self.books.clock.now:
                self.books.clock.set(moment)
            what()

    def store(self, work: Callable[[Connection], object]) -> None:
        """A transaction that may be killed before its commit, or after it, and then is done again by somebody."""
        fate = self.random.random()
        if fate < 0.02:
            with pytest.raises(Killed):
                self.books.write(lambda c: _killed(work, c))
            self.kills += 1
        elif fate < 0.04:
            self.books.write(work)  # and nobody heard of it
            self.replays += 1
        self.books.write(work)

    # Sessions

    def begin(self, key: str) -> None:
        session = Session(key, self.random.choice([0.0, 0.5, 1 / 7, 1.0, 2.0]))
        self.sessions[key] = session
        user, group = f"u{self.random.randrange(300)}", self.random.choice(["cms", "lhcb", "virgo"])
        asked = held(key, user, f"group:{group}", share=session.share, accelerator="t4" if session.share else None)
        self.store(lambda c: ledger.open(c, asked))
        self.held.add(key)
        if self.random.random() < 0.03:  # the hub died before it began the start: the hold expires
            self.soon(120, lambda: self.give_back(key, "expired", LAST_BEAT))
            return
        session.begun = self.books.clock.now
        self.running.add(key)
        self.soon(min(self.random.expovariate(1 / 1500), 6 * 3600), lambda: self.end(key))

    def end(self, key: str) -> None:
        self.sessions[key].ended = self.books.clock.now
        self.running.discard(key)
        if self.random.random() < 0.8:  # else the hub is dead, and the controller must find it out
            self.give_back(key, "stopped", None)

    def give_back(self, key: str, ended_as: str, moment: float | None) -> None:
        if key in self.held:
            self.held.discard(key)
            self.store(lambda c: ledger.close(c, [key], ended_as, moment))

    # The controller

    def lead(self) -> None:
        self.epoch += 1
        epoch = self.epoch
        if epoch > 1:
            self.books.write(lambda c: c.execute(lease.update().values(epoch=epoch)))
        else:
            self.books.write(
                lambda c: c.execute(lease.insert().values(name=CONTROLLER, epoch=1, renewals=0, holder="test"))
            )
        heart = Heart(self.books.engine, epoch, ROME, WEEK_S, clock=lambda: self.books.clock.now)
        self.heart = heart
        self.look(epoch)
        self.pulse(heart, epoch)
        self.soon(self.random.expovariate(1 / 2400), lambda: self.die(heart))

    def die(self, heart: Heart) -> None:
        """Kill −9; another takes over. Should the dead one have been asleep only, it must do nothing any more."""
        self.heart = None
        if self.busy:
            self.soon(self.random.uniform(2, TAKEOVER_S), self.lead)
            self.soon(self.random.uniform(TAKEOVER_S, 60), lambda: self.wake(heart))

    def wake(self, heart: Heart) -> None:
        with pytest.raises(StaleEpoch):
            heart.beat({key: Ran() for key in self.running})

    def look(self, epoch: int) -> None:
        """See what has ended, and what nobody has told."""
        if self.heart is None or epoch != self.epoch:
            return
        for key in [key for key in self.held if self.sessions[key].ended is not None]:
            self.give_back(key, "gone", NOTICED)
        if self.busy:
            self.soon(LOOK_S, lambda: self.look(epoch))

    def pulse(self, heart: Heart, epoch: int) -> None:
        if self.heart is not heart:
            return
        heart.beat({key: Ran("node-1", "lab:1", "sha256:0") for key in self.running})
        if self.busy:
            self.soon(BEAT_EVERY_S, lambda: self.pulse(heart, epoch))

    @property
    def busy(self) -> bool:
        return self.books.clock.now < DAY_END or bool(self.held)


def _killed(work: Callable[[Connection], object], connection: Connection) -> None:
    work(connection)
    raise Killed


BEGIN = at("2026-10-25T00:00")  # a day of 25 hours
DAY_END = BEGIN + DAY_S


@pytest.fixture
def day(database_url: str) -> Iterator[Day]:
    books = Books(database_url, BEGIN)

    if books.engine.dialect.name == "sqlite":
        # Nothing here is about power cuts: without waiting for the disk it takes a third of the time.
        @event.listens_for(books.engine, "connect")
        def _fast(connection: object, record: object) -> None:
            connection.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]

        books.engine.dispose()
    else:
        books.write(
            lambda c: c.exec_driver_sql("ALTER DATABASE " + c.scalar(select(_name())) + " SET synchronous_commit = off")
        )
        books.engine.dispose()
    yield Day(books, random.Random(20261025))
    books.close_engine()


def _name() -> object:
    from sqlalchemy import func

    return func.quote_ident(func.current_database())


@pytest.mark.hub
@pytest.mark.timeout(900)
def test_the_ledger_of_a_day_is_what_the_day_was(day: Day) -> None:
    sqlite = day.books.engine.dialect.name == "sqlite"
    # each statement goes over a socket there: the whole day takes four minutes
    sessions = SESSIONS if sqlite or os.environ.get(ALL_STEPS, "") == "1" else SESSIONS // 20
    for number in range(sessions):
        moment = BEGIN + day.random.random() * DAY_S * 0.97
        day.at(moment, lambda key=f"s{number}": day.begin(key))  # type: ignore[misc]
    day.lead()
    day.go()

    rows = {row.id: row for row in day.books.read(lambda c: c.execute(select(table)).all())}
    assert set(rows) == set(day.sessions)
    assert not [row.id for row in rows.values() if row.closed_at is None]
    off = {key: rows[key].seconds - session.seconds for key, session in day.sessions.items()}
    worst = max(off, key=lambda key: abs(off[key]))
    assert abs(off[worst]) <= HEARTBEAT_S, (worst, off[worst], rows[worst])
    # Whatever was not killed is exact, and that is most of it: nothing drifts.
    assert sum(1 for each in off.values() if abs(each) < 0.01) > 0.75 * sessions
    assert min(row.seconds for row in rows.values()) >= 0
    _sums_are_those_of_the_rows(day, [row.share * row.seconds for row in rows.values()])
    assert day.kills > 0.02 * sessions
    assert day.replays > 0.02 * sessions
    assert day.epoch > 10


def _sums_are_those_of_the_rows(day: Day, share_seconds: list[float]) -> None:
    """Nothing is in a sum that is in no row, and nothing twice."""
    day.books.fold()
    charged, spans, days = day.books.totals()
    assert spans == pytest.approx(charged, rel=1e-9)
    assert days == pytest.approx(charged, rel=1e-9)
    first, last = day_of(BEGIN, ROME), day_of(day.books.clock.now, ROME)
    told = total(day.books.read(lambda c: by_days(c, Scope(), first, last, ROME)))
    assert told.share_s == pytest.approx(sum(share_seconds), rel=1e-9)
    by_group = [day.books.used(f"group:{group}", "30d").get(("30d", ""), 0.0) for group in ("cms", "lhcb", "virgo")]
    by_user = [day.books.used(f"by:u{number}", "30d").get(("30d", ""), 0.0) for number in range(300)]
    assert sum(by_group) == pytest.approx(sum(share_seconds), rel=1e-9)
    assert sum(by_user) == pytest.approx(sum(share_seconds), rel=1e-9)
