"""What the benchmark of the form found, as a Markdown page and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.ratio import Ratio, percentile, ratio_of_medians
from tests.bench.report import Conditions, table

if TYPE_CHECKING:
    from tests.bench.capacity import Run

__all__ = ["our_holds", "ratio", "said", "write"]

_TITLES = {"plain": "KubeSpawner, no counts", "naive": "Armillary, fed the naive way", "armillary": "Armillary"}


def _rounds(run: Run, hub: str) -> list[float]:
    """The median view of each round, in milliseconds."""
    return [
        median(view.seconds * 1000 for view in run.views if view.hub == hub and view.round == number)
        for number in range(run.size.rounds)
    ]


def _all(run: Run, hub: str) -> list[float]:
    return [view.seconds * 1000 for view in run.views if view.hub == hub]


def ratio(run: Run) -> Ratio:
    """Return how much longer the naive way takes than ours."""
    return ratio_of_medians(_rounds(run, "naive"), _rounds(run, "armillary"))


def our_holds(run: Run, hub: str = "armillary", *, cpu: bool = False) -> list[float]:
    """Return for how long our own code held the loop, in milliseconds, once for each view at least.

    Callbacks shorter than the watch's look are not seen and count as nothing. With `cpu`, only what the loop's thread
    has computed: not what it waited for a processor that others had.
    """
    what = "ours_cpu_ms" if cpu else "ours_ms"
    seen = [held[what] for held in run.loops[hub]["long"] if held["ours_ms"] > 0]
    return seen + [0.0] * max(0, len(_all(run, hub)) - len(seen))


def said(run: Run) -> str:
    """Return the result in a few lines."""
    found = ratio(run)
    holds, computed, worst = our_holds(run), our_holds(run, cpu=True), _worst(run)
    return "\n".join(
        [
            f"the naive way / ours: {found.value:.0f} (95 % interval {found.low:.0f} to {found.high:.0f})",
            f"our code held the loop: p99.9 {percentile(holds, 99.9):.1f} ms, longest {max(holds):.1f} ms{worst}",
            f"of that it computed: p99.9 {percentile(computed, 99.9):.1f} ms, longest {max(computed):.1f} ms",
            *(f"lag of the loop, {hub}: {_lag(run, hub)}" for hub in run.loops),
            f"service with controller: {run.controller.cores:.2f} cores, {run.controller.memory_mb:.0f} MB at most",
            f"changes: {run.changes_per_s:.0f} a second",
        ]
    )


def _worst(run: Run) -> str:
    ours = [held for held in run.loops["armillary"]["long"] if held["ours_ms"] > 0]
    return f" in {max(ours, key=lambda held: held['ours_ms'])['where']}" if ours else ""


def _lag(run: Run, hub: str) -> str:
    lags = run.loops[hub]["lags_ms"]
    return (
        f"p50 {percentile(lags, 50):.1f} ms, p99 {percentile(lags, 99):.1f} ms, p99.9 {percentile(lags, 99.9):.1f} ms"
    )


def _page(run: Run, found: Conditions) -> str:
    how = ratio(run)
    rows = []
    for hub, title in _TITLES.items():
        values = _all(run, hub)
        numbers = [median(values), percentile(values, 95), percentile(values, 99), max(values)]
        rows.append([title, str(len(values)), *(f"{number:.1f}" for number in numbers)])
    views = table(["form, milliseconds", "views", "median", "95th percentile", "99th percentile", "longest"], rows)
    lag_rows = []
    for hub, title in _TITLES.items():
        lags = run.loops[hub]["lags_ms"]
        lag_rows.append(
            [title, *(f"{percentile(lags, percent):.1f}" for percent in (50, 95, 99, 99.9)), f"{max(lags):.1f}"]
        )
    lags_table = table(["lag of the hub's loop, ms", "median", "95th", "99th", "99.9th", "longest"], lag_rows)
    holds, computed = our_holds(run), our_holds(run, cpu=True)
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    return f"""\
# The form with live counts

*Written by `make bench` (`python -m tests.bench.capacity`); do not edit.*

How long the form takes to open on a cluster of {run.size.nodes} nodes and {run.size.pods} pods on which
{run.changes_per_s:.0f} things a second changed while it was measured. Three hubs ran side by side: ours; ours with the
counts made the naive way, two lists of nodes and one of pods for each view; and plain KubeSpawner's form, which shows
no counts.

**The naive way takes {how.value:.0f} times as long as ours** (medians; 95 % interval {how.low:.0f} to {how.high:.0f},
bootstrap over {run.size.rounds} rounds).

{views}

## The hub's event loop

A timer that is due every 10 ms tells how late the loop is.

{lags_table}

Our own code held the loop for {percentile(computed, 99.9):.1f} ms of processor time at the 99.9th percentile, {max(computed):.1f} ms
at most. By the clock, on a machine whose two processors are shared with an API server and two other hubs, that was
{percentile(holds, 99.9):.1f} ms and {max(holds):.1f} ms{_worst(run)}. A thread looks at the stack every 2 ms while a callback runs, and the time of
a callback is shared out by what was seen; {len(holds)} holds, one for each view at least.

## The controller

Service and controller in one process, with four watches: {run.controller.cores:.2f} cores on average and
{run.controller.memory_mb:.0f} MB at most, over {run.controller.seconds:.0f} seconds.

## How it is measured

{run.size.rounds} rounds in changing order; in each one view the naive way and {run.size.views} each at the other two, one at a time,
by somebody who is logged in, through each hub's proxy. The cluster is a real API server with nodes that KWOK plays; pods have
20 environment variables, as sessions have. The naive way uses Kubernetes' own synchronous Python client, in a thread.

Measured {found.date} on {found.machine}; API server, KWOK, hubs and the load all on it. Load average at the end: {run.load:.1f}.
{versions}.

Every single view is in {{download}}`capacity.json`.
"""


def write(run: Run, found: Conditions, folder: Path) -> Path:
    """Write `capacity.md` and `capacity.json` into the folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "date": found.date,
        "machine": found.machine,
        "versions": dict(found.versions),
        "size": asdict(run.size),
        "changes_per_s": round(run.changes_per_s, 1),
        "ratio": asdict(ratio(run)),
        "controller": asdict(run.controller),
        "totals": run.checked,
        "loops": {
            hub: {
                "callbacks": loop["callbacks"],
                "lag_ms": {str(p): round(percentile(loop["lags_ms"], p), 2) for p in (50, 95, 99, 99.9, 100)},
                "longest": sorted(loop["long"], key=lambda held: -held["ms"])[:20],
            }
            for hub, loop in run.loops.items()
        },
    }
    views = [{"hub": v.hub, "round": v.round, "ms": round(v.seconds * 1000, 2)} for v in run.views]
    lines = ",\n".join(f"  {json.dumps(view)}" for view in views)
    text = json.dumps(raw, indent=1).removesuffix("\n}") + f',\n "views": [\n{lines}\n ]\n}}\n'
    (folder / "capacity.json").write_text(text, encoding="utf-8")
    page = folder / "capacity.md"
    page.write_text(_page(run, found), encoding="utf-8")
    return page
