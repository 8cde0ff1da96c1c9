"""The local engine: sessions are processes of this machine.

Thin: what JupyterHub asks for, in terms of `spawner.processes`, where the work is done. The truth about a session is
its launch record and the kernel, never what this object or JupyterHub's database remembers; so a hub that was
killed at any moment finds everything again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from profiles.model import Engine
from profiles.quantities import say_memory
from spawner.core import RequestSpawner
from spawner.devices.hand_out import Given, hand_out
from spawner.devices.inventory import looks_at_cards
from spawner.devices.nodes import Node, NodesMissing
from spawner.devices.nvml import NvmlAway
from spawner.local_settings import LocalSettings
from spawner.processes import ports, records
from spawner.processes.cgroups import groups_of, out_of_memory
from spawner.processes.ending import end, settle
from spawner.processes.homes import HomeError, directory_name, make_home
from spawner.processes.identity import boot_id
from spawner.processes.launcher import NOT_SET_UP
from spawner.processes.records import Claim, Record
from spawner.processes.session import Order, Session, adopt, last_lines, now, shorten
from spawner.processes.session import start as start_session
from spawner.processes.spec import Defaults, Place, ProcessSpec, process_limits, process_spec
from spawner.processes.surroundings import Surroundings, UnreachableError, surround
from spawner.readiness import Gone, wait_until_answering
from spawner.refusal import Refusal, StartFailed
from spawner.request import Request
from spawner.start_limits import longest_start_s, start_limit_s

__all__ = ["LocalSpawner"]

_PORT_TRIES = 3
_MARGIN_S = 30
# By which our own limit of a start, which says what happened, comes before JupyterHub's, which cannot.
_AGAIN_S = 0.5
# Pause before the hub is told again that a session has ended, while it is at work on it.
_NOW_S = 1.0
# The grace of a stop that should be immediate: enough for a server that only has to close its sockets.


class _PortTaken(Exception):
    """Another program took the port between its choice and the server's bind."""


