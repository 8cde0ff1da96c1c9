"""Click to ready, beside plain KubeSpawner, on a real Kubernetes.

    python -m tests.bench.spawn --pairs 40 --write docs/reference/benchmarks

Each pair is a start at plain KubeSpawner's hub and one at ours, with one at a third hub that tells where the
difference comes from; their order changes from round to round. A round takes about half a minute. Needs what the
cluster tests need. With `--only` one hub is looked at, without a comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import hubs, report
from tests.bench.client import Browser
from tests.bench.pods import Watcher, watching
from tests.bench.report import Start, conditions
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

__all__ = ["measure"]

_PEOPLE = 4
# As many people start servers at each hub, in turn. Each has had a server before, so that the home exists.

_PAUSE_S = 1.0
# Between starts: what Kubernetes tidies up after a pod shall not count against the next one.


@dataclass(frozen=True)
class Place:
    """One hub with the people at it and the watch of its pods."""

    hub: hubs.Hub
    people: tuple[Browser, ...]
    watcher: Watcher


@contextlib.asynccontextmanager
async def _place(name: str, cluster: Cluster, image: str, people: int, folder: Path) -> AsyncIterator[Place]:
    with contextlib.ExitStack() as parts:
        namespace = parts.enter_context(cluster.namespace(f"bench-{name}"))
        hub = parts.enter_context(hubs.running(name, cluster, namespace, image, folder / name))
        browsers = tuple(Browser(hub, f"person{number}") for number in range(1, people + 1))
        async with watching(cluster.kubeconfig, namespace) as watcher:
            try:
                for browser in browsers:
                    await browser.log_in()
                yield Place(hub, browsers, watcher)
            finally:
                for browser in browsers:
                    await browser.close()


async def _one(place: Place, person: int, pair: int) -> Start:
    browser = place.people[person]
    load = round(os.getloadavg()[0], 2)
    marks = await browser.start(place.watcher)
    await browser.stop(place.watcher)
    await asyncio.sleep(_PAUSE_S)
    return Start(place.hub.name, pair, dict(marks.at), marks.stages(), load)


def _say(start: Start) -> None:
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in start.stages.items())
    print(
        f"round {start.round:3} {start.hub:11} {start.seconds:6.2f} s  load {start.load:4.1f}  ({stages})", flush=True
    )


async def _run(cluster: Cluster, names: Sequence[str], pairs: int, folder: Path) -> list[Start]:
    image = cluster.image("base")
    people = min(_PEOPLE, pairs)
    starts: list[Start] = []
    async with contextlib.AsyncExitStack() as parts:
        places = [await parts.enter_async_context(_place(name, cluster, image, people, folder)) for name in names]
        orders = list(itertools.permutations(places))
        for place in places:
            for person in range(people):
                await _one(place, person, -1)
        for pair in range(pairs):
            for place in orders[pair % len(orders)]:
                starts.append(await _one(place, pair % people, pair))
                _say(starts[-1])
    return starts


def measure(cluster: Cluster, pairs: int, folder: Path, names: Sequence[str] = tuple(hubs.HUBS)) -> list[Start]:
    """Run the benchmark; returns every start. The hubs' state and logs lie in `folder`.

    Raises
    ------
    tests.bench.client.StartFailed
        A person did not get JupyterLab; a benchmark with failures among its starts has no result.
    """
    if pairs < 1:
        raise ValueError(f"at least one pair is needed, got {pairs}")
    return asyncio.run(_run(cluster, names, pairs, folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.spawn", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40, help="how many pairs of starts (40)")
    parser.add_argument("--only", choices=list(hubs.HUBS), help="look at one hub; no ratio, nothing is written")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write spawn.md and spawn.json there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the hubs' state and logs there")
    given = parser.parse_args(arguments)
    if given.pairs < 1:
        parser.error(f"--pairs must be at least 1, got {given.pairs}")
    if given.keep and given.keep.exists() and any(given.keep.iterdir()):
        parser.error(f"--keep: {given.keep} is not empty, and a hub would find another's servers there")
    was_up = kubernetes.is_up()
    cluster = kubernetes.up()
    try:
        with tempfile.TemporaryDirectory(prefix="armillary-bench-") as temporary:
            folder = (given.keep or Path(temporary)).resolve()
            starts = measure(cluster, given.pairs, folder, [given.only] if given.only else list(hubs.HUBS))
        if given.only:
            return 0
        print()
        for baseline in hubs.HUBS.keys() - {hubs.OURS}:
            print(f"ours / {hubs.HUBS[baseline]}: {report.said(report.ratio(starts, baseline))}")
        if given.write:
            print(f"written: {report.write(starts, conditions(cluster), given.write)}")
    finally:
        if not was_up:
            kubernetes.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
