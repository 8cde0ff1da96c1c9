"""What the storms found, as a Markdown page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.hubs import HUBS
from tests.bench.ratio import percentile
from tests.bench.report import Conditions, table
from tests.bench.storm_config import BARE

if TYPE_CHECKING:
    from tests.bench.storm import Storm

__all__ = ["line", "write"]

_FOLLOWING = ("reflectors", "events")
_NAMES = {**HUBS, BARE: "JupyterHub alone"}


def _seconds(storm: Storm) -> list[float]:
    return [click.seconds for click in storm.clicks if not click.failure]


def _following_s(storm: Storm) -> float:
    return sum(storm.shares_s.get(kind, 0.0) for kind in _FOLLOWING)


def _all(storm: Storm) -> str:
    return "–" if storm.restart_all_s is None else f"{storm.restart_all_s:.1f}"


def _mb_per_thousand(storm: Storm) -> float:
    return (storm.memory_after - storm.memory_before) * 1000 / storm.people


def _following_ms(storm: Storm) -> float:
    """What following a server's pod and telling of it takes of the loop, for each server that was started."""
    return _following_s(storm) * 1000 / max(1, len(_seconds(storm)))


def line(storm: Storm) -> str:
    """Return one storm in a line."""
    good = _seconds(storm)
    ready = f"ready: median {median(good):.1f} s, last {max(good):.1f} s" if good else "nobody got a server"
    first = f"; first: {storm.failures[0].failure}" if storm.failures else ""
    again = f"; after a restart API {storm.restart_api_s:.1f} s, all servers {_all(storm)} s"
    return (
        f"{storm.hub}: {storm.people} people, {len(storm.failures)} failures{first}; {ready}; "
        f"login page: longest {max(storm.login):.2f} s; reflectors and events {_following_s(storm):.1f} s; "
        f"memory {_mb_per_thousand(storm):.0f} MB per 1000{again}"
    )


def _ready(storms: Sequence[Storm]) -> str:
    rows = []
    for storm in storms:
        good = _seconds(storm)
        numbers = (median(good), percentile(good, 95), max(good)) if good else ()
        shown = [f"{number:.1f}" for number in numbers] or ["–"] * 3
        rows.append([f"{storm.people}, {_NAMES[storm.hub]}", str(len(storm.failures)), *shown])
    return table(["people, hub", "failures", "median", "95th percentile", "last"], rows)


def _login(storms: Sequence[Storm]) -> str:
    rows = [
        [
            f"{storm.people}, {_NAMES[storm.hub]}",
            str(len(storm.login)),
            *(f"{number:.2f}" for number in (median(storm.login), percentile(storm.login, 95), max(storm.login))),
        ]
        for storm in storms
    ]
    return table(["people, hub", "views", "median", "95th percentile", "longest"], rows)


def _loop(storms: Sequence[Storm]) -> str:
    kinds = ("reflectors", "events", "jupyterhub", "armillary", "other", "idle")
    rows = [
        [
            f"{storm.people}, {_NAMES[storm.hub]}",
            *(f"{storm.shares_s.get(kind, 0.0):.1f}" for kind in kinds),
            f"{percentile(storm.lags_ms, 99.9) / 1000:.2f}" if storm.lags_ms else "–",
            f"{_following_ms(storm):.2f}",
        ]
        for storm in storms
    ]
    return table(["people, hub", *kinds, "lag, 99.9th", "ms per server"], rows)


def _memory(storms: Sequence[Storm]) -> str:
    rows = [
        [
            f"{storm.people}, {_NAMES[storm.hub]}",
            f"{storm.memory_before:.0f}",
            f"{storm.memory_after:.0f}",
            f"{_mb_per_thousand(storm):.0f}",
            f"{storm.memory_restarted:.0f}",
            f"{storm.restart_api_s:.1f}",
            _all(storm),
        ]
        for storm in storms
    ]
    head = ["people, hub", "MB before", "MB after", "more per 1000", "MB after a restart", "API, s", "all servers, s"]
    return table(head, rows)


