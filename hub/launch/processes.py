"""One supervised process: started, its output logged, started again when it dies, ended on request."""

import asyncio
import contextlib
import ctypes
import enum
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hub.launch.logs import RotatingLog
from hub.launch.ownership import Children
from hub.launch.restarts import RestartPolicy

PR_SET_PDEATHSIG = 1
LONGEST_LINE_BYTES = 1 << 16


class State(enum.Enum):
    """Where a process is in its life."""

    RUNNING = "running"
    WAITING = "waiting to be started again"
    GIVEN_UP = "given up"
    ENDED = "ended"


@dataclass(frozen=True)
class Spec:
    """What to start. `grace_s`: seconds between asking it to end (SIGTERM) and ending it (SIGKILL)."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    grace_s: float = 10.0
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    # Until it has worked once: what dies at its first start has a wrong configuration, and should say so soon.
    first_policy: RestartPolicy = field(default_factory=lambda: RestartPolicy(limit=1))


class Supervised:
    """Keeps one process running.

    Args:
        spec: what to start.
        log: where its output goes.
        children: where its pid is recorded for the launcher after us.
        say: tells the person at the terminal.
    """

    def __init__(self, spec: Spec, log: RotatingLog, children: Children, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.log = log
        self.state = State.WAITING
        self.pid: int | None = None
        self.forking = False
        self.proven = False
        self.given_up = asyncio.Event()
        self._children = children
        self._say = say
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, and from now on keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=self.spec.name)

    async def end(self) -> None:
        """Ask it to end, wait, and end it after its grace. Safe to call at any time, also twice."""
        self._ending.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    def hasten(self) -> None:
        """End it at once: somebody pressed Ctrl-C again."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _keep_running(self) -> None:
        deaths: tuple[float, ...] = ()
        try:
            while not self._ending.is_set():
                how = await self._run_once()
                if self._ending.is_set():
                    break
                policy = self.spec.policy if self.proven else self.spec.first_policy
                deaths = policy.recent((*deaths, time.monotonic()))
                pause_s = policy.pause_after(deaths)
                if pause_s is None:
                    self._give_up(f"{how}, {len(deaths)} times within {policy.window_s:g} s")
                    return
                self.state = State.WAITING
                self._say(f"the {self.spec.name} {how}; starting it again")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), pause_s)
            self.state = State.ENDED
        finally:
            self.log.close()

    def _give_up(self, how: str) -> None:
        self.state = State.GIVEN_UP
        last = "\n".join(f"    {line}" for line in list(self.log.tail)[-12:])
        self._say(f"the {self.spec.name} {how}: not starting it again. Its last words ({self.log.path}):\n{last}")
        self.given_up.set()

    async def _run_once(self) -> str:
        """Start it, wait for its end, and say in words how it ended."""
        self.forking = True
        try:
            process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                env=dict(self.spec.environment),
                cwd=self.spec.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=LONGEST_LINE_BYTES,
                # A session of its own: Ctrl-C reaches the launcher alone, which ends everything in order.
                start_new_session=True,
                preexec_fn=_die_with_launcher(os.getpid()),
            )
        except OSError as error:
            self.forking = False
            return f"could not be started ({error.strerror})"
        self.pid = process.pid
        self.forking = False
        self.state = State.RUNNING
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        try:
            try:
                self._children.add(self.spec.name, process.pid)
            except OSError as error:
                self._say(f"cannot record the {self.spec.name}'s process: {error.strerror} ({error.filename})")
            await self._wait(process)
        finally:
            self.pid = None
            self._children.remove(self.spec.name)
            # The pipe may be held open by a grandchild; what the process itself wrote is there already.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reading, 0.5)
        return _how_it_ended(process.returncode)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        gone = asyncio.create_task(process.wait())
        asked = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({gone, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                process.terminate()
                await asyncio.wait({gone}, timeout=self.spec.grace_s)
            if not gone.done():
                self._say(f"the {self.spec.name} does not end by itself; ending it")
                process.kill()
            await gone
        finally:
            asked.cancel()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as rest:
                if rest.partial:
                    self.log.write(rest.partial + b"\n")
                return
            except asyncio.LimitOverrunError as overrun:
                line = await stream.readexactly(max(overrun.consumed, 1)) + b"\n"
            self.log.write(line)


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _die_with_launcher(launcher: int) -> Callable[[], None]:
    """Make a child that the kernel kills when the launcher dies, however that happens (prctl(2), PR_SET_PDEATHSIG).

    Users' sessions are grandchildren and do not inherit it: they outlive the launcher and are found again.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:  # it died before the line above took effect
            os._exit(1)

    return prepare
