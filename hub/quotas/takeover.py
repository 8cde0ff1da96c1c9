"""Bringing the database in line with the file of quotas: at every start, and whenever the file changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from hub.controller.lease import fenced
from hub.db.transaction import write
from hub.quotas.declared import QuotaFileError, actor_of, read_quotas
from hub.quotas.model import Quotas
from hub.quotas.store import declare
from hub.settings.quotas import QuotaSettings
from profiles.model import Catalogue

__all__ = ["follow", "take_over"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_LOOK_S = 20.0
"""How often the file is looked at: a ConfigMap's file changes while the process runs."""

_AGAIN_S = 5.0
"""Pause before a database that is away is asked again."""


def take_over(database: Engine, settings: QuotaSettings, catalogue: Catalogue) -> None:
    """Take over what the file declares; for the start of a process. Blocks.

    A database that is away is logged: the controller takes the file over when it is back, and until then nobody starts.

    Raises
    ------
    QuotaFileError
        The file cannot be used; the text names every problem and its place.
    """
    declared = _read(settings.file, catalogue)
    try:
        _declare(lambda work: write(database, work), declared, settings.file)
    except OSError as error:
        _log.warning("The file of quotas is taken over later: %s", error)


async def follow(
    database: Engine,
    settings: QuotaSettings,
    catalogue: Catalogue,
    epoch: int,
    stop: asyncio.Event,
    *,
    look_s: float = _LOOK_S,
    again_s: float = _AGAIN_S,
) -> None:
    """Take over the file, and again whenever it changes, until `stop` is set; for the controller that leads.

    A file with problems is logged once and changes nothing: what was declared before holds on.

    Parameters
    ----------
    epoch
        Of the lease: one that leads no longer changes nothing.

    Raises
    ------
    hub.controller.lease.StaleEpoch
        Another controller leads.
    """
    done: object = None
    while not stop.is_set():
        pause = look_s
        seen = await asyncio.to_thread(_state_of, settings.file)
        if seen != done:
            try:
                await asyncio.to_thread(_once, database, settings, catalogue, epoch)
                done = seen
            except QuotaFileError as error:
                for problem in error.problems:
                    _log.error("The file of quotas is not taken over: %s", problem)
                done = seen
            except OSError as error:
                _log.warning("The file of quotas is taken over later: %s", error)
                pause = again_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


def _once(database: Engine, settings: QuotaSettings, catalogue: Catalogue, epoch: int) -> None:
    declared = _read(settings.file, catalogue)
    _declare(lambda work: fenced(database, epoch, work), declared, settings.file)


def _declare(within: Callable[[Callable[[Connection], object]], object], declared: Quotas, file: Path | None) -> None:
    actor = actor_of(file) if file else "settings"
    found = within(lambda connection: declare(connection, declared, actor))
    if found != (0, 0):
        _log.info("Limits were taken over from the file of quotas: set and removed, %s", found)


def _read(file: Path | None, catalogue: Catalogue) -> Quotas:
    return Quotas() if file is None else read_quotas(file, catalogue.accelerators)


def _state_of(file: Path | None) -> object:
    """What changes when the file is written anew, or replaced, or is gone."""
    if file is None:
        return "none"
    try:
        found = file.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size
