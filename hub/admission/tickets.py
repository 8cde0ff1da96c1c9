"""The table of tickets: places in the queue. Functions of a connection: whoever calls them has the transaction.

A ticket is *waiting* until the controller (or, where nothing has to be waited for, the door itself) reserves for it;
then it is *starting* until its server is up or has failed, and then it is *ended* or waits again. Of one server there
is at most one ticket that has not ended. Who sees to a starting ticket says so by moving `not_before` on; one that
nobody has seen to for that long is taken over by the controller.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from hub.db.clock import Now
from hub.db.prepared import Prepared, Step, run_together
from hub.db.tables import reservations as held_table
from hub.db.tables import tickets as table
from spawner.reservation import Reservation

__all__ = [
    "EndedAs",
    "Moment",
    "State",
    "Ticket",
    "adopt",
    "change",
    "end",
    "find",
    "forget",
    "insert",
    "inserting",
    "lapse",
    "logged_in",
    "move",
    "number_starting",
    "number_waiting",
    "of_ids",
    "of_server",
    "of_user",
    "open_ones",
    "promote",
    "put_back",
    "renew",
    "restarted",
    "set_back",
    "starting",
    "turn_back",
    "waiting",
]

State = Literal["waiting", "starting", "ended"]
EndedAs = Literal["started", "left", "cancelled", "refused", "failed", "lapsed"]

_OPEN = ("waiting", "starting")

# Every decision asks these: a statement that is made once is not put together each time.
_ORDER = (table.c.priority.desc(), table.c.rank, table.c.id)
_OF_ID = select(table).where(table.c.id == bindparam("ticket"))
_OF_SERVER = (
    select(table)
    .where(table.c.user_name == bindparam("user"), table.c.state.in_(_OPEN), table.c.server == bindparam("named"))
    .order_by(*_ORDER)
)
_STILL_THERE = select(held_table.c.id).where(held_table.c.id == table.c.replaces).exists()
_TAKES_A_SLOT = and_(table.c.state == "starting", table.c.replaces.is_(None) | ~_STILL_THERE)
_SLOTS_TAKEN = select(func.count()).select_from(table).where(_TAKES_A_SLOT)
_BATCH = 500


@dataclass(frozen=True)
class Ticket:
    """A place in the queue, as the table has it; moments are seconds since 1970 by the database's clock.

    `options` are those of the request, `account` is what will be charged, `share` is of whole cards, all of the count
    together. Within a `priority` (higher first) a lower `rank` goes first: the moment of asking, unless an
    administrator moved it. `spawn_id` names the reservation of a starting ticket, `replaces` the session that it is
    switched from. `not_before`: no start of a waiting one before this moment; a starting one is seen to until then.
    `said` is why it waits, or how it ended, for its owner.
    """

    id: str
    user: str
    server: str
    profile: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    account: str = ""
    accelerator: str | None = None
    count: int = 0
    cpu_m: int | None = None
    memory: int | None = None
    share: float = 0.0
    session_s: float | None = None
    priority: int = 0
    rank: float = 0.0
    state: State = "waiting"
    spawn_id: str | None = None
    attempts: int = 0
    not_before: float = 0.0
    needs_login: bool = False
    replaces: str | None = None
    notify: bool = False
    asked_at: float = 0.0
    changed_at: float = 0.0
    ended_at: float | None = None
    ended_as: EndedAs | None = None
    said: str = ""


def waiting(connection: Connection) -> tuple[Ticket, ...]:
    """Return the tickets that wait, the highest priority and the lowest rank first."""
    return _of(connection, table.c.state == "waiting")


def starting(connection: Connection) -> tuple[Ticket, ...]:
    """Return the tickets whose servers are being started."""
    return _of(connection, table.c.state == "starting")


def open_ones(connection: Connection) -> tuple[Ticket, ...]:
    """Return all that have not ended."""
    return _of(connection, table.c.state.in_(_OPEN))


def of_user(connection: Connection, user: str) -> tuple[Ticket, ...]:
    """Return this person's tickets that have not ended."""
    return _of(connection, and_(table.c.user_name == user, table.c.state.in_(_OPEN)))


