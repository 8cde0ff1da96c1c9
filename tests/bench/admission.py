"""What a decision costs beside a bare durable commit, on a full site: SQLite and PostgreSQL, one writer and eight.

    python -m tests.bench.admission --write docs/reference/benchmarks

10,000 people with budgets, a million rows of history, 500 sessions, 200 who wait. Each writer does in turn: a bare
commit (one row inserted) and a decision as at the service's door (read everything, decide, reserve or queue), by
chance one or the other first; afterwards some naive decisions, that add up the ledger instead of our sums. What was
written is taken away again between the measurements. Takes some minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, func, insert, select

from hub.admission import reservations
from hub.db.checkpoint import EVERY_S, copying
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import audit, ledger, tickets
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from hub.usage import sums
from hub.usage.windows import bounds
from tests.bench import admission_report
from tests.bench.admission_site import Asker, Site, people, prepare, store
from tests.bench.history import History, group_of
from tests.lab import postgres

__all__ = ["Measured", "Run", "measure"]

WRITERS = (1, 8)
_WAIT_S = 60.0
_WARM = 20
_NAIVE = 40
_QUERIES = 50


@dataclass(frozen=True)
class Measured:
    """Seconds of one kind of database with so many writers: each commit, each decision, each naive one."""

    database: str
    writers: int
    bare: tuple[float, ...]
    decision: tuple[float, ...]
    naive: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """What one run found; `week` has the seconds of each question for a group's hours in a week, by database."""

    site: Site
    rounds: int
    measured: tuple[Measured, ...]
    week: Mapping[str, tuple[float, ...]]
    load: float


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _naive_used(
    connection: Connection, windows: Mapping[str, Sequence[Any]], zone: Any, *, now: float | None = None
) -> dict[str, dict[tuple[Any, str], float]]:
    """What `hub.usage.sums.used_by_each` tells, added up from the rows of the ledger."""
    moment = now or 0.0
    begin: Any = func.max if connection.dialect.name == "sqlite" else func.greatest
    whole: dict[str, dict[tuple[Any, str], float]] = {}
    for subject, mine in windows.items():
        found = whole[subject] = {}
        whose = ledger.c.user_name == subject[3:] if subject.startswith("by:") else ledger.c.account == subject
        for window in mine:
            since, _ = bounds(window, moment, zone)
            end = func.coalesce(ledger.c.closed_at, moment)
            seconds = func.sum((end - begin(ledger.c.opened_at, since)) * ledger.c.share)
            rows = connection.execute(
                select(ledger.c.accelerator, seconds).where(whose, end > since).group_by(ledger.c.accelerator)
            )
            for row in rows:
                used = float(row[1] or 0.0)
                found[window, str(row[0])] = used
                found[window, ""] = found.get((window, ""), 0.0) + used
    return whole


def _writer(url: str, seed: int, rounds: int, naive: int, history: History, barrier: Any, results: Any) -> None:
    """One process: bare commits and decisions, then naive ones.

    Each has its turn by chance: writers that do all the same in turn fall into step, and a decision would be compared
    with a bare commit that has waited for bare commits only.
    """
    engine, rules, chance = connect(url), store(), random.Random(seed)
    askers = iter(people(history, seed))
    found: dict[str, list[float]] = {"bare": [], "decision": [], "naive": []}

    def bare(connection: Connection) -> None:
        row = {"at": Now(), "actor": "user:bench", "action": "bench", "subject": str(chance.random())}
        connection.execute(insert(audit).values(**row))

    def decide(asker: Asker) -> float:
        names: list[str] = []

        def work(connection: Connection) -> None:
            names[:] = [asker.ask(connection, rules)]

        seconds = _timed(lambda: write(engine, work, wait_s=_WAIT_S))
        write(engine, lambda connection: _take_away(connection, names[0]), wait_s=_WAIT_S)
        return seconds

    def measured(what: str) -> float:
        return _timed(lambda: write(engine, bare, wait_s=_WAIT_S)) if what == "bare" else decide(next(askers))

    for number in range(-_WARM, rounds):
        if number == 0:
            barrier.wait()
        for what in chance.sample(["bare", "decision"], 2):
            seconds = measured(what)
            if number >= 0:
                found[what].append(seconds)
    barrier.wait()  # a naive one keeps all others waiting
    with patch.object(sums, "used_by_each", _naive_used), patch.object(rules, "windows_of", lambda *_: {}):
        found["naive"] = [decide(next(askers)) for _ in range(naive)]
    results.put(found)
    engine.dispose()


