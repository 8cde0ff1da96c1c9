"""What a run of the decisions found, as a Markdown page for people and JSON for whoever wants to count again."""

from __future__ import annotations

import json
import platform
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.bench.ratio import percentile
from tests.bench.report import machine, table

if TYPE_CHECKING:
    from tests.bench.admission import Measured, Run

__all__ = ["line", "said", "write"]

GOAL_MS = 2.0
"""How much longer than a bare commit a decision may take, at the 99th percentile."""

WEEK_MS = 50.0


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _over(found: Measured, percent: int) -> str:
    over = percentile(found.decision, percent) - percentile(found.bare, percent)
    return _ms(over) if over > 0 else f"{_ms(over)} (the bare commits had the outliers)"


def line(found: Measured) -> str:
    """Return one measurement in a line."""
    return (
        f"{found.database}, {found.writers} writer{'s' if found.writers > 1 else ''}: bare p99 "
        f"{_ms(percentile(found.bare, 99))} ms, decision p50 {_ms(median(found.decision))}, p99 "
        f"{_ms(percentile(found.decision, 99))} ms, naive p50 {_ms(median(found.naive))} ms"
    )


def said(run: Run) -> str:
    """Return what the run found, in some lines."""
    lines = [line(found) for found in run.measured]
    lines += [f"{name}: a group's hours in a week, slowest {_ms(max(times))} ms" for name, times in run.week.items()]
    return "\n".join(lines)


def _decisions(run: Run) -> str:
    rows = []
    for found in run.measured:
        for what, times in (("bare commit", found.bare), ("decision", found.decision), ("naive", found.naive)):
            numbers = [_ms(percentile(times, percent)) for percent in (50, 95, 99)]
            rows.append([f"{found.database}, {found.writers}: {what}", str(len(times)), *numbers])
    return table(["database, writers; milliseconds", "measured", "p50", "p95", "p99"], rows)


def _goals(run: Run) -> str:
    rows = []
    for found in run.measured:
        goal = f"at most {GOAL_MS:g}" if found.database == "PostgreSQL" or found.writers == 1 else "none"
        ratio = median(found.naive) / median(found.decision)
        over = [_over(found, percent) for percent in (50, 99)]
        rows.append([f"{found.database}, {found.writers}", *over, goal, f"{ratio:.1f}"])
    head = ["database, writers", "p50 over bare commit, ms", "p99 over it, ms", "goal of p99", "naive to ours, medians"]
    return table(head, rows)


def _page(run: Run) -> str:
    site, week = run.site, run.week
    slowest = "; ".join(f"{name} {_ms(median(times))} ms, slowest {_ms(max(times))}" for name, times in week.items())
    return f"""\
# What a decision costs

*Written by `python -m tests.bench.admission`; do not edit.*

A request at the service's door: everything that matters is read, the decision made, and a reservation with its row of the ledger, or a
place in the queue, is written; in one transaction that is on the disk when it returns. Beside it, in the same run and by chance before or after it, a bare
transaction that inserts one row.

{_goals(run)}

{_decisions(run)}

**Hours of a group in a week**, asked of the same data {len(next(iter(week.values())))} times: median {slowest}. The goal is below {WEEK_MS:g} ms.

## How it is measured

{site.history.users:,} people with a weekly budget each, {site.history.groups} groups with a monthly one, {site.history.rows:,} rows in the ledger over
{site.history.days} days, {site.history.running} sessions that run, {site.queued} people who wait. Every second request asks for an accelerator of which some are free and is
admitted; the others are queued. What was written is taken away again between the measurements. The naive way is the same decision, but
with what was used added up from the ledger's rows instead of our sums of quarters of an hour. Eight writers are eight processes. SQLite
with WAL and `synchronous = FULL`, its log copied every second as by the controller; PostgreSQL with `fsync` and `synchronous_commit`, over
loopback. Writers take turns, so that one of eight waits for seven others; they and the database share this machine's cores.

Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {machine()}, load average at the end {run.load:.1f}. Python {platform.python_version()}, SQLite
{sqlite3.sqlite_version}, SQLAlchemy {version("sqlalchemy")}, psycopg {version("psycopg")}, PostgreSQL 15.

Every single time is in {{download}}`admission.json`.
"""


def write(run: Run, folder: Path) -> Path:
    """Write `admission.md` and `admission.json` into the folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "history": asdict(run.site.history),
        "queued": run.site.queued,
        "measured": [asdict(found) for found in run.measured],
        "week": {name: list(times) for name, times in run.week.items()},
        "load": run.load,
    }
    (folder / "admission.json").write_text(json.dumps(raw) + "\n", encoding="utf-8")
    page = folder / "admission.md"
    page.write_text(_page(run), encoding="utf-8")
    return page
