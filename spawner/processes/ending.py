"""Ending a session: politely first, then for certain, every process of it and nothing else.

Works from launch records alone, without JupyterHub, so that the launcher can end all sessions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spawner.processes import cgroups, records
from spawner.processes.family import family, server_process
from spawner.processes.identity import Process, boot_id, hold, is_alive, send
from spawner.processes.records import Claim, Record

__all__ = ["Ended", "end", "end_all", "settle", "wait_gone"]

_STRAGGLERS_S = 1.0
# For what the server left running; it was told to end its children itself.
_ROUNDS = 40
_PAUSE_S = 0.05
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """What became of one session; `left` are pids the kernel could not end (stuck in a device or file system)."""

    user: str
    server: str
    left: tuple[int, ...] = ()


async def wait_gone(process: Process, timeout_s: float) -> bool:
    """Wait until a process has ended; False if it has not in time."""
    descriptor = hold(process)
    if descriptor is None:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), timeout_s)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


async def end(record: Record, process: Process | None, *, grace_s: float) -> tuple[int, ...]:
    """End a session and remove its control groups.

    Parameters
    ----------
    grace_s
        How long the server may take to end by itself after SIGTERM; 0: everything is killed at once.

    Returns
    -------
    tuple
        The pids that are still there; normally none.
    """
    if record.boot != boot_id():
        return ()  # nothing of it outlived the reboot, its control groups neither
    seen: set[Process] = await asyncio.to_thread(family, record, process)
    if grace_s > 0 and process is not None and is_alive(process):
        server = await asyncio.to_thread(server_process, record, process)
        _send_all([server] if server else [], signal.SIGTERM)
        await wait_gone(process, grace_s)
    seen |= await asyncio.to_thread(family, record, process)
    if grace_s > 0 and (rest := _alive(seen)):
        _send_all(rest, signal.SIGTERM)
        await asyncio.gather(*(wait_gone(one, min(_STRAGGLERS_S, grace_s)) for one in rest))
    left = await _kill(record, process, seen)
    if not await asyncio.to_thread(cgroups.remove, _groups(record)):
        _log.warning("a control group of session %s is not empty: %s", record.spawn_id, ", ".join(record.cgroups))
    return left


async def _kill(record: Record, process: Process | None, seen: set[Process]) -> tuple[int, ...]:
    for _ in range(_ROUNDS):
        await asyncio.to_thread(cgroups.kill, _groups(record))
        seen |= await asyncio.to_thread(family, record, process)
        rest = _alive(seen)
        if not rest:
            return ()
        for one in rest:
            send(one, signal.SIGKILL)
        await asyncio.gather(*(wait_gone(one, _PAUSE_S) for one in rest))
    return tuple(sorted(one.pid for one in _alive(seen)))


def _alive(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if is_alive(process)]


def _groups(record: Record) -> tuple[Path, ...]:
    return tuple(Path(group) for group in record.cgroups)


def _send_all(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        if send(process, number):
            send(process, signal.SIGCONT)  # a stopped process would sleep through the grace


def settle(folder: Path, claim: Claim) -> Claim | None:
    """Decide a record that is only planned, once the hub that planned it is gone: None if it can never run any more."""
    if claim.process is not None:
        return claim
    if records.cancel(claim.path):
        cgroups.remove(_groups(claim.record))
        return None
    same = [other for other in records.claims(folder) if other.record.spawn_id == claim.record.spawn_id]
    return same[0] if same else None


async def end_all(records_dir: Path, grace_s: float) -> list[Ended]:
    """End every session that the launch records lead to, all at the same time; their records are removed.

    Call it when no hub runs any more. Seconds: about `grace_s` + 3 at most, however many there are.
    """
    claims = await asyncio.to_thread(records.claims, records_dir)

    async def one(claim: Claim) -> Ended:
        settled = await asyncio.to_thread(settle, records_dir, claim)
        left: tuple[int, ...] = ()
        if settled is not None:
            left = await end(settled.record, settled.process, grace_s=grace_s)
            if not left:
                await asyncio.to_thread(records.remove, settled)
        return Ended(claim.record.user, claim.record.server, left)

    return list(await asyncio.gather(*(one(claim) for claim in claims)))