def of_server(connection: Connection, user: str, server: str) -> Ticket | None:
    """Return the ticket of this server that has not ended."""
    return next(iter(_tickets(connection.execute(_OF_SERVER, {"user": user, "named": server}))), None)


def find(connection: Connection, ticket_id: str) -> Ticket | None:
    """Return this ticket, also after its end."""
    return next(iter(_tickets(connection.execute(_OF_ID, {"ticket": ticket_id}))), None)


def of_ids(connection: Connection, ids: Collection[str]) -> tuple[Ticket, ...]:
    """Return those of these that there are."""
    ordered = sorted(ids)
    batches = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
    return tuple(ticket for batch in batches for ticket in _of(connection, table.c.id.in_(batch)))


def insert(connection: Connection, ticket: Ticket, *, seen_to_s: float = 0.0, after: Moment | None = None) -> Ticket:
    """Store a new ticket and return it with its moments; its rank is the moment of asking, behind all that wait.

    Parameters
    ----------
    seen_to_s
        For one that is starting already: for how long whoever stores it sees to it.
    after
        The present moment, where the caller has asked for it in this transaction; None: it is read here.
    """
    stored, step = inserting(ticket, after or _moment(connection), seen_to_s=seen_to_s)
    run_together(connection, [step])
    return stored


def inserting(ticket: Ticket, after: Moment, *, seen_to_s: float = 0.0) -> tuple[Ticket, Step]:
    """Return a new ticket with its moments, and what stores it; parameters as of `insert`."""
    now, last = after
    options = json.dumps(dict(ticket.options))
    stored = replace(
        ticket,
        options=json.loads(options),
        rank=now if last is None or last < now else last + _NEXT,
        attempts=0,
        not_before=now + seen_to_s,
        needs_login=False,
        asked_at=now,
        changed_at=now,
    )
    columns = {**vars(stored), "user_name": stored.user, "options": options}
    del columns["user"]
    return stored, (_INSERT, columns)


class Moment(NamedTuple):
    """Now, by the database's clock, and the highest rank of those who wait; None: nobody does."""

    now: float
    last_rank: float | None


def _moment(connection: Connection) -> Moment:
    row = connection.execute(_MOMENT).one()
    return Moment(row[0], row[1])


def _last_rank() -> ColumnElement[float]:
    """The present moment; where the clock was set back, just behind the last that waits, so that nobody is passed."""
    return case((_last >= Now(), _last + _NEXT), else_=Now())


_NEXT = 0.001
_others = table.alias()
_last = select(func.max(_others.c.rank)).where(_others.c.state == "waiting").scalar_subquery()
_MOMENT = select(Now(), _last)
_INSERT = Prepared(insert_into(table))


def set_back(connection: Connection, seconds: float) -> int:
    """Let what was noted before the database's clock was set back by so much hold for as long as it was meant to.

    Of who was made to wait, and of who sees to a start. Ranks stay: they are compared with each other.
    """
    later = update_of(table).where(table.c.state.in_(_OPEN), table.c.changed_at > Now())
    # Whoever sees to a start may have said so by the new clock already.
    until = case((table.c.not_before > Now() + seconds / 2, table.c.not_before - seconds), else_=table.c.not_before)
    return connection.execute(later.values(changed_at=table.c.changed_at - seconds, not_before=until)).rowcount


def change(connection: Connection, ticket: Ticket, *, keeps_place: bool) -> Ticket:
    """Store another request of a waiting ticket, and what is said; without its place it goes to the end, and has no
    priority any more.

    It may start at once, whatever it was made to wait for, but for a login.
    """
    rank = {} if keeps_place else {"rank": _last_rank(), "priority": 0}
    changed = update_of(table).where(table.c.id == ticket.id, table.c.state == "waiting")
    connection.execute(
        changed.values(
            **_request_of(ticket),
            **rank,
            notify=ticket.notify,
            replaces=ticket.replaces,
            attempts=0,
            not_before=0.0,
            changed_at=Now(),
            said=ticket.said,
        )
    )
    return _stored(connection, ticket.id)


