"""A storm: everybody clicks *Start* at once, beside plain KubeSpawner, on nodes that KWOK plays.

    python -m tests.bench.storm --people 40 500 2000 --write docs/reference/benchmarks

For each size a fresh hub of each kind, and one whose spawner does nothing; everybody is logged in and has the form
open, then all click. Pods are made, scheduled and become ready as on any cluster, but nothing runs in them: the hubs
reach one stub server that looks at whose address it was asked for. Needs what the cluster tests need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench import hubs, login_page, loop_watch, storm_report
from tests.bench.crowd import populated
from tests.bench.report import conditions
from tests.bench.storm_config import BARE
from tests.bench.storm_people import Click, Person
from tests.hub.site import free_ports
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

__all__ = ["HUBS", "Storm", "measure"]

HUBS = ("plain", hubs.OURS, BARE)
_PODS_PER_NODE = 50
_AT_ONCE = 20
_COUNT_S = 600.0
_SETTLED_S = 3.0
"""How long a hub is left alone before its memory and its loop's record are read."""


@dataclass(frozen=True)
class Storm:
    """One storm at one hub. Times in seconds, memory in MB."""

    hub: str
    people: int
    clicks: tuple[Click, ...]
    login: tuple[float, ...]
    shares_s: dict[str, float]
    lags_ms: tuple[float, ...]
    memory_before: float
    memory_after: float
    memory_restarted: float
    restart_api_s: float
    restart_all_s: float | None

    @property
    def failures(self) -> tuple[Click, ...]:
        """Clicks that did not lead to the own server."""
        return tuple(click for click in self.clicks if click.failure)


@contextlib.contextmanager
def _stub(address: str, people: int) -> Iterator[str]:
    port = free_ports(1, address)[0]
    command = [sys.executable, "-m", "tests.bench.stub_server", address, str(port), str(people)]
    process = subprocess.Popen(command)
    try:
        yield f"{address}:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def _only_simulated_nodes(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("cordon", cluster.node)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", cluster.node)


@contextlib.asynccontextmanager
async def _people(hub: hubs.Hub, number: int) -> AsyncIterator[list[Person]]:
    """So many people, each with a browser of their own, logged in and with the form open."""
    async with contextlib.AsyncExitStack() as parts:
        connector = await parts.enter_async_context(aiohttp.TCPConnector(limit=0))
        people = []
        for n in range(1, number + 1):
            jar = aiohttp.CookieJar(unsafe=True)  # the hub is at an address without a name
            session = aiohttp.ClientSession(
                connector=connector, connector_owner=False, cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=None)
            )
            people.append(Person(hub, f"person{n}", await parts.enter_async_context(session)))
        waiting = iter(people)

        async def come() -> None:
            for person in waiting:
                await person.come()

        await asyncio.gather(*(come() for _ in range(_AT_ONCE)))
        yield people


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _shares(hub: hubs.Hub) -> tuple[dict[str, float], list[float]]:
    found = loop_watch.read(hub.loop_record)
    return found["shares_s"], found["lags_ms"]


async def _ready(hub: hubs.Hub) -> int:
    """How many servers the hub takes for ready."""
    number, path = 0, "/hub/api/users?state=ready&limit=200"
    headers = {"Authorization": f"token {hub.token}", "Accept": "application/jupyterhub-pagination+json"}
    async with aiohttp.ClientSession(headers=headers) as http:
        address: str | None = hub.url + path
        while address:
            async with http.get(address) as answer:
                answer.raise_for_status()
                said: dict[str, Any] = await answer.json()
            number += len(said["items"])
            onward = said["_pagination"]["next"]
            address = f"{hub.url}{path}&offset={onward['offset']}" if onward else None
    return number


async def _restarted(hub: hubs.Hub, servers: int) -> tuple[float, float | None]:
    """Restart the hub; return after how many seconds its API answered, and it had all servers again (None: never)."""
    began = time.monotonic()
    api_s = await asyncio.to_thread(hub.restart)
    while time.monotonic() - began < _COUNT_S:
        with contextlib.suppress(aiohttp.ClientError):
            if await _ready(hub) >= servers:
                return api_s, time.monotonic() - began
        await asyncio.sleep(1.0)
    return api_s, None


async def _storm(name: str, cluster: Cluster, people: int, folder: Path) -> Storm:
    image = cluster.image("base")
    with contextlib.ExitStack() as parts:
        namespace = parts.enter_context(cluster.namespace(f"bench-storm-{name}"))
        stub = parts.enter_context(_stub(cluster.bridge_address, people))
        running = hubs.running(name, cluster, namespace, image, folder, loop_watch=True, servers_at=stub)
        hub = parts.enter_context(running)
        async with _people(hub, people) as everybody:
            print(f"{name}: {people} people are logged in", flush=True)
            await asyncio.sleep(_SETTLED_S)
            before, (shares, lags) = _memory_mb(hub.pid()), _shares(hub)
            with login_page.watched(hub.url) as views:
                clicks = await asyncio.gather(*(person.click() for person in everybody))
        await asyncio.sleep(_SETTLED_S)
        after, (shares_after, lags_after) = _memory_mb(hub.pid()), _shares(hub)
        good = sum(not click.failure for click in clicks)
        api_s, all_s = await _restarted(hub, good)
        await asyncio.sleep(_SETTLED_S)
        restarted = _memory_mb(hub.pid())
    spent = {kind: shares_after[kind] - shares.get(kind, 0.0) for kind in shares_after}
    found = Storm(
        name,
        people,
        tuple(clicks),
        tuple(views.took),
        spent,
        tuple(lags_after[len(lags) :]),
        before,
        after,
        restarted,
        api_s,
        all_s,
    )
    print(storm_report.line(found), flush=True)
    return found


async def _run(
    cluster: Cluster, sizes: Sequence[int], folder: Path, done: Callable[[Sequence[Storm]], None]
) -> list[Storm]:
    storms: list[Storm] = []
    with cluster.namespace("bench-nodes", restricted=False) as nodes, _only_simulated_nodes(cluster):
        number = max(sizes) // _PODS_PER_NODE + 5
        async with populated(cluster.kubeconfig, nodes, nodes=number, pods=0):
            for place, size in enumerate(sizes):
                for name in HUBS if place % 2 == 0 else HUBS[::-1]:
                    where = folder / f"{name}-{size}"
                    storms.append(await _storm(name, cluster, size, where))
                    done(storms)
    return storms


def measure(
    cluster: Cluster, sizes: Sequence[int], folder: Path, done: Callable[[Sequence[Storm]], None] = lambda storms: None
) -> list[Storm]:
    """Run the benchmark; the hubs' state and logs lie in `folder`. Each person needs some sockets at once.

    `done` is called after each storm with all of them so far: the largest take long, and may be broken off.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(_run(cluster, sizes, folder, done))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, nargs="+", default=[40, 500, 2000], help="how many click (40 500 2000)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write storm.md and storm.json there")
    given = parser.parse_args(arguments)
    was_up = kubernetes.is_up()
    cluster = kubernetes.up()
    try:
        found = conditions(cluster)

        def done(storms: Sequence[Storm]) -> None:
            if given.write:
                print(f"written: {storm_report.write(storms, found, given.write)}", flush=True)

        with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
            measure(cluster, given.people, Path(folder).resolve(), done)
    finally:
        if not was_up:
            kubernetes.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
