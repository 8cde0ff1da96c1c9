"""The form with live counts on a large cluster that changes all the time, beside the naive way and plain KubeSpawner.

    python -m tests.bench.capacity --write docs/reference/benchmarks

1,000 nodes and 10,000 pods that KWOK plays, 50 changes a second while it is measured. People who are logged in open
the form: at our hub, at the same hub fed the naive way (two lists of nodes and one of pods for each view), and at
plain KubeSpawner's, which shows no counts. Each view is timed at the HTTP boundary, through each hub's proxy. Takes
about ten minutes; needs what the cluster tests need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench import capacity_report, hubs, loop_watch
from tests.bench.client import Browser
from tests.bench.crowd import Crowd, populated
from tests.bench.processes import Usage, measured
from tests.bench.report import conditions
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

__all__ = ["HUBS", "Run", "Size", "View", "measure"]

HUBS = {"plain": "KubeSpawner, no counts", "naive": "Armillary, fed the naive way", "armillary": "Armillary"}
_NAIVE_VIEWS = 1
# Views in a row in one round: the naive way takes seconds, or a minute, for each.

_COUNTED_S = 120.0
_BETWEEN_S = 0.02


@dataclass(frozen=True)
class Size:
    """How large the cluster is, how fast it changes, and how often it is looked at."""

    nodes: int = 1000
    pods: int = 10_000
    changes_per_s: float = 50.0
    rounds: int = 20
    views: int = 100
    """In a row at each hub in one round, but for the naive way: enough that a 99.9th percentile means something."""


@dataclass(frozen=True)
class View:
    """One view of the form: at which hub, in which round, seconds until the page was there."""

    hub: str
    round: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """What one run found. `loops` is what `loop_watch` wrote for each hub, `changes_per_s` what was really reached."""

    size: Size
    views: tuple[View, ...]
    loops: dict[str, Any]
    controller: Usage
    changes_per_s: float
    load: float
    checked: dict[str, int] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def _person(hub: hubs.Hub) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is logged in at this hub."""
    browser = Browser(hub, "person1")
    try:
        await browser.log_in()
        yield browser.http
    finally:
        await browser.close()


async def _view(http: httpx.AsyncClient, hub: str, number: int) -> View:
    began = time.perf_counter()
    answer = await http.get("/hub/spawn/person1")
    seconds = time.perf_counter() - began
    if answer.status_code != 200 or "spawn_form" not in answer.text:
        raise RuntimeError(f"{hub} showed no form: {answer.status_code} {answer.text[:500]}")
    return View(hub, number, seconds)


async def _counted(http: httpx.AsyncClient) -> dict[str, Any]:
    """Wait until our controller has counted, and return the counts as a page gets them."""
    await http.get("/services/armillary/login", params={"next": "/services/armillary/api/capacity"})
    deadline = time.monotonic() + _COUNTED_S
    while True:
        answer = await http.get("/services/armillary/api/capacity")
        if answer.status_code == 200 and answer.json()["fresh"] and answer.json()["accelerators"]["t4"]["total"]:
            return dict(answer.json())
        if time.monotonic() > deadline:
            raise RuntimeError(f"no counts within {_COUNTED_S:g} s: {answer.status_code} {answer.text[:500]}")
        await asyncio.sleep(0.5)


async def _rounds(people: dict[str, httpx.AsyncClient], size: Size) -> list[View]:
    views: list[View] = []
    for number in range(size.rounds):
        names = list(people)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            here = []
            for _ in range(_NAIVE_VIEWS if name == "naive" else size.views):
                here.append(await _view(people[name], name, number))
                await asyncio.sleep(_BETWEEN_S)
            views += here
            print(f"round {number + 1:3} {name:10} {min(view.seconds for view in here):8.3f} s", flush=True)
    return views


async def _run(cluster: Cluster, size: Size, folder: Path) -> Run:
    image = cluster.image("base")
    async with contextlib.AsyncExitStack() as parts:
        namespace = parts.enter_context(cluster.namespace("bench-crowd", restricted=False))
        print(f"making {size.nodes} nodes and {size.pods} pods", flush=True)
        crowd = await parts.enter_async_context(
            populated(cluster.kubeconfig, namespace, nodes=size.nodes, pods=size.pods)
        )
        running = {
            name: parts.enter_context(
                hubs.running(name, cluster, namespace, image, folder / name, inventory=True, loop_watch=True)
            )
            for name in HUBS
        }
        people = {name: await parts.enter_async_context(_person(hub)) for name, hub in running.items()}
        checked = await _counted(people["armillary"])
        return await _measured(crowd, running, people, size, checked)


async def _measured(
    crowd: Crowd, running: dict[str, hubs.Hub], people: dict[str, httpx.AsyncClient], size: Size, counts: dict[str, Any]
) -> Run:
    service = running["armillary"].service_pid
    if service is None:
        raise RuntimeError("our hub runs without its service")
    changing = asyncio.create_task(crowd.keep_changing(size.changes_per_s))
    began, changed = time.monotonic(), crowd.changes
    try:
        async with measured(service) as usage:
            views = await _rounds(people, size)
        rate = (crowd.changes - changed) / (time.monotonic() - began)
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
    if len(crowd.failures) > crowd.changes / 100:
        raise RuntimeError(f"{len(crowd.failures)} changes failed, one of them: {crowd.failures[-1]}")
    await asyncio.sleep(1.5)  # the loops' records are written each second
    loops = {name: loop_watch.read(hub.loop_record) for name, hub in running.items()}
    totals = {key: counted["total"] for key, counted in counts["accelerators"].items()}
    return Run(size, tuple(views), loops, usage.result(), rate, os.getloadavg()[0], totals)


def measure(cluster: Cluster, size: Size, folder: Path) -> Run:
    """Run the benchmark once; the hubs' state and logs lie in `folder`."""
    return asyncio.run(_run(cluster, size, folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=Size.nodes, help=f"how many nodes ({Size.nodes})")
    parser.add_argument("--pods", type=int, default=Size.pods, help=f"how many pods ({Size.pods})")
    parser.add_argument(
        "--changes", type=float, default=Size.changes_per_s, help=f"changes a second ({Size.changes_per_s:g})"
    )
    parser.add_argument("--rounds", type=int, default=Size.rounds, help=f"how many rounds of views ({Size.rounds})")
    parser.add_argument("--views", type=int, default=Size.views, help=f"views at a hub in one round ({Size.views})")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write capacity.md and capacity.json there")
    given = parser.parse_args(arguments)
    if min(given.nodes, given.pods, given.changes, given.rounds, given.views) < 1:
        parser.error("--nodes, --pods, --changes, --rounds and --views must be at least 1")
    was_up = kubernetes.is_up()
    cluster = kubernetes.up()
    try:
        with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
            run = measure(
                cluster, Size(given.nodes, given.pods, given.changes, given.rounds, given.views), Path(folder).resolve()
            )
        print(capacity_report.said(run))
        if given.write:
            print(f"written: {capacity_report.write(run, conditions(cluster), given.write)}")
    finally:
        if not was_up:
            kubernetes.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