def _take_away(connection: Connection, name: str) -> None:
    connection.execute(delete(tickets).where(tickets.c.id == name))
    reservations.delete(connection, (name,))
    connection.execute(delete(ledger).where(ledger.c.id == name))


def _race(url: str, writers: int, rounds: int, history: History) -> dict[str, list[float]]:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers), context.Queue()
    each = max(1, rounds // writers)
    processes = [
        context.Process(target=_writer, args=(url, seed, each, max(1, _NAIVE // writers), history, barrier, results))
        for seed in range(writers)
    ]
    for process in processes:
        process.start()
    found: dict[str, list[float]] = {"bare": [], "decision": [], "naive": []}
    with _controller(url):
        for _ in processes:
            for what, seconds in _next(results, processes).items():
                found[what] += seconds
    for process in processes:
        process.join(60)
    return found


@contextmanager
def _controller(url: str) -> Iterator[None]:
    """Do beside it what a site's controller does for the database: copy SQLite's log."""
    engine, ended = connect(url), threading.Event()

    def copy() -> None:
        with copying(engine) as copied:
            while not ended.wait(EVERY_S):
                copied()

    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(copy)
        try:
            yield
        finally:
            ended.set()
        following.result()
    engine.dispose()


def _next(results: Any, processes: Sequence[Any]) -> dict[str, list[float]]:
    """Return what one more writer has found; one that has failed said why on standard error."""
    while True:
        try:
            found: dict[str, list[float]] = results.get(timeout=2.0)
            return found
        except queue.Empty:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.terminate()
                raise RuntimeError("a writer has failed") from None


def _week(url: str, history: History) -> tuple[float, ...]:
    """Ask for the hours of groups in weeks that are over or begun."""
    engine, chance = connect(url), random.Random(3)
    now = float(read(engine, lambda connection: connection.scalar(select(Now()))) or 0.0)
    since, _ = bounds("week", now, ZoneInfo(history.zone))
    found = []
    for _ in range(_QUERIES):
        begin = since - 7 * 86_400.0 * chance.randrange(4)
        group = group_of(chance.randrange(history.users), history.groups)
        asked = lambda connection, group=group, begin=begin: sums.share_seconds(  # noqa: E731
            connection, group, begin, begin + 7 * 86_400.0
        )
        found.append(_timed(lambda asked=asked: read(engine, asked)))  # type: ignore[misc]
    engine.dispose()
    return tuple(found)


@contextmanager
def _databases(folder: Path) -> Iterator[dict[str, str]]:
    """URLs of one SQLite file, and of one database of a PostgreSQL over loopback, both on this folder's disk."""
    (folder / "postgres").mkdir(mode=0o755)
    with postgres.running(durable=folder / "postgres") as server:
        yield {"SQLite": f"sqlite:///{folder / 'sqlite' / 'armillary.sqlite'}", "PostgreSQL": server.fresh_database()}


def measure(site: Site, rounds: int, folder: Path, writers: Sequence[int] = WRITERS) -> Run:
    """Run the benchmark once; the databases lie in `folder`, which has to be on a disk."""
    measured, week = [], {}
    with _databases(folder) as urls:
        for name, url in urls.items():
            print(f"{name}: writing {site.history.rows} rows of history", flush=True)
            engine = connect(url)
            upgrade(engine)
            prepare(engine, site)
            engine.dispose()
            week[name] = _week(url, site.history)
            for number in writers:
                found = _race(url, number, rounds, site.history)
                measured.append(
                    Measured(name, number, tuple(found["bare"]), tuple(found["decision"]), tuple(found["naive"]))
                )
                print(admission_report.line(measured[-1]), flush=True)
    return Run(site, rounds, tuple(measured), week, os.getloadavg()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.admission", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=History.rows, help=f"rows of the ledger ({History.rows})")
    parser.add_argument("--rounds", type=int, default=2000, help="decisions of all writers together (2000)")
    parser.add_argument("--folder", type=Path, help="a folder on the disk that is measured; default: a temporary one")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write admission.md and admission.json there")
    given = parser.parse_args(arguments)
    site = Site(History(rows=given.rows))
    with tempfile.TemporaryDirectory(prefix="armillary-bench-", dir=given.folder) as folder:
        Path(folder).chmod(0o755)  # the account of PostgreSQL has to get in
        run = measure(site, given.rounds, Path(folder).resolve())
    print(admission_report.said(run))
    if given.write:
        print(f"written: {admission_report.write(run, given.write)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