class LocalSpawner(LocalSettings, RequestSpawner):
    """Starts JupyterLab as a process of this machine, under an account of the person's own where that is possible."""

    engine: ClassVar[Engine] = "local"

    start_timeout: int
    _session: Session | None = None
    _exit_code = 0  # of the last session that ended by itself: JupyterHub asks more than once
    _starting = False
    _stopping = False
    _telling: asyncio.Future[None] | None = None

    def notices(self) -> list[str]:
        """Return what a user must know about this machine: shared account, limits that nothing enforces."""
        about_devices = self.machine.device_notices() if looks_at_cards(self.catalogue) else []
        return [*super().notices(), *self.machine.notices(), *about_devices]

    # --- start -----------------------------------------------------------------------------------------------

    def start(self) -> asyncio.Future[str]:  # type: ignore[override]  # not a coroutine: see its first words
        """Begin at once: JupyterHub reads `start_timeout` right after this returns, before a coroutine would run."""
        usual_s = self.start_timeout
        self.start_timeout = longest_start_s(self.catalogue, usual_s) + _MARGIN_S
        self._starting = True
        starting = asyncio.ensure_future(self._start(usual_s))

        def over(_: object) -> None:  # also when it is cancelled before it runs
            self._starting, self.start_timeout = False, usual_s

        starting.add_done_callback(over)
        return starting

    async def _start(self, usual_s: int) -> str:
        """Start what was asked for and return its address as soon as it answers.

        Raises
        ------
        Refusal
            The request is not granted (see `decide` and `reserve`).
        StartFailed
            The server could not be started, for a cause the text names.
        """
        self.note_facts()
        request = await self.decide()
        limit_s = start_limit_s(request, self.catalogue, usual_s)
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                await self._end_leftover()  # first: it may have what is now asked for
                return await self._start_reserved(request, limit_s)
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"{self._title(request)} did not answer within {limit_s} seconds, so it was ended. Try again later."
            raise StartFailed("start-timeout", text, status=504) from None

    async def _start_reserved(self, request: Request, limit_s: float) -> str:
        """Hold what the request needs, then start; a start that fails gives it back."""
        self.spawn_id = self.new_spawn_id()
        try:
            cores, size = process_limits(request, self.catalogue, self._defaults())
            expires_in_s = limit_s + _MARGIN_S
            self.reservation = await self.reserve(request, cpu=cores, memory=size, expires_in_s=expires_in_s)
            if len(self._devices()) != request.count:
                wanted = self.catalogue.accelerators[request.accelerator].title if request.accelerator else ""
                text = f"No {wanted} is handed out on this machine now. Choose a session without one, or try later."
                raise Refusal("no-devices", text, log="the local engine hands out devices through a desk", status=503)
            return await self._start_anew(request)
        except BaseException:  # cancelled too
            await asyncio.shield(self.release())
            raise

    def _devices(self) -> tuple[str, ...]:
        """Return the uuids of the devices that are held for the present start."""
        return self.reservation.devices if self.reservation is not None else ()

    async def _start_anew(self, request: Request) -> str:
        if self.internal_ssl:
            raise StartFailed("internal-ssl", "Sessions listen on the loopback address; switch internal_ssl off.")
        uid, home = await self._account()
        for _ in range(_PORT_TRIES):
            try:
                return await self._start_once(request, uid, home)
            except _PortTaken:
                self.log.warning("%s: another program took the port; trying another one", self._log_name)
        raise StartFailed("port-taken", "Other programs kept taking the server's port. Try again.")

    async def _start_once(self, request: Request, uid: int | None, home: Path) -> str:
        title = self._title(request)
        order = await self._order(request, uid, home)
        self.feed.say(f"Starting {title}", 30)
        try:
            session = self._session = await start_session(order)
            self._exit_code = 0
        except OSError as error:
            raise StartFailed(
                "not-set-up", f"{title} could not be started on this machine.", log=f"{self._log_name}: {error}"
            ) from error
        url = f"http://{ports.ADDRESS}:{session.port}"
        try:
            self.feed.say(f"Waiting until {title} answers", 50)
            await self._until_ready(session, f"{url}{self.server.base_url}api", title)
        except BaseException:  # cancelled too: a start that fails leaves nothing behind
            self._session = None
            await asyncio.shield(session.end(grace_s=0))
            raise
        self._tell_when_gone(session)
        return url

    async def _until_ready(self, session: Session, url: str, title: str) -> None:
        try:
            await wait_until_answering(url, session.gone)
        except Gone:
            if await asyncio.to_thread(ports.listeners, session.port):
                raise _PortTaken from None
            raise await self._why_ended(session, title) from None
        if not await asyncio.to_thread(session.listens):
            raise _PortTaken

    async def _why_ended(self, session: Session, title: str) -> StartFailed:
        """Return what to tell the user, and the log, about a server that ended before it answered."""
        code = session.exit_code()
        groups = tuple(Path(group) for group in session.record.cgroups)
        said = await asyncio.to_thread(last_lines, session.log)
        said = said.replace(self.api_token, "***") if self.api_token else said
        log = f"{self._log_name}: {title} ended at start with exit code {code}; the end of {session.log}:\n{said}"
        if await asyncio.to_thread(out_of_memory, groups):
            memory = session.record.memory
            limit = f" (limit {say_memory(memory)})" if memory else ""
            text = f"{title} ran out of memory{limit} at start. Choose more memory."
            return StartFailed("out-of-memory", text, log=log)
        if code == NOT_SET_UP:
            return StartFailed("not-set-up", f"{title} could not be started on this machine.", log=log)
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        text = f"{title} {how} at start. If it happens again, tell the operator; the hub's log has its last lines."
        return StartFailed("crashed", text, log=log)

    async def _account(self) -> tuple[int | None, Path]:
        """Return the uid that the session gets (None: the hub's own) and its home, made if need be."""
        self.feed.say("Making your home", 10)
        uid: int | None = None
        if self.machine.isolation.kind == "uid":
            if self.uid_registry is None:
                raise StartFailed("no-uids", "The hub is set up wrongly.", log="c.LocalSpawner.uid_registry is not set")
            try:
                uid = await self.uid_registry.uid_of(self.user.name)
            except LookupError as error:
                text = "There is no account for you on this machine. Tell the operator; the hub's log says why."
                raise StartFailed("no-uid", text, log=f"{self._log_name}: {error}") from error
        try:
            home = await asyncio.to_thread(make_home, Path(self.homes), self.user.name, uid)
        except (HomeError, OSError) as error:
            text = "Your home cannot be used. Tell the operator; the hub's log says why."
            raise StartFailed("home", text, log=f"{self._log_name}: {error}") from error
        return uid, home

    async def _order(self, request: Request, uid: int | None, home: Path) -> Order:
        port = await self._port()
        spawn_id = self.spawn_id or self.new_spawn_id()
        place = Place(spawn_id, self.user.name, self.name, home, port, self.server.base_url, self._devices())
        spec = process_spec(request, self.catalogue, place, self._defaults())
        given = await self._given()
        around = await self._surround(spec, uid, given.nodes)
        record = Record(
            spawn_id=spawn_id,
            user=self.user.name,
            server=self.name,
            port=port,
            uid=uid,
            wrapped=self.machine.isolation.kind == "namespace",
            boot=boot_id(),
            made_at=now(),
            cgroups=tuple(str(group) for group in groups_of(self.machine.cgroups, spawn_id)),
            memory=spec.memory,
            devices=place.devices,
        )
        return Order(
            record=record,
            records_dir=Path(self.launches),
            log=self._log_file(),
            argv=around.argv,
            environment=spec.environment,
            directory=spec.directory,
            support=self.machine.cgroups,
            cpu=spec.cpu,
            passages=around.passages,
            devices=given.rule,
        )

    async def _given(self) -> Given:
        """Return what the session may open; also without an accelerator, because then all of them are closed to it."""
        try:
            return await asyncio.to_thread(hand_out, self._devices(), self.reader)
        except (NodesMissing, NvmlAway) as error:
            text = "The accelerator cannot be used just now. Tell the operator; the hub's log says why."
            raise StartFailed("device", text, log=f"{self._log_name}: {error}", status=503) from error

    def _defaults(self) -> Defaults:
        return Defaults(
            command=tuple(self.cmd),
            arguments=tuple(self.get_args()),
            hub_environment=self.get_env(),
            cpu=self.cpu_limit or None,
            memory=self.mem_limit or None,
            shell=self.shell,
        )

    async def _surround(self, spec: ProcessSpec, uid: int | None, nodes: tuple[Node, ...]) -> Surroundings:
        hidden = [Path(path) for path in (self.state_dir, self.homes, self.launches, self.logs, *self.hidden)]
        visible = [Path(path) for path in self.visible]
        separation = self.machine.isolation
        try:
            return await asyncio.to_thread(
                surround,
                separation,
                spec.argv,
                home=spec.directory,
                uid=uid,
                hidden=hidden,
                visible=visible,
                devices=nodes,
            )
        except UnreachableError as error:
            text = "Sessions cannot reach their programs on this machine. Tell the operator; the hub's log says why."
            raise StartFailed("unreachable", text, log=f"{self._log_name}: {error}") from error

    async def _port(self) -> int:
        try:
            return await asyncio.to_thread(ports.free_port, self.first_port, self.last_port)
        except ports.NoFreePort as error:
            raise StartFailed("no-port", "This machine has no free port left for a session.", log=str(error)) from error

    def _title(self, request: Request) -> str:
        return self.catalogue.images[request.image].title if request.image is not None else "JupyterLab"

    def _log_file(self) -> Path:
        server = directory_name(self.name) if self.name else "default"
        return Path(self.logs) / directory_name(self.user.name) / f"{server}.log"

    # --- what runs -------------------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """Return None while the session runs or starts, otherwise its exit code (0 where it cannot be known).

        Works with nothing remembered: right after a restart of the hub the launch record leads to the session.
        """
        if self._starting:
            return None
        session = self._session or await self._find()
        if session is None:
            return self._exit_code
        if session.alive():
            self._session = session
            await asyncio.to_thread(shorten, session.log, self.log_bytes)
            return None
        self._session, self._exit_code = None, session.exit_code() or 0
        await self._bury(session)
        return self._exit_code

    async def stop(self, now: bool = False) -> None:
        """End every process of the session; returns when none is left."""
        await self.say_unwanted()
        session = self._session or await self._find()
        if session is None:
            return
        self._stopping = True
        try:
            left = await session.end(grace_s=min(_NOW_S, self.grace_s) if now else self.grace_s)
        finally:
            self._stopping = False
        self._session = None
        if left:
            self.log.error("%s: processes %s could not be ended; the kernel holds them", self._log_name, left)
        else:
            await self.release(session.record.spawn_id)

    def _tell_when_gone(self, session: Session) -> None:
        """Let JupyterHub know at once when a session ends by itself, so that what it held is free at once too."""

        def gone(_: object) -> None:
            self._telling = asyncio.ensure_future(self._tell(session))

        session.gone.add_done_callback(gone)

    async def _tell(self, session: Session) -> None:
        while self._session is session and not self._stopping:
            if not (self._starting or self.pending or self._proxy_pending):
                await self.poll_and_notify()
                return
            await asyncio.sleep(_AGAIN_S)  # the hub is at work on this server: it would not hear of it now

    async def _find(self) -> Session | None:
        """Return the living session that a launch record of this server leads to; records of dead ones are cleaned."""
        found: Session | None = None
        for claim in await self._claims():
            session = adopt(claim, Path(self.launches), self._log_file()) if found is None else None
            if session is None:
                await self._clean(claim)
                continue
            found = session
            self._tell_when_gone(session)
            self.log.info("%s: found again, pid %i, port %i", self._log_name, session.process.pid, session.port)
            self._write_address(session)
        return found

    async def _claims(self) -> list[Claim]:
        """Return what was begun for this server, the newest first; plans that never began are cancelled."""
        folder = Path(self.launches)
        claims = await asyncio.to_thread(records.find, folder, self.user.name, self.name)
        settled = []
        for claim in claims:
            begun = await asyncio.to_thread(settle, folder, claim)
            if begun is None:
                await self.release(claim.record.spawn_id)
            else:
                settled.append(begun)
        return sorted(settled, key=lambda claim: claim.record.made_at, reverse=True)

    async def _end_leftover(self) -> None:
        """End what an earlier start of this server left: its token is no longer valid, and there are never two."""
        self._session = None
        for claim in await self._claims():
            await self._clean(claim)

    async def _clean(self, claim: Claim) -> None:
        left = await end(claim.record, claim.process, grace_s=0)
        if left:
            self.log.error("%s: processes %s of an earlier start could not be ended", self._log_name, left)
        await asyncio.to_thread(records.remove, claim)
        await self.release(claim.record.spawn_id)

    async def _bury(self, session: Session) -> None:
        """Say why a session ended by itself, and end what it left."""
        groups = tuple(Path(group) for group in session.record.cgroups)
        if await asyncio.to_thread(out_of_memory, groups):
            self.log.warning("%s: a process of the session was killed because it ran out of memory", self._log_name)
        self.log.warning("%s: the session ended with exit code %s", self._log_name, session.exit_code())
        if not await session.end(grace_s=0):
            await self.release(session.record.spawn_id)

    def _write_address(self, session: Session) -> None:
        """Tell JupyterHub where the session listens: a hub that was killed during a start had not stored it yet."""
        server = self.server
        if server is not None and (server.ip, server.port) != (ports.ADDRESS, session.port):
            server.ip, server.port = ports.ADDRESS, session.port
            self.db.commit()
