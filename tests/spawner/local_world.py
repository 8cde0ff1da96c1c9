"""JupyterHub's side of the local engine: a database in a file, people, and a hub that can be killed and started again.

Run as a program it is such a hub, which starts a server and kills itself at a given step:
`python -m tests.spawner.local_world FOLDER STEP`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from profiles.model import Catalogue
from spawner import local
from spawner.local import LocalSpawner
from spawner.processes import records, session
from spawner.processes.identity import look, processes
from tests.spawner.local_sessions import EAT, SERVER, SLEEP, python

FIRST_UID = 320_000


class Registry:
    """Uids in the order of asking."""

    def __init__(self) -> None:
        self.given: dict[str, int] = {}

    def __deepcopy__(self, memo: object) -> Registry:
        return self

    async def uid_of(self, user_name: str) -> int:
        return self.given.setdefault(user_name, FIRST_UID + len(self.given))


PROGRAMS = {
    "server": SERVER,
    "silent": SLEEP,
    "crash": "import os\nprint('first line')\nprint('token', os.environ['JUPYTERHUB_API_TOKEN'])\nraise SystemExit(7)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "greedy": EAT,
    "dies": SERVER.replace("def do_GET(self):", "def do_GET(self):\n        if 'die' in self.path: os._exit(5)"),
}


def catalogue(folder: Path) -> Catalogue:
    """Return a catalogue with one profile per program; every session is marked with the folder."""
    images = {name: {"title": "JupyterLab", "local": {"command": python(code)}} for name, code in PROGRAMS.items()}
    profiles = {
        name: {
            "title": name,
            "default": name == "server",
            "environment": {"MARK": str(folder)},
            "options": {"image": [name], "memory": ["64Mi"]},
        }
        for name in PROGRAMS
    }
    return Catalogue.model_validate({"images": images, "profiles": profiles})


class World:
    """One hub after the other over the same database and folders."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.config = Config()
        self.config.LocalSpawner.update(
            {
                "state_dir": str(folder / "state"),
                "uid_registry": Registry(),
                "start_timeout": 60,
                "grace_s": 5.0,
                **settings,
            }
        )
        self.config.RequestSpawner.catalogue = catalogue(folder)
        self.db = orm.new_session_factory(f"sqlite:///{folder / 'hub.sqlite'}")()
        if self.db.query(orm.OAuthClient).first() is None:
            for role in roles.get_default_roles():
                roles.create_role(self.db, role)
            self.db.add(orm.OAuthClient(identifier="jupyterhub"))
            self.db.commit()
        self.people: dict[str, User] = {}

    @property
    def launches(self) -> Path:
        """The launch records."""
        return self.folder / "state" / "launches"

    def user(self, name: str = "ann") -> User:
        """Return a person, as this hub knows them."""
        if name not in self.people:
            row = orm.User.find(self.db, name)
            if row is None:
                row = orm.User(name=name)
                self.db.add(row)
                self.db.commit()
                roles.assign_default_roles(self.db, entity=row)
            settings = {
                "config": self.config,
                "spawner_class": LocalSpawner,
                "hub": Hub(ip="127.0.0.1", port=8081, base_url="/hub/"),
                "base_url": "/",
                "log": logging.getLogger("hub"),
            }
            self.people[name] = User(row, settings, self.db)
        return self.people[name]

    def spawner(self, name: str = "ann", server: str = "") -> LocalSpawner:
        """Return the spawner of a server."""
        found: LocalSpawner = self.user(name).spawners[server]
        return found

    def restarted(self) -> World:
        """Return the world as a hub sees it that was just started: all memory gone, the database kept."""
        world = World(self.folder)
        world.config = self.config
        return world

    async def start(self, profile: str = "server", *, name: str = "ann", server: str = "") -> str:
        """Start a server through JupyterHub and return its address."""
        await self.user(name).spawn(server, options={"profile": profile})
        url: str = self.spawner(name, server).server.url
        return url

    def sessions(self) -> list[int]:
        """Return the pids of everything that the catalogue's programs are, whoever started them."""
        mark = f"MARK={self.folder}\0".encode()
        found = []
        for stat in processes():
            try:
                if mark in Path(f"/proc/{stat.pid}/environ").read_bytes():
                    found.append(stat.pid)
            except OSError:
                continue
        return sorted(found)

    def claims(self) -> list[records.Claim]:
        """Return all launch records."""
        return records.claims(self.launches)

    async def clear(self) -> None:
        """End everything and close the database."""
        for claim in self.claims():
            if claim.process is not None:
                await local.end(claim.record, claim.process, grace_s=0)
        self.db.close()
        self.db.get_bind().dispose()


def ask(url: str, path: str = "api") -> dict[str, Any]:
    """Return what the server at this address says about itself; blocks."""
    with urllib.request.urlopen(url + path, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def die(*args: Any, **kwargs: Any) -> Any:
    """End this hub as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> Callable[[], None]:
    return lambda: setattr(owner, name, die)


def _after(owner: Any, name: str) -> Callable[[], None]:
    def patch() -> None:
        real = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: (real(*args, **kwargs), die()))

    return patch


STEPS: dict[str, Callable[[], None]] = {
    "before the record": _before(records, "plan"),
    "after the record": _after(records, "plan"),
    "after the control groups": _after(session.cgroups, "create"),
    "before the launcher": _before(os, "posix_spawn"),
    "after the launcher": _after(os, "posix_spawn"),
    "after the plan was handed over": _before(session, "look"),
    "before waiting": _before(local, "wait_until_answering"),
    "when it answers": _before(session.Session, "listens"),
    "before the state is stored": _before(LocalSpawner, "get_state"),
    "before the start is over": _before(LocalSpawner, "start_polling"),
    "never": lambda: None,
}
"""Each moment of a start at which the hub may be killed, and how to arrange it."""


async def _hub(folder: Path, step: str) -> None:
    STEPS[step]()
    await World(folder).start()
    die()


if __name__ == "__main__":
    asyncio.run(_hub(Path(sys.argv[1]), sys.argv[2]))

__all__ = ["FIRST_UID", "STEPS", "Registry", "World", "ask", "look"]