def promote(connection: Connection, ticket_id: str, spawn_id: str, *, seen_to_s: float) -> bool:
    """Note that what it needs is reserved under this spawn id; return False if it did not wait any more."""
    waits = update_of(table).where(table.c.id == ticket_id, table.c.state == "waiting")
    values = {"state": "starting", "spawn_id": spawn_id, "not_before": Now() + seen_to_s, "changed_at": Now()}
    return connection.execute(waits.values(**values)).rowcount == 1


def renew(connection: Connection, ids: Collection[str], *, seen_to_s: float) -> None:
    """Go on seeing to these starting tickets."""
    if ids:
        mine = update_of(table).where(table.c.id.in_(sorted(ids)), table.c.state == "starting")
        connection.execute(mine.values(not_before=Now() + seen_to_s))


def adopt(connection: Connection, *, seen_to_s: float, but: Collection[str] = ()) -> tuple[Ticket, ...]:
    """Take over the starting tickets that nobody sees to any more; `but` those that are seen to here."""
    left = _of(connection, and_(table.c.state == "starting", table.c.not_before <= Now()))
    found = tuple(ticket for ticket in left if ticket.id not in but)
    renew(connection, [ticket.id for ticket in found], seen_to_s=seen_to_s)
    return found


def put_back(
    connection: Connection,
    ticket_id: str,
    spawn_id: str,
    *,
    said: str,
    wait_s: float,
    needs_login: bool = False,
    failed: bool = False,
) -> bool:
    """Let a ticket wait again, in its place; return False if it was not starting under this spawn id.

    Parameters
    ----------
    wait_s
        No start before so many seconds.
    failed
        Whether this counts as an attempt that failed.
    """
    begun = update_of(table).where(*_starts(ticket_id, spawn_id))
    values: dict[str, Any] = {
        "state": "waiting",
        "spawn_id": None,
        "not_before": Now() + wait_s,
        "needs_login": needs_login,
        "changed_at": Now(),
        "said": said,
    }
    if failed:
        values["attempts"] = table.c.attempts + 1
    return connection.execute(begun.values(**values)).rowcount == 1


def turn_back(connection: Connection, ticket: Ticket, held: Reservation, *, said: str, seen_to_s: float) -> bool:
    """Let a starting ticket start what it was switched from again, for which this is held; False: it starts no more.

    While this is what the session holds that is still being stopped, the ticket goes on taking its place.
    """
    begun = update_of(table).where(*_starts(ticket.id, ticket.spawn_id))
    values: dict[str, Any] = {
        "profile": held.profile,
        "options": json.dumps(dict(held.options)),
        "account": held.account,
        "accelerator": held.accelerator,
        "count": held.count,
        "cpu_m": held.cpu_m,
        "memory": held.memory,
        "share": held.share,
        "session_s": held.session_s,
        "spawn_id": held.id,
        "replaces": held.id if held.state == "begun" else None,
        "not_before": Now() + seen_to_s,
        "changed_at": Now(),
        "said": said,
    }
    return connection.execute(begun.values(**values)).rowcount == 1


def notify(connection: Connection, ticket: Ticket) -> Ticket:
    """Note that its owner wants an e-mail when the server is up; return it so."""
    connection.execute(update_of(table).where(table.c.id == ticket.id).values(notify=True))
    return replace(ticket, notify=True)


def logged_in(connection: Connection, user: str) -> tuple[Ticket, ...]:
    """Let this person's tickets that wait for a login go on; return them as they were."""
    mine = and_(table.c.user_name == user, table.c.state == "waiting", table.c.needs_login.is_(True))
    lapsed = _of(connection, mine)
    connection.execute(
        update_of(table).where(mine).values(needs_login=False, not_before=0.0, changed_at=Now(), said="")
    )
    return lapsed


