"""What cannot be, found by comparing; pure. Each finding says what speaks for it and what would be done.

What one transaction of the database shows is sure at once. What hub or engine say was asked for a moment before or
after, so it must last: a session that is being started or stopped passes through states that look wrong. What ends
something that runs must last longest, unless its owner has ended it; see `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hub.admission.tickets import Ticket
from hub.reconcile.picture import Picture, Running
from spawner.reservation import Reservation

__all__ = ["KINDS", "Finding", "Kind", "KindOf", "compare", "left_before_up"]

Kind = Literal[
    "row-without-hold",
    "hold-without-row",
    "hold-with-closed-row",
    "hold-of-nothing",
    "hold-of-ended-ticket",
    "start-of-left-ticket",
    "session-without-hold",
    "session-without-server",
    "server-of-nothing",
    "ticket-without-hold",
    "ticket-of-running-server",
    "ticket-twice",
    "claim-without-pod",
]

_SOON_S = 8.0
_LONG_S = 120.0
_UNSEEN_S = 60.0
"""How long nobody may see to a starting ticket: whoever leads takes it over within a second or two."""


class KindOf(NamedTuple):
    """What a kind of finding means, what is done, and for how many seconds it must be seen before that is done."""

    meaning: str
    repair: str
    lasts_s: float


KINDS: Mapping[Kind, KindOf] = {
    "row-without-hold": KindOf(
        "A row of the ledger is open, and nothing is held.", "The row is closed at its last heartbeat.", 0.0
    ),
    "hold-without-row": KindOf("Something is held, and the ledger has no row of it.", "The row is opened.", 0.0),
    "hold-with-closed-row": KindOf(
        "A session runs, and its row in the ledger is closed.",
        "What it has used since is charged by a counter-row.",
        _SOON_S,
    ),
    "hold-of-nothing": KindOf(
        "Something is held for a session that neither hub nor engine has.", "It is given back.", _SOON_S
    ),
    "hold-of-ended-ticket": KindOf(
        "Something is kept for a start from the queue whose ticket has ended.", "It is given back.", _SOON_S
    ),
    "start-of-left-ticket": KindOf(
        "A server is being started, or runs, whose place in the queue was left before it was up.",
        "The hub is asked to stop it.",
        _SOON_S,
    ),
    "session-without-hold": KindOf(
        "A session runs for a server of the hub, and nothing is held for it.", "It is held and charged again.", _SOON_S
    ),
    "session-without-server": KindOf(
        "Something runs for a server that the hub does not have.", "It is ended.", _LONG_S
    ),
    "server-of-nothing": KindOf(
        "The hub takes a server for ready of which nothing runs.", "The hub is asked to stop it.", _LONG_S
    ),
    "ticket-without-hold": KindOf(
        "A ticket is starting, nothing is held for it, and nobody sees to it.", "It waits again, in its place.", 0.0
    ),
    "ticket-of-running-server": KindOf("A ticket waits for a server that runs.", "The ticket ends.", _SOON_S),
    "ticket-twice": KindOf("A server has two places in the queue.", "The later one ends.", 0.0),
    "claim-without-pod": KindOf(
        "A ResourceClaim of a session has devices, and its pod is gone.", "The claim is deleted.", _LONG_S
    ),
}
"""Every kind, in the order in which they are looked for."""


@dataclass(frozen=True)
class Finding:
    """Something that cannot be. `subject` is the id of what is repaired: a spawn id, a ticket, a server, a claim."""

    kind: Kind
    subject: str
    user: str = ""
    server: str = ""
    evidence: str = ""
    where: str = ""
    """Names what runs; only where that is to be ended."""

    @property
    def repair(self) -> str:
        """What is done about it."""
        return KINDS[self.kind].repair

    def __str__(self) -> str:
        whose = f" of {self.user}/{self.server}" if self.user else ""
        return f"{self.kind} {self.subject}{whose}: {self.evidence}"


def compare(picture: Picture) -> tuple[Finding, ...]:
    """Return what cannot be; nothing is said about what somebody did not tell."""
    found = [*_ledger(picture), *_queue(picture), *_left(picture)]
    if picture.running is not None:
        found += _engine(picture, picture.running)
    found += [Finding("claim-without-pod", key, evidence=said) for key, said in picture.claims.items()]
    return tuple(found)


def _ledger(picture: Picture) -> Iterator[Finding]:
    books = picture.books
    for row in books.rows.values():
        if row.id not in books.held:
            since = f"open, last charged {books.now - row.beat_at:.0f} s ago, and there is no reservation"
            yield Finding("row-without-hold", row.id, row.user, row.server, since)
    for held in books.held.values():
        if held.id in books.rows:
            continue
        if held.id not in books.closed:
            yield Finding("hold-without-row", held.id, held.user, held.server, "a reservation without a row")
        elif picture.running is not None and held.id in picture.running:
            past = books.now - books.closed[held.id]
            said = f"{picture.running[held.id].where} runs and is charged up to {past:.0f} s ago"
            yield Finding("hold-with-closed-row", held.id, held.user, held.server, said)


def _queue(picture: Picture) -> Iterator[Finding]:
    books = picture.books
    tickets = {ticket.id: ticket for ticket in books.tickets}
    for held in books.held.values():
        if held.state == "granted" and held.ticket is not None:
            ticket = tickets.get(held.ticket)
            if ticket is None or ticket.state == "ended":
                how = "is not there" if ticket is None else f"has ended ({ticket.ended_as})"
                yield Finding("hold-of-ended-ticket", held.id, held.user, held.server, f"ticket {held.ticket} {how}")
    first: dict[tuple[str, str], Ticket] = {}
    ordered = sorted(tickets.values(), key=lambda one: (one.state != "starting", one.rank, one.id))
    for ticket in ordered:
        if ticket.state == "ended":
            continue
        if ticket.state == "starting" and ticket.spawn_id not in books.held:
            silent = books.now - ticket.not_before
            if silent > _UNSEEN_S:
                said = f"nobody has seen to it for {silent:.0f} s, and {ticket.spawn_id} is not held"
                yield Finding("ticket-without-hold", ticket.id, ticket.user, ticket.server, said)
        other = first.setdefault((ticket.user, ticket.server), ticket)
        if other is not ticket and ticket.state == "waiting":
            yield Finding("ticket-twice", ticket.id, ticket.user, ticket.server, f"ticket {other.id} came before")


def _left(picture: Picture) -> Iterator[Finding]:
    """Look for starts that were left while the hub did not hear of it."""
    books = picture.books
    tickets = {ticket.id: ticket for ticket in books.tickets}
    newest = {(one.user, one.server): one.id for one in books.held.values()}
    wanted = {(one.user, one.server) for one in books.tickets if one.state == "starting"}
    for held in books.held.values():
        key, ticket = (held.user, held.server), tickets.get(held.ticket or "")
        if picture.hub is None or key not in picture.hub or key in wanted or newest[key] != held.id:
            continue
        if ticket is not None and left_before_up(ticket, held):
            said = f"ticket {ticket.id} was {ticket.ended_as}; the hub still has the server"
            yield Finding("start-of-left-ticket", held.id, held.user, held.server, said)


def left_before_up(ticket: Ticket, held: Reservation) -> bool:
    """Return whether a start that has begun was left, by its owner or for them."""
    return held.state == "begun" and ticket.spawn_id == held.id and ticket.ended_as in ("left", "cancelled")


def _engine(picture: Picture, running: Mapping[str, Running]) -> Iterator[Finding]:
    held = picture.books.held
    of_servers = {(one.user, one.server): one for one in held.values() if one.id in running}
    yield from _served(picture, of_servers)
    if picture.hub is None:
        return
    for one in held.values():
        if one.state != "begun" or one.id in running or (one.user, one.server) in picture.hub:
            continue
        if one.seen or (picture.planned is not None and one.id not in picture.planned):
            yield Finding("hold-of-nothing", one.id, one.user, one.server, "nothing of it runs; the hub has it stopped")
    for it in running.values():
        yield from _runs(picture, it, of_servers)
    runs = {*of_servers, *((it.user or "", it.server or "") for it in running.values())}
    if any(it.user is None and it.spawn_id not in held for it in running.values()):
        return  # whose that is is not known: it may be of any server
    of_holds = {(one.user, one.server) for one in held.values()}
    for key, server in picture.hub.items():
        if server.ready and key not in runs and key not in of_holds:
            said = "ready for the hub; nothing runs and nothing is held"
            yield Finding("server-of-nothing", f"{server.user}/{server.server}", server.user, server.server, said)


def _served(picture: Picture, of_servers: Mapping[tuple[str, str], Reservation]) -> Iterator[Finding]:
    for ticket in picture.books.tickets:
        runs = of_servers.get((ticket.user, ticket.server))
        if ticket.state == "waiting" and ticket.replaces is None and runs is not None and runs.seen:
            said = f"{runs.id} runs for the same server"
            yield Finding("ticket-of-running-server", ticket.id, ticket.user, ticket.server, said)


def _runs(picture: Picture, it: Running, of_servers: Mapping[tuple[str, str], Reservation]) -> Iterator[Finding]:
    """Look at something that runs: held, for a server that the hub has, or neither."""
    mine = picture.books.held.get(it.spawn_id)
    user = mine.user if mine is not None else it.user
    server = mine.server if mine is not None else it.server
    if user is None or server is None or picture.hub is None:
        return
    active = (user, server) in picture.hub
    if not active:
        said = f"{it.where} runs, and the hub has no such server"
        yield Finding("session-without-server", it.spawn_id, user, server, said, it.where)
    elif mine is None:
        other = of_servers.get((user, server))
        if other is None:
            said = f"{it.where} runs for an active server, and nothing is held"
            yield Finding("session-without-hold", it.spawn_id, user, server, said, it.where)
        else:
            said = f"{it.where} runs beside {other.id}, which is the server's present session"
            yield Finding("session-without-server", it.spawn_id, user, server, said, it.where)
