"""What is tested at every step from the request to the ledger's last line, on whichever engine.

`whole_way` walks the way of a request whatever dies meanwhile, as a client does that tries again; `finish` looks at
what is left: no card is held by nobody, none was held twice, no second is charged twice.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import Engine, select

from hub.admission import reservations, tickets
from hub.db.tables import ledger
from hub.db.transaction import DatabaseAway, read
from hub.usage.ledger import HEARTBEAT_S
from tests.faults.killing import ME, KillOrder
from tests.hub.site import alive, wait_for
from tests.hub.web_world import PREFIX

__all__ = [
    "ALL_STEPS",
    "Place",
    "Rows",
    "World",
    "finish",
    "kill_at",
    "one_of_each_part",
    "row",
    "whole_table",
    "whole_way",
]

ALL_STEPS = "ARMILLARY_ALL_STEPS"
"""Set to 1, this environment variable lets whole tables be tested: an hour instead of some minutes."""

CARD = {"accelerator": "card"}
Rows = Mapping[str, Sequence[tuple[str, str]]]
"""By part of the way: who dies (`hub`, `service`) and at which step, in the order in which a request comes by."""


class Place(NamedTuple):
    """Where rows are tested: a site of their own, for a launcher gives up who dies six times in two minutes.

    The rows of one site must have one and the same object, else pytest makes a site for each.
    """

    kind: str
    part: str
    which: str = ""


def row(place: Place, when: str, who: str, step: str) -> Any:
    """Return one row of a table of tests."""
    return pytest.param(place, when, who, step, id=f"{place.kind}-{place.part}-{when}-{step.partition(':')[2]}")


def whole_table(rows: Rows, kinds: Sequence[str]) -> list[Any]:
    """Every step before and after, on every kind of site."""
    return [
        row(place, when, who, step)
        for kind in kinds
        for part, steps in rows.items()
        for when in ("before", "after")
        for place in [Place(kind, part, when)]
        for who, step in steps
    ]


def one_of_each_part(rows: Rows, kinds: Sequence[str]) -> list[Any]:
    """The first step of every part, in turn before and after it, one kind of site and the other."""
    return [
        row(Place(kinds[number % len(kinds)], part), ("before", "after")[number % 2], *steps[0])
        for number, (part, steps) in enumerate(rows.items())
    ]


class World(ABC):
    """A site that can be told to die, and what is seen of it from outside.

    Parameters
    ----------
    url
        Where people reach it.
    tokens
        Of the two who ask, by name; the first one is the one who comes first.
    """

    def __init__(self, url: str, order: KillOrder, database: Engine, tokens: Mapping[str, str]) -> None:
        self.url = url
        self.order = order
        self.database = database
        self.tokens = tokens
        self.name, self.other = tokens

    @abstractmethod
    def server(self, name: str) -> dict[str, Any]:
        """Return what the hub says of somebody's server; empty: it has none. Raises where the hub does not answer."""

    @abstractmethod
    def ask_to_stop(self, name: str) -> None:
        """Ask the hub to stop somebody's server. Raises where the hub does not answer."""

    @abstractmethod
    def sessions(self, name: str) -> list[str]:
        """What runs for somebody, as is seen below the hub."""

    @abstractmethod
    def pid_of(self, who: str) -> int:
        """Pid of `hub` or `service`."""

    @abstractmethod
    def mended(self) -> None:
        """Return when whoever was killed is back and well."""

    # --- what people do, as a client that tries again does it -----------------------------------------------------

    def ask(self, name: str = "") -> str:
        """Ask for the card until there is an answer; return `starting` or `queued`."""

        def asked() -> str | None:
            self.look_after()
            said = self._service("POST", "/requests", name or self.name, json={"options": CARD})
            if said is None or said.status_code >= 500:
                return None
            if said.status_code == 409 and said.json().get("code") == "already-running":
                return "starting"
            assert said.status_code == 202, said.text
            return str(said.json()["state"])

        return str(wait_for(asked, f"an answer to {name or self.name}", 180))

    def stop(self, name: str = "") -> None:
        """Ask the hub to stop the server until it has."""

        def stopped() -> bool:
            self.look_after()
            with contextlib.suppress(httpx.HTTPError, ValueError):
                self.ask_to_stop(name or self.name)
                return not self.server(name or self.name)
            return False

        wait_for(stopped, f"the server of {name or self.name} to be stopped", 180)

    def ready(self, name: str = "") -> bool:
        self.look_after()
        with contextlib.suppress(httpx.HTTPError, ValueError):
            return bool(self.server(name or self.name).get("ready"))
        return False

    def leave(self, name: str) -> None:
        """Leave every place in the queue."""
        said = self._service("GET", "/tickets", name)
        for ticket in said.json()["tickets"] if said is not None and said.status_code == 200 else ():
            self._service("DELETE", f"/tickets/{ticket['id']}", name)

    def look_after(self) -> None:
        """Start again what has died, where nothing else does; called again and again."""
        return

    def _service(self, method: str, path: str, name: str, **more: Any) -> httpx.Response | None:
        headers = {"Authorization": f"token {self.tokens[name]}"}
        try:
            return httpx.request(method, f"{self.url}{PREFIX}/api{path}", headers=headers, timeout=60, **more)
        except httpx.HTTPError:
            return None

    # --- what is seen ----------------------------------------------------------------------------------------------

    def check_no_card_twice(self) -> None:
        with contextlib.suppress(DatabaseAway):
            held = read(self.database, reservations.all)
            devices = [uuid for one in held for uuid in one.devices]
            assert len(devices) == len(set(devices)), devices
            assert sum(one.count for one in held) <= 1, held
        assert len(self.sessions(self.name)) + len(self.sessions(self.other)) <= 1

    def settled(self) -> bool:
        """Whether nothing is held, nobody waits and nothing runs."""
        self.look_after()
        with contextlib.suppress(DatabaseAway):
            held, waiting = read(self.database, reservations.all), read(self.database, tickets.open_ones)
            return not held and not waiting and not self.sessions(self.name) and not self.sessions(self.other)
        return False

    def rows(self, since: float) -> list[Any]:
        chosen = (
            select(ledger).where(ledger.c.opened_at >= since, ledger.c.corrects.is_(None)).order_by(ledger.c.opened_at)
        )
        return list(read(self.database, lambda found: found.execute(chosen).all()))

    def well(self) -> bool:
        """Whether the service says that it is."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}{PREFIX}/health", timeout=30).status_code == 200
        return False


def kill_at(world: World, place: Place, when: str, who: str, step: str) -> None:
    """Walk the whole way while this one dies there, and look at what is left."""
    before = world.pid_of(who)
    world.order.give(when, step, who, ME)
    began = whole_way(world, place.part)
    wait_for(lambda: world.order.taken and not alive(before), f"the {who} to die {when} {step}", 90)
    world.mended()
    finish(world, place.part, began)


def whole_way(world: World, part: str) -> float:
    """Ask, use, queue, stop, whatever dies meanwhile; return when that began, by this machine's clock."""
    began = time.time()
    assert world.ask() in ("starting", "queued")
    wait_for(world.ready, "the server to be ready", 240)
    world.check_no_card_twice()
    if part == "queue":
        assert world.ask(world.other) == "queued"
        world.check_no_card_twice()
    if part == "runs":
        wait_for(lambda: world.order.taken, "somebody to come by", 90)
    world.stop()
    if part == "queue":
        wait_for(lambda: world.ready(world.other), "the other's server to start by itself", 240)
        world.check_no_card_twice()
        world.stop(world.other)
    return began


def check_books(world: World, began: float, ended: float) -> None:
    """No second twice, none that nobody had, and at most a heartbeat lost of a session."""
    rows = world.rows(began - 1.0)
    assert rows, "what was used is in the ledger"
    for one in rows:
        assert one.closed_at is not None
        assert one.seconds == pytest.approx(one.closed_at - one.opened_at, abs=0.01)
    for one, following in pairwise(sorted(rows, key=lambda row: row.opened_at)):
        assert one.closed_at <= following.opened_at + 0.01, "there is one card: nobody is charged for it beside another"
    assert sum(one.seconds for one in rows) <= ended - began + HEARTBEAT_S


def finish(world: World, part: str, began: float) -> None:
    """Check what is left, and that the card can be had."""
    if not world.order.taken:
        world.order.withdraw()
        raise AssertionError("nobody came by the step: this row has tested nothing")
    for name in (world.name, world.other):
        world.leave(name)
        world.stop(name)
    wait_for(world.settled, "nothing to be held by nobody", 240)
    check_books(world, began, time.time())
    assert world.ask() == "starting", "the card can be had at once"
    wait_for(world.ready, "a server afterwards", 120)
    world.stop()
    wait_for(world.settled, "the end", 120)