def lapse(connection: Connection, login_wait_s: float, said: str) -> tuple[Ticket, ...]:
    """End the tickets that have waited for a login for so long; return them as they were."""
    late = _of(
        connection,
        and_(table.c.state == "waiting", table.c.needs_login.is_(True), table.c.changed_at <= Now() - login_wait_s),
    )
    return tuple(ticket for ticket in late if end(connection, ticket.id, "lapsed", said))


def end(connection: Connection, ticket_id: str, ended_as: EndedAs, said: str, *, spawn_id: str | None = None) -> bool:
    """End a ticket for good; return False if it had ended before: the first end is what counts.

    Parameters
    ----------
    spawn_id
        Only if it is starting under this one; None: whatever it does.
    """
    wanted = _starts(ticket_id, spawn_id) if spawn_id else (table.c.id == ticket_id, table.c.state.in_(_OPEN))
    mine = update_of(table).where(*wanted)
    values = {"state": "ended", "ended_as": ended_as, "ended_at": Now(), "changed_at": Now(), "said": said}
    return connection.execute(mine.values(**values)).rowcount == 1


def move(
    connection: Connection, ticket_id: str, *, rank: float | None = None, priority: int | None = None
) -> Ticket | None:
    """Give a waiting ticket another place; return it, or None if it does not wait."""
    values = {"rank": rank, "priority": priority}
    waits = update_of(table).where(table.c.id == ticket_id, table.c.state == "waiting")
    given = {name: value for name, value in values.items() if value is not None}
    if not connection.execute(waits.values(**given, changed_at=Now())).rowcount:
        return None
    return _stored(connection, ticket_id)


def forget(connection: Connection, older_than_s: float) -> int:
    """Delete the tickets that ended longer ago than this; return how many."""
    ended = and_(table.c.state == "ended", table.c.ended_at < Now() - older_than_s)
    return connection.execute(delete_from(table).where(ended)).rowcount


def number_waiting(connection: Connection, user: str) -> int:
    """Return how many tickets of this person wait."""
    mine = and_(table.c.user_name == user, table.c.state == "waiting")
    return int(connection.scalar(select(func.count()).select_from(table).where(mine)) or 0)


def number_starting(connection: Connection) -> int:
    """Return how many start slots are taken: a switch takes none while the session is there that it switches from."""
    return int(connection.scalar(_SLOTS_TAKEN) or 0)


def restarted(connection: Connection, ticket_id: str, spawn_id: str) -> None:
    """Note that a starting ticket is started under another spawn id: the start before was lost with its hub."""
    mine = update_of(table).where(table.c.id == ticket_id, table.c.state == "starting")
    connection.execute(mine.values(spawn_id=spawn_id, changed_at=Now()))


def _starts(ticket_id: str, spawn_id: str | None) -> tuple[Any, ...]:
    return table.c.id == ticket_id, table.c.state == "starting", table.c.spawn_id == spawn_id


def _request_of(ticket: Ticket) -> dict[str, Any]:
    return {
        "profile": ticket.profile,
        "options": json.dumps(dict(ticket.options)),
        "account": ticket.account,
        "accelerator": ticket.accelerator,
        "count": ticket.count,
        "cpu_m": ticket.cpu_m,
        "memory": ticket.memory,
        "share": ticket.share,
        "session_s": ticket.session_s,
    }


def _of(connection: Connection, wanted: Any) -> tuple[Ticket, ...]:
    ordered = select(table).where(wanted).order_by(*_ORDER)
    return _tickets(connection.execute(ordered))


def _tickets(rows: Iterable[Row[Any]]) -> tuple[Ticket, ...]:
    return tuple(_ticket(row) for row in rows)


def _stored(connection: Connection, ticket_id: str) -> Ticket:
    return _ticket(connection.execute(_OF_ID, {"ticket": ticket_id}).one())


def _ticket(row: Row[Any]) -> Ticket:
    found = dict(row._mapping)
    found["user"] = found.pop("user_name")
    found["options"] = json.loads(found["options"])
    return Ticket(**found)
