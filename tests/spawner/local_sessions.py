"""Small real programs in the place of JupyterLab, and what it takes to start them, for the tests of this folder."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from spawner.devices.hand_out import Given
from spawner.processes import cgroups
from spawner.processes.cgroups import groups_of
from spawner.processes.family import family
from spawner.processes.homes import make_home
from spawner.processes.identity import Process, boot_id, is_alive
from spawner.processes.isolation import Isolation, detect, program_directories
from spawner.processes.ports import free_port
from spawner.processes.records import Record
from spawner.processes.session import Order, Session, now, start
from spawner.processes.surroundings import surround

SERVER = """
import http.server, json, os, signal, sys
from urllib.parse import urlsplit

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "uid": os.getuid(), "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

signal.signal(signal.SIGTERM, lambda *args: os._exit(0))
url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.HTTPServer((url.hostname, url.port), Answer).serve_forever()
"""
"""Answers HTTP where JupyterHub's variable says, with its own environment; ends at SIGTERM."""

STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
)
"""Ends only when it is killed."""

EAT = "import time\nprint('up', flush=True)\nhoard = []\nwhile True:\n  hoard.append(bytearray(b'x' * 1048576))"
"""Wants more and more memory."""

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)"


def python(code: str) -> tuple[str, ...]:
    """Return the command that runs this program."""
    return (sys.executable, "-c", textwrap.dedent(code))


def daemon(inner: str) -> str:
    """Return a program that leaves `inner` running as a daemon (double fork, Unix session of its own), then sleeps."""
    return f"""
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.Popen([sys.executable, "-c", {inner!r}])
        os._exit(0)
    os._exit(0)
os.wait()
print("up", flush=True)
time.sleep(600)
"""


@dataclass
class Ground:
    """Folders and settings to start sessions with; remembers them, so that a test leaves none behind."""

    folder: Path
    isolation: Isolation = field(default_factory=lambda: Isolation("shared"))
    support: cgroups.Support = field(default_factory=cgroups.Support)
    started: list[Session] = field(default_factory=list)

    @property
    def records(self) -> Path:
        """Where the launch records lie."""
        return self.folder / "launches"

    def order(
        self,
        command: tuple[str, ...],
        *,
        user: str = "ann",
        server: str = "",
        uid: int | None = None,
        environment: dict[str, str] | None = None,
        cpu: Decimal | None = None,
        memory: int | None = None,
        given: Given | None = None,
        spawn_id: str = "",
    ) -> Order:
        """Return an order for this command, as the spawner makes it."""
        spawn_id, port = spawn_id or uuid.uuid4().hex, free_port(0, 0)
        home = make_home(self.folder / "homes", user, uid)
        variables = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "ARMILLARY_SPAWN_ID": spawn_id,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/",
            **(environment or {}),
        }
        around = surround(
            self.isolation,
            command,
            home=home,
            uid=uid,
            hidden=[self.folder],
            visible=list(program_directories()),
            devices=given.nodes if given is not None else (),
        )
        record = Record(
            spawn_id=spawn_id,
            user=user,
            server=server,
            port=port,
            uid=uid,
            wrapped=self.isolation.kind == "namespace",
            boot=boot_id(),
            made_at=now(),
            cgroups=tuple(str(group) for group in groups_of(self.support, spawn_id)),
            memory=memory,
        )
        log = self.folder / "logs" / f"{spawn_id}.log"
        return Order(
            record=record,
            records_dir=self.records,
            log=log,
            argv=around.argv,
            environment=variables,
            directory=home,
            support=self.support,
            cpu=cpu,
            passages=around.passages,
            devices=given.rule if given is not None else None,
        )

    async def start(self, command: tuple[str, ...], **options: object) -> Session:
        """Start a session."""
        session = await start(self.order(command, **options))  # type: ignore[arg-type]
        self.started.append(session)
        return session

    async def clear(self) -> None:
        """End what a test left, so that a failure of one test does not disturb the next."""
        for session in self.started:
            await session.end(grace_s=0)


async def ground_of(folder: Path, **settings: object) -> AsyncIterator[Ground]:
    """Yield a ground and clear it afterwards; the body of fixtures."""
    ground = Ground(folder, **settings)  # type: ignore[arg-type]
    yield ground
    await ground.clear()


async def until(condition: Callable[[], object], within_s: float = 30) -> None:
    """Wait until a condition holds; a test that waits longer has failed."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


def says(session: Session, text: str) -> Callable[[], bool]:
    """Return a condition: the session's log holds this text."""
    return lambda: text in session.log.read_text()


def living(session: Session) -> set[Process]:
    """Return the session's processes."""
    return {process for process in family(session.record, session.process) if is_alive(process)}


__all__ = [
    "SERVER",
    "SLEEP",
    "STUBBORN",
    "Ground",
    "daemon",
    "detect",
    "ground_of",
    "living",
    "python",
    "replace",
    "says",
    "until",
]
