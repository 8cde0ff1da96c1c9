"""One machine with imagined devices: hubs over one database, as many as a test wants, one of them to be killed.

Run as a program it is a hub that starts a session with two devices and dies at the given step as by a power cut:
`python -m tests.hub.device_hub FOLDER STEP`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from hub.admission.desk import SqlDesk
from hub.db.engine import connect
from hub.settings import Settings
from hub.settings.queue import QueueSettings
from profiles.model import Catalogue
from spawner import local
from tests.spawner.local_sessions import SERVER, STUBBORN, python
from tests.spawner.local_world import World

STALE_AFTER_S = 30.0


def catalogue(folder: Path) -> Catalogue:
    """Return a profile that serves, and one that leaves a daemon behind; every session carries the mark."""
    behind = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {STUBBORN!r}], start_new_session=True)\n"
    programs = {"server": SERVER, "leaves": behind + SERVER}
    images = {name: {"title": name, "local": {"command": python(code)}} for name, code in programs.items()}
    profiles = {
        name: {
            "title": name,
            "environment": {"MARK": str(folder)},
            "options": {"image": [name], "accelerator": ["toy", "none"], "count": {"min": 1, "max": 2}},
        }
        for name in programs
    }
    accelerators = {"toy": {"title": "Toy", "simulated": {"count": 2}}}
    return Catalogue.model_validate({"accelerators": accelerators, "images": images, "profiles": profiles})


def settings_of(folder: Path) -> Settings:
    """Return the settings of the installation in this folder."""
    return Settings.model_validate({"engine": "local", "state_dir": folder / "state"})


def database_of(folder: Path) -> Engine:
    """Return its database."""
    return connect(f"sqlite:///{settings_of(folder).paths.database}")


class DeviceHub(World):
    """One hub of this installation; its desk is the real one."""

    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(folder, poll_interval=3600, **more)
        self.engine = database_of(folder)
        self.config.RequestSpawner.catalogue = catalogue(folder)
        self.config.RequestSpawner.desk = SqlDesk(
            self.engine,
            engine_kind="local",
            catalogue=catalogue(folder),
            stale_after_s=STALE_AFTER_S,
            queue=QueueSettings(tickets=0),  # nobody queues here, for nobody promotes
        )

    async def ask_for(self, count: int = 1, *, name: str = "ann", profile: str = "server") -> None:
        """Start a server of this person with so many devices."""
        options = {"profile": profile, "accelerator": "toy", "count": str(count)}
        await self.user(name).spawn("", options=options)

    async def clear(self) -> None:
        """End what runs, close the databases."""
        await super().clear()
        self.engine.dispose()


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _hub(folder: Path, step: str) -> None:
    hub = DeviceHub(folder)
    if step == "reserved":
        local.LocalSpawner._start_anew = _die  # type: ignore[assignment,method-assign]
    elif step == "planned":
        local.start_session = _die  # type: ignore[assignment]
    await hub.ask_for(2, profile="leaves")
    _die()


if __name__ == "__main__":
    asyncio.run(_hub(Path(sys.argv[1]), sys.argv[2]))
