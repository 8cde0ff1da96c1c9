"""The controller: stands by until the lease is its own, then counts and publishes until it is not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy import Engine

from hub.admission.promote import follow as follow_queue
from hub.controller.figures import follow as follow_figures
from hub.controller.lease import Lease, StaleEpoch
from hub.controller.loop import DATABASE_AWAY, Loop, Publisher
from hub.controller.metrics import watch_loop_lag
from hub.controller.status import Status
from hub.db.checkpoint import follow as follow_log
from hub.idle.loop import follow as follow_sessions
from hub.quotas.takeover import follow as follow_quotas
from hub.reconcile.loop import follow as follow_reconciler
from hub.settings import Settings
from hub.usage.heart import follow as follow_ledger
from profiles.model import Catalogue

__all__ = ["run"]

Beside = Callable[[int, asyncio.Event], Awaitable[None]]
"""Work of the one that leads, beside counting: under this epoch of the lease, until the event is set."""

_log = logging.getLogger(__name__)

_LOOK_S = 2.0
"""How often one that stands by looks whether the lease is free."""

_RENEWALS = 5
"""How often the lease is renewed while it would be good."""

_PAUSE_S = 1.0
"""Pause before a loop that has ended by a bug is begun again, and before a database that failed is asked again."""


async def run(
    settings: Settings, catalogue: Catalogue, engine: Engine, stop: asyncio.Event, status: Status | None = None
) -> None:
    """Lead when it is this one's turn, until `stop` is set; never fails for want of database or cluster.

    Parameters
    ----------
    engine
        Armillary's database.
    stop
        Ends the controller; its lease is given back, so that another takes over at once.
    status
        Where the state is noted for whoever shares the process.
    """
    status = status or Status(settings.controller.lease_s)
    measuring = asyncio.create_task(watch_loop_lag(stop), name="armillary-controller-lag")
    beside: Sequence[Beside] = (
        partial(follow_quotas, engine, settings.quotas, catalogue),
        partial(follow_ledger, engine, settings.quotas, status),
        partial(follow_queue, engine, settings, catalogue, status),
        partial(follow_sessions, engine, settings, catalogue, lambda: status.pods),
        partial(follow_reconciler, engine, settings, catalogue, status),
        partial(follow_figures, engine, settings.queue.slots(settings.engine), catalogue),
        partial(follow_log, engine),
    )
    loop = await asyncio.to_thread(_loop_of, settings)  # loads KubeSpawner or NVML's library: seconds on a busy machine
    try:
        while not stop.is_set():
            await _serve(partial(loop, settings, catalogue), engine, stop, status, beside)
    finally:
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)


async def _serve(
    loop: Callable[[Publisher, asyncio.Event], Awaitable[None]],
    engine: Engine,
    stop: asyncio.Event,
    status: Status,
    beside: Sequence[Beside] = (),
) -> None:
    """Stand by, then lead, once; a new lease each time, for one that was lost knows nothing of its successor."""
    lease = Lease(engine, _holder(), status.lease_s)
    while (epoch := await _acquire(lease, status)) is None:
        await _pause(stop, _LOOK_S)
        if stop.is_set():
            return
    _log.info("This controller leads now (epoch %d)", epoch)
    status.renewed(epoch)
    begin = [partial(loop, Publisher(engine, epoch, status), stop), *(partial(work, epoch, stop) for work in beside)]
    try:
        await _lead(lease, epoch, begin, stop, status)
    except StaleEpoch as error:
        _log.warning("Another controller leads; this one stands by: %s", error)
    finally:
        status.lost()
        with contextlib.suppress(*DATABASE_AWAY):  # it runs out by itself
            await asyncio.shield(asyncio.to_thread(lease.release))


async def _lead(
    lease: Lease, epoch: int, begin: Sequence[Callable[[], Awaitable[None]]], stop: asyncio.Event, status: Status
) -> None:
    """Count, do all the rest, and renew until `stop` is set; raises StaleEpoch when the lease is another's."""
    acting = [
        asyncio.create_task(_renew(lease, epoch, stop, status), name="armillary-lease"),
        *(asyncio.create_task(_go_on(work, stop, status), name="armillary-controller-work") for work in begin),
    ]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*acting, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*acting, stopped):
            task.cancel()
        ended = await asyncio.gather(*acting, stopped, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, StaleEpoch):
            raise outcome
        if isinstance(outcome, Exception):
            _log.error("The controller's work has ended by a bug; it is begun again", exc_info=outcome)


async def _renew(lease: Lease, epoch: int, stop: asyncio.Event, status: Status) -> None:
    """Renew the lease at a steady pace. A database that is away ends nothing: all that it stores is fenced."""
    while not stop.is_set():
        await _pause(stop, status.lease_s / _RENEWALS)
        try:
            await asyncio.to_thread(lease.renew)
        except StaleEpoch:
            raise
        except DATABASE_AWAY as error:
            status.report(f"the lease could not be renewed: {_said(error)}", _log)
        else:
            status.renewed(epoch)


async def _go_on(begin: Callable[[], Awaitable[None]], stop: asyncio.Event, status: Status) -> None:
    """Run a loop, and begin it again should it die of a bug."""
    while not stop.is_set():
        try:
            await begin()
        except StaleEpoch:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the work must not end for good
            _log.exception("A loop of the controller has died; it is begun again")
            status.report(f"a loop of the controller has died: {_said(error)}", _log)
        await _pause(stop, _PAUSE_S)


async def _acquire(lease: Lease, status: Status) -> int | None:
    try:
        epoch = await asyncio.to_thread(lease.try_acquire)
    except DATABASE_AWAY as error:
        status.report(f"the database does not tell who leads: {_said(error)}", _log)
        return None
    status.mended()
    return epoch


def _loop_of(settings: Settings) -> Loop:
    if settings.engine == "kubernetes":
        from hub.controller import kubernetes

        return kubernetes.run
    from hub.controller import local

    return local.run


def _holder() -> str:
    """Return a name that tells operators where the leader runs, and no two processes share."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _said(error: Exception) -> str:
    """Return the first line of what was said: SQLAlchemy's errors go on with the statement."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