def _own(storms: Sequence[Storm]) -> str:
    """What of the memory is JupyterHub's own: what its hub takes with a spawner that does nothing."""
    alone = {storm.people: storm for storm in storms if storm.hub == BARE}
    plain = {storm.people: storm for storm in storms if storm.hub == "plain"}
    rows = []
    for storm in storms:
        own = alone.get(storm.people)
        if storm.hub == BARE or own is None:
            continue
        beside = _mb_per_thousand(storm) - _mb_per_thousand(own)
        other = plain.get(storm.people)
        theirs = _mb_per_thousand(other) - _mb_per_thousand(own) if other is not None else 0.0
        rows.append(
            [
                f"{storm.people}, {_NAMES[storm.hub]}",
                f"{_mb_per_thousand(storm):.0f}",
                f"{_mb_per_thousand(own):.0f}",
                f"{beside:.0f}",
                f"{beside / theirs:.2f}" if theirs > 0 else "–",
            ]
        )
    head = ["people, hub", "more per 1000", "JupyterHub's own", "the spawner's", "against KubeSpawner's"]
    return table(head, rows)


def _page(storms: Sequence[Storm], found: Conditions) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    return f"""\
# A storm of starts

*Written by `python -m tests.bench.storm`; do not edit.*

Everybody is logged in, has the form open and clicks *Start* at the same moment. Plain KubeSpawner runs without its
limit of concurrent spawns; ours as it comes, where the service takes the requests and the queue starts some tens of
servers at once.

## From the click to the own server, seconds

{_ready(storms)}

## Somebody else's login page meanwhile, seconds

Looked at every tenth of a second, over new connections, by a process of its own. An error, such as that the hub does not answer, counts
as 300 s.

{_login(storms)}

## What the hub's event loop did, seconds

A thread looks at the loop every 2 ms and notes what it is at: following pods (reflectors), telling of events, the
hub itself, other code of ours, other libraries. So that it can look when it is due, Python hands over its interpreter
after half a millisecond in all of these hubs, as ours does by itself. The last column is reflectors and events for each server that was started.

{_loop(storms)}

## Memory, and a restart with all servers running

Of the hub's process: before the clicks, when all servers are up, and of the hub that was started again beside them; then
how long after the restart its API answered and knew of all of them.

{_memory(storms)}

## What of the memory is JupyterHub's own

*JupyterHub alone* is the same hub with a spawner that names the stub's address and does nothing else: no pods, nothing
is followed. What its process grows by is for people, servers and their rows, tokens, routes and requests, and no
spawner can move it. The rest is the spawner's, in MB for 1000 people.

{_own(storms)}

## How it is measured

Nodes and pods are played by KWOK on a real API server and scheduler. Nothing runs in the pods: the hubs reach one stub
server, which answers each address only for its owner. Browsers are played as well: form, page of the queue with its
events, page of the start with its events, then the server, on connections that stay open.

Measured {found.date} on {found.machine}; API server, KWOK, hub, proxy, stub and all people on it.
{versions}.

Every click is in {{download}}`storm.json`.
"""


def write(storms: Sequence[Storm], found: Conditions, folder: Path) -> Path:
    """Write `storm.md` and `storm.json` into the folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    raw: list[dict[str, Any]] = [
        {
            "hub": storm.hub,
            "people": storm.people,
            "seconds": [round(click.seconds, 2) for click in storm.clicks],
            "failures": [click.failure for click in storm.failures],
            "login_s": [round(seconds, 3) for seconds in storm.login],
            "shares_s": {kind: round(seconds, 2) for kind, seconds in storm.shares_s.items()},
            "memory_mb": [
                round(number, 1) for number in (storm.memory_before, storm.memory_after, storm.memory_restarted)
            ],
            "restart_s": [storm.restart_api_s, storm.restart_all_s],
        }
        for storm in storms
    ]
    text = json.dumps({"date": found.date, "machine": found.machine, "versions": dict(found.versions)})[:-1]
    lines = ",\n".join(f" {json.dumps(one)}" for one in raw)
    (folder / "storm.json").write_text(f'{text},\n"storms": [\n{lines}\n]}}\n', encoding="utf-8")
    page = folder / "storm.md"
    page.write_text(_page(storms, found), encoding="utf-8")
    return page
