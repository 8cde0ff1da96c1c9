"""Repairs in the database. Functions of a connection, for a transaction that is fenced by the lease.

Each looks again whether it is still so, does nothing where it is not, and writes its row in the audit trail in the same
transaction: doing it twice is doing it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from hub import audit
from hub.admission import reservations, tickets
from hub.admission.changes import ended
from hub.admission.outcome import give_back
from hub.admission.store import Rules
from hub.db.tables import ledger as ledger_table
from hub.idle.limits import allowed_s
from hub.quotas import store as quotas_store
from hub.quotas.budgets import session_length
from hub.quotas.resolve import own_limits, shared_limits, subjects_of
from hub.quotas.subjects import group_of
from hub.reconcile.compare import Finding, Kind, left_before_up
from hub.reconcile.picture import HubServer, read_books
from hub.usage import ledger
from profiles.access import Person
from profiles.model import NO_ACCELERATOR
from spawner.occupied import occupied, share_of
from spawner.options import parse
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = ["ACTOR", "IN_DATABASE", "adopt", "left", "note", "repair"]

ACTOR = "controller"
_ENDED_AS = "reconciled"
_NOT_STARTED = "Its start was lost; it is tried again."
_RUNS = "The server runs already."
_TWICE = "Another place in the queue for the same server came before."
_AGAIN_S = 5.0


def repair(connection: Connection, finding: Finding, rules: Rules) -> bool:
    """Repair this, if it is still so; return whether anything was done."""
    done = IN_DATABASE[finding.kind](connection, finding, rules)
    if done:
        note(connection, finding)
    return done


def note(connection: Connection, finding: Finding) -> None:
    """Write the audit row of a repair."""
    whose = {"user": finding.user, "server": finding.server}
    before: dict[str, Any] = {**whose, "evidence": finding.evidence}
    audit.record(connection, ACTOR, f"reconcile.{finding.kind}", finding.subject, before, {"repair": finding.repair})


def adopt(
    connection: Connection,
    finding: Finding,
    server: HubServer | None,
    devices: tuple[str, ...],
    rules: Rules,
    expires_in_s: float,
) -> bool:
    """Hold again what runs already, and go on charging it; nothing is asked whether that would be admitted.

    What it has is told by its row in the ledger, else by what the hub was asked for; which devices, by the engine.
    """
    if reservations.find(connection, finding.subject) is not None:
        return False
    asked = _from_options(finding, server, rules)
    held = _from_ledger(connection, finding)
    held = replace(asked if held is None else replace(held, options=asked.options), devices=devices)
    held = replace(held, session_s=_length(connection, held, rules))
    reservations.insert(connection, held, expires_in_s=expires_in_s, image=rules.image_of(held))
    reservations.mark_seen(connection, [held.id])
    note(connection, finding)
    return True


def _length(connection: Connection, held: Reservation, rules: Rules) -> float | None:
    """Return how long the session may last in all: as at its admission, by the limits of today."""
    group = group_of(held.account)
    quotas = quotas_store.load(connection, subjects_of(held.user, () if group is None else (group,)))
    longest = allowed_s(rules.idle, held.profile, held.accelerator, held.account)
    own = session_length(own_limits(quotas, held.user, held.account), longest)
    return session_length(shared_limits(quotas, held.account), own)


def _from_ledger(connection: Connection, finding: Finding) -> Reservation | None:
    mine = ledger_table.c.id == finding.subject
    row = connection.execute(select(ledger_table).where(mine)).one_or_none()
    if row is None:
        return None
    return Reservation(
        id=row.id,
        user=row.user_name,
        server=row.server,
        profile=row.profile,
        accelerator=row.accelerator or None,
        count=row._mapping["count"],
        cpu_m=row.cpu_m,
        memory=row.memory,
        account=row.account,
        share=row.share,
    )


def _from_options(finding: Finding, server: HubServer | None, rules: Rules) -> Reservation:
    """Return what the hub was asked for, as far as that can still be read."""
    options: Mapping[str, Any] = server.options if server is not None else {}
    account = str(options.get("account") or f"user:{finding.user}")
    group = frozenset({account.removeprefix("group:")}) if account.startswith("group:") else frozenset()
    try:
        request = parse(dict(options), rules.catalogue, Person(finding.user, group, True), rules.engine)
    except Refusal:
        accelerator, count = _plain(options, rules)
        share = share_of(accelerator, count, rules.catalogue)
        profile = str(options.get("profile", ""))
        return Reservation(
            finding.subject, finding.user, finding.server, profile, accelerator, count, account=account, share=share
        )
    cpu_m, memory = occupied(request, rules.catalogue)
    return Reservation(
        id=finding.subject,
        user=finding.user,
        server=finding.server,
        profile=request.profile,
        accelerator=request.accelerator,
        count=request.count,
        cpu_m=cpu_m,
        memory=memory,
        account=request.account or account,
        share=share_of(request.accelerator, request.count, rules.catalogue),
        options=request.options(),
    )


def _plain(options: Mapping[str, Any], rules: Rules) -> tuple[str | None, int]:
    """Return accelerator and count of options that the catalogue does not take any more."""
    key, many = str(options.get("accelerator") or ""), str(options.get("count") or "1")
    if key == NO_ACCELERATOR or key not in rules.catalogue.accelerators:
        return None, 0
    return key, int(many) if many.isdecimal() and 0 < int(many) < 1000 else 1


def _close_row(connection: Connection, finding: Finding, rules: Rules) -> bool:
    if reservations.find(connection, finding.subject) is not None:
        return False
    return ledger.close(connection, [finding.subject], _ENDED_AS, ledger.LAST_BEAT) == 1


def _open_row(connection: Connection, finding: Finding, rules: Rules) -> bool:
    held = reservations.find(connection, finding.subject)
    return held is not None and ledger.open(connection, held, rules.image_of(held))


def _charge_on(connection: Connection, finding: Finding, rules: Rules) -> bool:
    books = read_books(connection)
    since = books.closed.get(finding.subject)
    if since is None or finding.subject not in books.held or books.now <= since:
        return False
    why = "controller: it ran on after its row was closed"
    ledger.correct(connection, finding.subject, books.now - since, why, since=since)
    return True


def _give_back(connection: Connection, finding: Finding, rules: Rules) -> bool:
    held = reservations.find(connection, finding.subject)
    if held is None or held.state != "begun":
        return False
    return ended(connection, held.id, otherwise="gone", at=ledger.NOTICED)


def _give_granted_back(connection: Connection, finding: Finding, rules: Rules) -> bool:
    held = reservations.find(connection, finding.subject)
    ticket = tickets.find(connection, held.ticket) if held is not None and held.ticket is not None else None
    if held is None or held.ticket is None or (ticket is not None and ticket.state != "ended"):
        return False
    return give_back(connection, held.id)


def left(connection: Connection, finding: Finding) -> bool:
    """Note that a start that was left is to be stopped now; False: it is not so any more."""
    held = reservations.of_server(connection, finding.user, finding.server)
    ticket = tickets.find(connection, held[-1].ticket or "") if held else None
    if ticket is None or held[-1].id != finding.subject or not left_before_up(ticket, held[-1]):
        return False
    again = tickets.of_server(connection, finding.user, finding.server)
    if again is not None and again.state == "starting":
        return False
    note(connection, finding)
    return True


def _wait_again(connection: Connection, finding: Finding, rules: Rules) -> bool:
    ticket = tickets.find(connection, finding.subject)
    if ticket is None or ticket.state != "starting":
        return False
    if reservations.find(connection, ticket.spawn_id or "") is not None:
        return False
    return tickets.put_back(connection, ticket.id, ticket.spawn_id or "", said=_NOT_STARTED, wait_s=_AGAIN_S)


def _end_running(connection: Connection, finding: Finding, rules: Rules) -> bool:
    held = reservations.of_server(connection, finding.user, finding.server)
    ticket = tickets.find(connection, finding.subject)
    if ticket is None or ticket.state != "waiting" or not any(one.seen for one in held):
        return False
    return tickets.end(connection, ticket.id, "left", _RUNS)


def _end_twice(connection: Connection, finding: Finding, rules: Rules) -> bool:
    mine = [one for one in tickets.of_user(connection, finding.user) if one.server == finding.server]
    ticket = next((one for one in mine if one.id == finding.subject), None)
    if ticket is None or ticket.state != "waiting" or len(mine) < 2:
        return False
    return tickets.end(connection, ticket.id, "left", _TWICE)


IN_DATABASE: Mapping[Kind, Callable[..., bool]] = {
    "row-without-hold": _close_row,
    "hold-without-row": _open_row,
    "hold-with-closed-row": _charge_on,
    "hold-of-nothing": _give_back,
    "hold-of-ended-ticket": _give_granted_back,
    "ticket-without-hold": _wait_again,
    "ticket-of-running-server": _end_running,
    "ticket-twice": _end_twice,
}
"""Those that are repaired by the database alone."""
