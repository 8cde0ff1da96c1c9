"""One look at every running session, and what is written down of it. Functions of a connection.

Everything that is found is written in one transaction, with its reasons: the announcement or the stop, the notice, the
entry in the audit trail. Doing it again changes nothing: whoever looks may die after any step, the next one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from hub import notices
from hub.admission import reservations
from hub.db.clock import Now
from hub.idle import sessions
from hub.idle.budgets import Charged, Payer, charged
from hub.idle.clerk import Clerk, Texts, end_of, payer, stopped_id, warning_id
from hub.idle.limits import rules_of
from hub.idle.policy import FRESH_S, OURS, Facts, Leave, Spent, Stop, Verdict, judge
from hub.idle.sessions import Known
from hub.settings import Settings
from profiles.model import Catalogue
from spawner.reservation import Reservation

__all__ = ["Ending", "Hints", "Seen", "look", "news", "questions", "settle", "verdict_of"]

_ASK_HUB_FROM = 0.5
"""Part of its limit after which the hub is asked about a session that does not measure itself."""

_DOOMED_S = 300.0
"""How long a stop that was decided is final; one that the hub could not carry out by then is judged anew."""


@dataclass(frozen=True)
class Hints:
    """What others than the database tell: by spawn id, for how long the hub has seen nobody use a session, and which
    accelerators work by Prometheus."""

    unused_s: Mapping[str, float] = field(default_factory=dict)
    working: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """What the database holds about running sessions at one moment."""

    now: float
    held: Mapping[str, Reservation]
    """Those of which something runs, by spawn id."""
    known: Mapping[str, Known]
    budgets: Mapping[Payer, tuple[Charged, ...]]
    gone: frozenset[str] = frozenset()
    """Sessions that are known and hold nothing any more."""
    doomed: frozenset[str] = frozenset()
    """Those of which it is written down that they are being stopped."""


@dataclass(frozen=True)
class Ending:
    """A session that the hub is to be asked to stop."""

    spawn_id: str
    user: str
    server: str
    because: str


def look(connection: Connection, settings: Settings, budgets: Mapping[Payer, tuple[Charged, ...]] | None) -> Seen:
    """Return what is known now.

    Parameters
    ----------
    budgets
        As they were read a moment ago; None: read them now.
    """
    held = reservations.all(connection)
    running = {one.id: one for one in held if one.seen and one.state == "begun"}
    if budgets is None:
        payers = {payer(one) for one in running.values() if one.share > 0}
        budgets = charged(connection, payers, settings.quotas.zone)
    now = float(connection.scalar(select(Now())) or 0.0)
    known = sessions.all(connection)
    late = {id for id, one in known.items() if one.stop_at is not None and 0 <= now - one.stop_at < _DOOMED_S}
    doomed = notices.present(connection, [stopped_id(id) for id in late])
    return Seen(
        now,
        running,
        known,
        budgets,
        gone=frozenset(known).difference(one.id for one in held),
        doomed=frozenset(id for id in late if stopped_id(id) in doomed),
    )


def questions(seen: Seen, settings: Settings) -> tuple[Reservation, ...]:
    """Return the sessions about which the hub must be asked: those that do not measure themselves and may be idle."""
    found = []
    for id, held in seen.held.items():
        known = seen.known.get(id)
        limit = rules_of(settings.idle, held).idle_s
        if known is None or known.ready_at is None or limit is None:
            continue
        fresh = known.measured_at is not None and seen.now - known.measured_at <= FRESH_S
        if not fresh and seen.now - known.active_at >= limit * _ASK_HUB_FROM:
            found.append(held)
    return tuple(found)


def settle(
    connection: Connection, before: Seen, hints: Hints, settings: Settings, catalogue: Catalogue, *, warn: bool = True
) -> tuple[Ending, ...]:
    """Write down what is new; return the sessions to be stopped now.

    Parameters
    ----------
    before
        What was seen a moment ago, outside of this transaction: its budgets are believed, all else is looked at again.
    warn
        Whether to look for budgets that are nearly used up, too.
    """
    fresh = {one.id: one for one in before.held.values() if one.id not in before.known}
    sessions.begin(connection, [(one.id, one.user, one.server) for one in fresh.values()])
    known = before.known
    sessions.ready(connection, [id for id in before.held if id in fresh or known[id].ready_at is None])
    sessions.works(connection, [id for id in hints.working if id in before.held])
    sessions.forget(connection, before.gone)
    notices.withdraw(connection, [warning_id(id, kind) for id in before.gone for kind in OURS])
    seen = look(connection, settings, before.budgets)
    clerk = Clerk(connection, seen.budgets, seen.now, settings, catalogue)
    endings = []
    for id, held in seen.held.items():
        if id not in seen.known:  # it was seen to run since
            continue
        current = clerk.length(held, seen.known[id])
        verdict = verdict_of(seen, held, current, clerk.spent(held), hints, settings)
        clerk.write(held, current, verdict)
        if warn:
            clerk.warn(held)
        if isinstance(verdict, Stop):
            endings.append(Ending(id, held.user, held.server, verdict.because))
    return tuple(endings)


def news(seen: Seen, hints: Hints, settings: Settings, catalogue: Catalogue) -> bool:
    """Whether there is something to write down: a look at what was read spares most transactions that write."""
    if seen.gone or hints.working:
        return True
    texts = Texts(seen.budgets, seen.now, settings, catalogue)
    for id, held in seen.held.items():
        known = seen.known.get(id)
        if known is None or known.ready_at is None or end_of(held, known, settings) != known.ends_at:
            return True
        if not isinstance(verdict_of(seen, held, known, texts.spent(held), hints, settings), Leave):
            return True
    return False


def verdict_of(
    seen: Seen, held: Reservation, known: Known, spent: tuple[Spent, ...], hints: Hints, settings: Settings
) -> Verdict:
    """Return what is to be done with one session."""
    if held.id in seen.doomed:
        # The hub was asked to stop it; what its programs do in their last seconds changes nothing any more.
        return Stop(known.stop_because)
    unused = hints.unused_s.get(held.id)
    facts = Facts(
        now=seen.now,
        ready_at=known.ready_at,
        active_at=known.active_at,
        measured_at=known.measured_at,
        hub_active_at=None if unused is None else seen.now - unused,
        ends_at=known.ends_at,
        spent=spent,
        stop_at=known.stop_at,
        stop_because=known.stop_because,
    )
    return judge(facts, rules_of(settings.idle, held))
