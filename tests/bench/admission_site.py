"""A full site in a database: a month's ledger, budgets of everybody, sessions that run, people who wait."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select

from hub.admission.doors import Starts, Waits, Wish, request
from hub.admission.store import Rules, Store
from hub.controller.lease import Lease
from hub.controller.publish import publish
from hub.db.clock import Now
from hub.db.tables import ledger, quotas, reservations, tickets
from hub.db.transaction import write
from hub.settings.queue import QueueSettings
from profiles.access import Person
from profiles.loader import loads
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.ids import new_id
from spawner.reservation import Reservation
from tests.bench.history import KINDS, History, fill, group_of, user_name

__all__ = ["FREE", "Asker", "people", "prepare", "store"]

FREE = "u55c"
"""The kind of which some are free; of all others none is."""
_NAMED = [name for name, _ in KINDS if name]
_STALE_S = 86_400.0

_CATALOGUE = loads(
    "accelerators:\n"
    + "".join(
        f"  {name.replace('.', '-')}: {{title: {name}, share: {share:.6f}, kubernetes: {{resource: example.org/{name}}}}}\n"
        for name, share in KINDS
        if name
    )
    + "images: {lab: {title: Lab, reference: 'example.org/lab:1'}}\n"
    + f"profiles: {{gpu: {{title: GPU, options: {{image: [lab], accelerator: [{', '.join(n.replace('.', '-') for n in _NAMED)}]}}}}}}\n"
)


@dataclass(frozen=True)
class Site:
    """How many sessions run and how many people wait, beside the history."""

    history: History = History()  # noqa: RUF009  # frozen
    queued: int = 200


def _key(kind: str) -> str:
    return kind.replace(".", "-")


def store() -> Store:
    """Return the rules of this site."""
    return Store(Rules(_CATALOGUE, "kubernetes", queue=QueueSettings.model_validate({"start_slots": 10_000})), _STALE_S)


def prepare(engine: Engine, site: Site) -> None:
    """Write everything into a database whose tables are made, and empty."""
    fill(engine, site.history)

    def work(connection: Connection) -> dict[str, int]:
        now = float(connection.scalar(select(Now())) or 0.0)
        _budgets(connection, site.history, now)
        used = _running(connection, now)
        _waiting(connection, site, now)
        return used

    used = write(engine, work, wait_s=60.0)
    room = (Fit(8, 64_000, 1 << 40),)
    counts = {
        _key(kind): Count(
            used.get(_key(kind), 0) + (100 if kind == FREE else 0),
            100 if kind == FREE else 0,
            used.get(_key(kind), 0),
            fits_now=room if kind == FREE else (),
            fits_empty=room,
        )
        for kind in _NAMED
    }
    none = Count(fits_now=room, fits_empty=room)
    epoch = Lease(engine, "bench", 60).try_acquire() or 0
    publish(engine, epoch, Snapshot("kubernetes", datetime.now(UTC), {**counts, "none": none}))


def _budgets(connection: Connection, history: History, now: float) -> None:
    """Everybody has a week's hours, each group a month's; nobody has used them up."""
    rows = [("default", "servers", 4.0)]
    rows += [(f"user:{user_name(number)}", "hours:week", 1e5) for number in range(history.users)]
    for number in range(history.groups):
        rows += [(group_of(number), "hours:month", 1e7), (group_of(number), "accelerators", 1e5)]
    common = {"declared": False, "changed_at": now, "changed_by": "bench"}
    connection.execute(
        insert(quotas), [{"subject": who, "field": field, "value": value, **common} for who, field, value in rows]
    )


def _running(connection: Connection, now: float) -> dict[str, int]:
    """A reservation for each open row of the ledger; returns how many of each kind."""
    used: dict[str, int] = {}
    rows = []
    for row in connection.execute(select(ledger).where(ledger.c.closed_at.is_(None))).mappings():
        kind = _key(row["accelerator"]) or None
        if kind:
            used[kind] = used.get(kind, 0) + 1
        rows.append(
            {
                **{name: row[name] for name in ("id", "user_name", "account", "profile", "count", "share")},
                "server": row["id"],
                "accelerator": kind,
                "cpu_m": row["cpu_m"],
                "memory": row["memory"],
                "devices": "[]",
                "seen": True,
                "reserved_at": row["opened_at"],
                "expires_at": now + _STALE_S,
                "state": "begun",
                "options": json.dumps({"profile": "gpu", "image": "lab", "accelerator": kind}),
                "session_s": 43_200.0,
            }
        )
    connection.execute(insert(reservations), rows)
    return used


def _waiting(connection: Connection, site: Site, now: float) -> None:
    chance = random.Random(site.history.seed)
    full = [kind for kind in _NAMED if kind != FREE]
    rows = []
    for number in range(site.queued):
        user, kind = chance.randrange(site.history.users), chance.choice(full)
        share = dict(KINDS)[kind]
        rows.append(
            {
                "id": f"q{number}", "user_name": user_name(user), "server": f"q{number}", "profile": "gpu",
                "options": json.dumps({"profile": "gpu", "image": "lab", "accelerator": _key(kind)}),
                "account": group_of(user, site.history.groups), "accelerator": _key(kind), "count": 1, "cpu_m": 4000,
                "memory": 1 << 34, "share": share, "session_s": 43_200.0, "priority": 0,
                "rank": now - 3600 + number, "state": "waiting", "attempts": 0, "not_before": 0.0,
                "needs_login": False, "notify": False, "asked_at": now - 3600 + number,
                "changed_at": now - 3600 + number, "said": "",
            }
        )  # fmt: skip
    if rows:
        connection.execute(insert(tickets), rows)


@dataclass(frozen=True)
class Asker:
    """Somebody who asks once."""

    person: Person
    kind: str
    account: str

    def ask(self, connection: Connection, rules: Store) -> str:
        """Ask as at the service's door, and return what there is to take away afterwards: the ticket's id."""
        name = new_id()
        options = {"profile": "gpu", "image": "lab", "accelerator": self.kind, "count": 1}
        wanted = Reservation(
            name, self.person.name, name, "gpu", self.kind, 1, 4000, 1 << 34, account=self.account, options=options
        )
        answer = request(connection, rules, Wish(self.person, wanted, name))
        if isinstance(answer, Starts) is not (self.kind == FREE):
            raise RuntimeError(f"a request for {self.kind} had another answer than the site is made for: {answer}")
        if isinstance(answer, Waits) and answer.queued is None:
            raise RuntimeError("a start slot was missing")
        return name


def people(history: History, seed: int) -> list[Asker]:
    """Return who asks, one after the other: every second for what is free, every second for what is not."""
    chance = random.Random(seed)
    full = [kind for kind in _NAMED if kind != FREE]
    found = []
    for number in range(100_000 if history.rows > 100_000 else 2_000):
        user = chance.randrange(history.users)
        account = group_of(user, history.groups)
        person = Person(user_name(user), frozenset({account.removeprefix("group:")}))
        found.append(Asker(person, _key(FREE if number % 2 else chance.choice(full)), account))
    return found
