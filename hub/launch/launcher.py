"""Runs a plan: starts the processes, tells when they work, and ends everything, users' sessions last of all.

Order of ending: the hub first, so that it starts nothing any more; then the sessions, from their launch
records; then service, provider and proxy. The service, with the controller in it, is not before the sessions, because
it gives back what they held; what it has not seen by then it gives back after the next start.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from hub.launch.logs import RotatingLog
from hub.launch.orphans import adopt, reap
from hub.launch.ownership import Children
from hub.launch.plan import Plan
from hub.launch.probe import until_ok
from hub.launch.processes import Supervised
from spawner.processes.ending import Ended, end_all

READY_S = 180.0
SESSION_GRACE_S = 5.0
SAY_EVERY_S = 10.0
REAP_EVERY_S = 2.0


class Launcher:
    """One run of one plan."""

    def __init__(
        self,
        plan: Plan,
        children: Children,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        welcome: Callable[[float], None],
    ) -> None:
        logs = plan.settings.paths.logs
        self.plan = plan
        self.processes = [
            Supervised(spec, RotatingLog(logs / f"{spec.name}.log"), children, say) for spec in plan.specs(environ)
        ]
        self._say = say
        self._welcome = welcome
        self._stop = asyncio.Event()
        self._times_asked = 0

    async def run(self) -> int:
        """Run until a signal or until something cannot be kept running. Returns the exit status."""
        began = time.monotonic()
        self._listen_to_signals()
        gave_up = [asyncio.create_task(process.given_up.wait()) for process in self.processes]
        stopped = asyncio.create_task(self._stop.wait())
        for process in self.processes:
            process.start()
        adopted = asyncio.create_task(self._reap())
        try:
            ready = await self._first(self._until_ready(), stopped, *gave_up)
            if ready:
                for process in self.processes:
                    process.proven = True
                self._welcome(time.monotonic() - began)
                await asyncio.wait({stopped, *gave_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, adopted, *gave_up):
                task.cancel()
            stopping = self._stop.is_set()
            await self._end(sessions=stopping)
        return 0 if stopping else 1

    def _tell(self, sessions: list[Ended]) -> None:
        stayed = [session for session in sessions if session.left]
        if sessions:
            self._say(f"ended {len(sessions) - len(stayed)} of {len(sessions)} sessions")
        for session in stayed:
            left = ", ".join(map(str, session.left))
            self._say(f"the session of {session.user!r} could not be ended; these processes are left: {left}")

    async def _first(self, work: Coroutine[Any, Any, bool], *others: "asyncio.Task[Any]") -> bool:
        """Do `work` unless one of the others is done first. Returns what the work returned, else False."""
        task = asyncio.create_task(work)
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    async def _until_ready(self) -> bool:
        """Wait for provider, hub and service, saying now and then what is waited for."""
        own = self.plan.host
        waits = {"hub": (self.plan.health_url, own), "service": (self.plan.service_health_url, own)}
        if self.plan.provider is not None:
            waits["provider"] = (f"{self.plan.provider.issuer}/.well-known/openid-configuration", "")
        tasks = {asyncio.create_task(until_ok(url, host=host), name=name) for name, (url, host) in waits.items()}
        deadline = time.monotonic() + READY_S
        try:
            while True:
                done, tasks = await asyncio.wait(tasks, timeout=SAY_EVERY_S)
                for task in done:
                    task.result()
                if not tasks:
                    return True
                if time.monotonic() > deadline:
                    missing = " and ".join(sorted(task.get_name() for task in tasks))
                    self._say(
                        f"the {missing} did not answer within {READY_S:g} s; "
                        f"the logs in {self.plan.settings.paths.logs} may tell why"
                    )
                    return False
                if not done:
                    self._say("still waiting for the " + " and the ".join(sorted(task.get_name() for task in tasks)))
        finally:
            for task in tasks:
                task.cancel()

    async def _reap(self) -> None:
        """Collect sessions that ended after their hub was killed: see `hub.launch.orphans`."""
        adopt()
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            if not any(process.forking for process in self.processes):
                reap(frozenset(process.pid for process in self.processes if process.pid is not None))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` starts us with SIGHUP ignored: then it should stay so.
            if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGTERM:
                loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self._times_asked += 1
        if self._times_asked == 1:
            self._say("stopping: the hub, then everybody's sessions, then the rest (again to hurry)")
        else:
            for process in self.processes:
                process.hasten()
        self._stop.set()

    async def _end(self, *, sessions: bool) -> None:
        by_name = {process.spec.name: process for process in self.processes}
        await by_name["hub"].end()
        if sessions:
            ended = await end_all(self.plan.settings.paths.launches, SESSION_GRACE_S if self._times_asked < 2 else 0.0)
            self._tell(ended)
        await asyncio.gather(*(process.end() for process in self.processes))
        if sessions:
            self._say(f"everything has ended; homes and accounts stay in {self.plan.settings.state_dir}")
        else:
            self._say(
                "proxy, hub, service and provider have ended; sessions that ran still do, and the next start finds them"
            )
