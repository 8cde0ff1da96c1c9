"""What runs, asked of the engine itself: processes of this machine, or pods; and how it is ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hub.reconcile.picture import Running
from spawner.processes import records
from spawner.processes.ending import end
from spawner.processes.family import family
from spawner.processes.identity import is_alive
from spawner.processes.records import Claim

__all__ = ["Engine", "LocalEngine"]

_log = logging.getLogger(__name__)

_GRACE_S = 10.0
"""How long something that is ended may take to end by itself."""


class Engine(Protocol):
    """What runs sessions."""

    async def running(self) -> Mapping[str, Running] | None:
        """Return what runs, by spawn id; None: that cannot be seen now."""
        ...

    async def planned(self) -> frozenset[str] | None:
        """Return the starts of which something may still appear by itself; None: that nobody can tell."""
        ...

    async def owner(self, one: Running) -> Running | None:
        """Return it with user and server; None: it is not there any more."""
        ...

    async def end(self, one: Running) -> bool:
        """End it; return whether it is gone, or about to be. Ending twice is ending once."""
        ...

    async def claims(self) -> Mapping[str, str]:
        """Return the DRA claims of ours whose pods are gone, each with what is known of it."""
        ...

    async def drop_claim(self, key: str) -> bool:
        """Delete such a claim; return whether it is gone."""
        ...


class LocalEngine:
    """This machine, by its launch records and the kernel.

    Parameters
    ----------
    launches
        The folder of the records.
    """

    def __init__(self, launches: Path) -> None:
        self._launches = launches

    async def running(self) -> Mapping[str, Running] | None:
        """See `Engine`."""
        return {key: _as_running(claim) for key, claim in (await asyncio.to_thread(self._look)).items()}

    async def planned(self) -> frozenset[str] | None:
        """See `Engine`: without a record nothing is ever started."""
        claims = await asyncio.to_thread(records.claims, self._launches)
        return frozenset(claim.record.spawn_id for claim in claims if claim.process is None)

    async def owner(self, one: Running) -> Running | None:
        """See `Engine`; the list tells it already."""
        return one

    async def end(self, one: Running) -> bool:
        """See `Engine`."""
        claim = (await asyncio.to_thread(self._look)).get(one.spawn_id)
        if claim is None:
            return True
        left = await end(claim.record, claim.process, grace_s=_GRACE_S)
        if left:
            _log.error("Processes %s of session %s cannot be ended", ", ".join(map(str, left)), one.spawn_id)
            return False
        await asyncio.to_thread(records.remove, claim)
        return True

    async def claims(self) -> Mapping[str, str]:
        """See `Engine`; there are none here."""
        return {}

    async def drop_claim(self, key: str) -> bool:
        """See `Engine`."""
        return True

    def _look(self) -> dict[str, Claim]:
        return {
            claim.record.spawn_id: claim
            for claim in records.claims(self._launches)
            if claim.process is not None and (is_alive(claim.process) or family(claim.record, claim.process))
        }


def _as_running(claim: Claim) -> Running:
    record, pid = claim.record, claim.process.pid if claim.process is not None else 0
    return Running(record.spawn_id, f"process {pid}", record.user, record.server, record.devices)
