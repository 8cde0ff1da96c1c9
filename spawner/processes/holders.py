"""Which starts still have processes on this machine: what decides when something that was held is free again.

Goes by the launch records and the kernel alone, as everything about sessions does. Blocks on the disk and on /proc.
"""

from __future__ import annotations

from pathlib import Path

from spawner.processes import records
from spawner.processes.family import family
from spawner.processes.identity import is_alive

__all__ = ["holders"]


def holders(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the spawn ids of which some process runs, each with the devices that it was given.

    Parameters
    ----------
    folder
        Of the launch records. A start without one has no processes; one whose record is only planned has none yet.
    """
    # The whole family is looked for only when the first process has ended: it costs a walk through /proc.
    return {
        claim.record.spawn_id: claim.record.devices
        for claim in records.claims(folder)
        if claim.process is not None and (is_alive(claim.process) or family(claim.record, claim.process))
    }
