"""One of several processes that ask for the same slices as fast as they can; see `test_admission_race`.

Each outcome is checked in the transaction that made it, by counting rows past the code under test: what is held is
there, once, and within the limits; what was refused was not to be had at that moment.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select

from hub.admission import reservations, tickets
from hub.admission.doors import Starts, Wish, request
from hub.admission.store import Rules, Store
from hub.db.engine import connect
from hub.db.tables import reservations as table
from hub.db.transaction import write
from hub.settings.queue import QueueSettings
from profiles.access import Person
from profiles.loader import loads
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = ["CATALOGUE", "LIMITS", "SLICES", "SPENT", "ask", "main", "store", "wrong"]

SLICES = 7
LIMITS = {"group:a": 4, "group:b": 5}
"""Slices at once; together more than there are, and some people are in both."""
SPENT = "group:spent"
"""Has used up its hours."""
_GROUPS = ({"a"}, {"a", "b"}, {"b"}, {"a", "b", "spent"})
_HOLDS = 12
"""Requests that a worker makes before it gives back what it got first: more want something than there is, all the time."""

CATALOGUE = loads("""
accelerators:
  slice: {title: Slice, share: 1/7, simulated: {count: 7}}
images:
  lab: {title: Lab, local: {}}
profiles:
  gpu: {title: GPU, options: {image: [lab], accelerator: [slice]}}
""")


def store() -> Store:
    """Return the rules of this site: reservations of the dead run out after 10 seconds, starts have slots enough."""
    queue = QueueSettings.model_validate({"reservation_s": 10, "start_slots": 10_000})
    return Store(Rules(CATALOGUE, "local", queue=queue), 3600.0)


def ask(connection: Connection, rules: Store, user: int, account: str) -> tuple[str, str]:
    """Ask for one slice; return (outcome or refusal's code, spawn id)."""
    spawn_id = uuid.uuid4().hex
    person = Person(f"u{user}", frozenset(_GROUPS[user % len(_GROUPS)]))
    options = {"profile": "gpu", "image": "lab", "accelerator": "slice", "count": 1}
    wanted = Reservation(spawn_id, person.name, spawn_id[:12], "gpu", "slice", 1, account=account, options=options)
    try:
        answer = request(connection, rules, Wish(person, wanted, uuid.uuid4().hex, may_wait=False))
    except Refusal as refusal:
        return refusal.code, spawn_id
    if not isinstance(answer, Starts):
        return "waits", spawn_id
    tickets.end(connection, answer.ticket.id, "started", "")
    return "granted", spawn_id


def wrong(connection: Connection, outcome: str, account: str) -> str:
    """Return what is wrong with this outcome, seen from the rows; empty: nothing."""
    rows = connection.execute(select(table.c.account, table.c.devices)).all()
    of_account = Counter(row.account for row in rows)
    if len(rows) > SLICES or len({row.devices for row in rows}) != len(rows):
        return f"{len(rows)} are held, on {sorted(row.devices for row in rows)}"
    for name, most in LIMITS.items():
        if of_account[name] > most:
            return f"{name} holds {of_account[name]}"
    if of_account[SPENT]:
        return "a spent budget is used"
    match outcome:
        case "granted":
            return ""
        case "full" if len(rows) == SLICES:
            return ""
        case "quota-accelerators" if of_account[account] == LIMITS.get(account):
            return ""
        case "budget-spent" if account == SPENT:
            return ""
    return f"{outcome} for {account} while {len(rows)} are held: {dict(of_account)}"


def main(url: str, file: Path, seed: int, times: int) -> None:
    """Ask so often, and write each outcome down."""
    database, rules, chance = connect(url), store(), random.Random(seed)
    mine: list[tuple[int, str]] = []

    def asked(connection: Connection, user: int, account: str) -> tuple[str, str, str]:
        outcome, spawn_id = ask(connection, rules, user, account)
        return outcome, spawn_id, wrong(connection, outcome, account)

    with file.open("a", encoding="utf-8", buffering=1) as said:
        for number in range(times):
            user = chance.randrange(24)
            account = f"group:{chance.choice(sorted(_GROUPS[user % len(_GROUPS)]))}"
            outcome, spawn_id, problem = write(database, partial(asked, user=user, account=account), wait_s=60.0)
            if outcome == "granted":
                mine.append((number, spawn_id))
            said.write(f"{outcome} {problem}\n")
            if mine and mine[0][0] + _HOLDS <= number:
                _, given_back = mine.pop(0)
                write(database, partial(reservations.delete, ids=(given_back,)), wait_s=60.0)
