"""What the reconciler compares, as values that tests set: an engine and a hub without anything behind them."""

from __future__ import annotations

from collections.abc import Mapping

from hub.admission.hub_api import Answer
from hub.reconcile.picture import HubServer, Running

__all__ = ["FakeEngine", "FakeServers"]


class FakeEngine:
    """Runs what the test says; `blind`: it cannot be seen."""

    def __init__(self) -> None:
        self.runs: dict[str, Running] = {}
        self.orphans: dict[str, str] = {}
        self.blind = False
        self.plans: frozenset[str] | None = frozenset()
        self.ended: list[str] = []
        self.immortal = False

    def run(self, spawn_id: str, user: str, server: str = "", devices: tuple[str, ...] = ()) -> None:
        self.runs[spawn_id] = Running(spawn_id, f"process of {spawn_id}", user, server, devices)

    async def running(self) -> Mapping[str, Running] | None:
        return None if self.blind else dict(self.runs)

    async def planned(self) -> frozenset[str] | None:
        return self.plans

    async def owner(self, one: Running) -> Running | None:
        return self.runs.get(one.spawn_id)

    async def end(self, one: Running) -> bool:
        self.ended.append(one.spawn_id)
        if not self.immortal:
            self.runs.pop(one.spawn_id, None)
        return not self.immortal

    async def claims(self) -> Mapping[str, str]:
        return dict(self.orphans)

    async def drop_claim(self, key: str) -> bool:
        self.orphans.pop(key, None)
        return True


class FakeServers:
    """The hub's list of active servers; `missed` are in order, but not in the list."""

    def __init__(self) -> None:
        self.servers: dict[tuple[str, str], HubServer] = {}
        self.missed: set[tuple[str, str]] = set()
        self.away = False
        self.stopped: list[tuple[str, str]] = []

    def up(self, user: str, server: str = "", *, ready: bool = True, options: Mapping[str, str] | None = None) -> None:
        self.servers[user, server] = HubServer(user, server, ready, dict(options or {}))

    async def active(self) -> Mapping[tuple[str, str], HubServer] | None:
        return None if self.away else dict(self.servers)

    async def look(self, user: str, server: str) -> Answer:
        there = (user, server) in self.servers or (user, server) in self.missed
        return Answer("ready" if there else "stopped")

    async def stop(self, user: str, server: str) -> Answer:
        self.stopped.append((user, server))
        self.servers.pop((user, server), None)
        return Answer("stopped")
