"""What both engines share: options, form, decision, progress, and patience after a restart of the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar

from jupyterhub import __version__ as jupyterhub_version
from jupyterhub.spawner import Spawner
from sqlalchemy import inspect
from traitlets import Bool, Instance, List, Unicode, default

from profiles.model import Catalogue, Engine
from profiles.offers import granted_apps, offers
from spawner import form, options
from spawner.apps import APPS, told
from spawner.describe import describe
from spawner.progress import Feed
from spawner.refusal import Refusal
from spawner.request import Request
from spawner.reserving import Reserving

__all__ = ["RequestSpawner"]

_CHECK_S = 2.0
# How long one look at a server lasts when the hub checks it after a restart; between looks it is polled.

_asked: ContextVar[tuple[str, dict[str, object]] | None] = ContextVar("asked", default=None)
# Which server, and what, the form or link of the present request asked for: after a refusal JupyterHub shows the form
# again, rendered by the default server's spawner whichever was asked for (6.1, handlers/pages.py).


class RequestSpawner(Reserving):
    """Base of the engines: a spawner that starts validated requests out of a catalogue."""

    engine: ClassVar[Engine]

    catalogue = Instance(
        Catalogue,
        config=True,
        help="""
        What can be asked for: the catalogue, as `profiles.loader.load` returns it.

        No default: without a catalogue nothing can be started. `hub.config` loads the file that the setting
        `catalogue` names. Example: `c.RequestSpawner.catalogue = load(Path("catalogue.yaml"))`
        """,
    )

    hide_not_allowed = Bool(
        False,
        config=True,
        help="""
        Leave out of the form what the person may not start, instead of showing it greyed with the reason.

        Default: False, because a greyed card says which group one has to ask for. Set it where the catalogue
        itself is confidential. Example: `c.RequestSpawner.hide_not_allowed = True`
        """,
    )

    form_notices = List(
        Unicode(),
        config=True,
        help="""
        Sentences shown above the form, for example about maintenance. Plain text; markup is escaped.

        Default: none. Example: `c.RequestSpawner.form_notices = ["Maintenance on Friday from 18:00 to 20:00."]`
        """,
    )

    service_url = Unicode(
        "",
        config=True,
        help="""
        Where sessions reach Armillary's service: their server extension sends what it measures there.

        Default: empty, sessions measure nothing, and only the hub tells whether one is used. `hub.config` sets it.
        Example: `c.RequestSpawner.service_url = "http://service.armillary.svc:8003/services/armillary"`
        """,
    )

    request: Request | None = None
    """What was decided for the present start; None before."""

    notice: str | None = None
    """What the person should be told about the decision, such as that a saved choice is gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feed = Feed()
        # JupyterHub writes new options into its database before anything has looked at them; what was there
        # before is kept, to be put back when they are refused.
        orm_spawner = self.orm_spawner
        self._options_before: dict[str, Any] = dict((orm_spawner.user_options if orm_spawner else None) or {})
        self._started_before = bool(orm_spawner is not None and orm_spawner.last_activity is not None)
        self._was_ready = False

    # --- who, and what they may do ---------------------------------------------------------------------------

    def notices(self) -> list[str]:
        """Return sentences for the top of the form; an engine adds what it cannot promise on this machine."""
        return list(self.form_notices)

    # --- options: one parser for every door ------------------------------------------------------------------

    @default("options_form")
    def _options_form_default(self) -> Callable[[RequestSpawner], Awaitable[str]]:
        return RequestSpawner.render_form

    @default("options_from_form")
    def _options_from_form_default(self) -> Callable[[Mapping[str, Any]], dict[str, object]]:
        return self._parse_form

    @default("apply_user_options")
    def _apply_user_options_default(self) -> Callable[[Spawner, dict[str, Any]], None]:
        # Options are applied in start(), where every door comes by and after all hooks; without a value here
        # JupyterHub would log each spawn's options as unhandled. A deployer's own value is kept.
        return _nothing

    def _parse_form(self, form_data: Mapping[str, Any]) -> dict[str, object]:
        found = options.from_form(form_data, self.catalogue)
        _asked.set((self.name, found))
        return found

    def options_from_query(self, query_data: Mapping[str, Any]) -> dict[str, object]:
        """Return the options of a link such as /hub/spawn?opt-profile=gpu&opt-cpu=4."""
        return self._parse_form(query_data)

    async def render_form(self) -> str:
        """Return the form, with the last choice selected, or what has just been refused.

        The same offers decide what is shown and what is accepted.
        """
        available = await self.availability()
        request, notice = self._selected()
        server, selected = _asked.get() or (self.name, request.options() if request else {})
        notices = [*self.notices(), *([notice] if notice else [])]
        person, hide = self.person, self.hide_not_allowed
        rendered = partial(
            form.render,
            selected=selected,
            notices=notices,
            catalogue=self.catalogue,
            availability=available,
            user=self.user.name,
            server=server,
            nodes_may_appear=bool(getattr(self, "nodes_may_appear", False)),
            by_hand=bool(getattr(self, "placed_by_hand", False)),
        )

        def made() -> str:
            shown = offers(self.catalogue, person, self.engine)
            return rendered(form.visible(shown, hide_not_allowed=hide))

        # Some milliseconds of computing for each page that somebody opens: the loop goes on meanwhile.
        return await asyncio.to_thread(made)

    def chosen(self) -> tuple[tuple[str, str], ...]:
        """Return what runs, or ran last, in words for a page: (what, which)."""
        try:
            request = self.request or options.parse(self.user_options, self.catalogue, self.person, self.engine)
        except Refusal:  # the catalogue has changed while it runs
            return ()
        return describe(request, self.catalogue, self.engine)

    def _selected(self) -> tuple[Request | None, str | None]:
        try:
            return options.parse_saved(self._options_before, self.catalogue, self.person, self.engine)
        except Refusal as refusal:  # nothing may be started at all
            return None, refusal.text

    async def decide(self) -> Request:
        """Return what is to be started; the first thing that start() of an engine does.

        Raises
        ------
        Refusal
            The options ask for what does not exist or is not allowed. The options of the last good start are
            put back, so that a refused request leaves no trace.
        """
        asked = dict(self.user_options or {})
        try:
            if self._options_are_new():
                request, notice = options.parse(asked, self.catalogue, self.person, self.engine), None
            else:
                request, notice = options.parse_saved(asked, self.catalogue, self.person, self.engine)
        except Refusal:
            self._remember(self._options_before)
            raise
        self._remember(request.options())
        self.request, self.notice = request, notice
        if notice:
            self.log.warning("%s: %s", self._log_name, notice)
            self.feed.say(notice, 1)
        return request

    def _remember(self, chosen: dict[str, Any]) -> None:
        self.user_options = chosen
        if self.orm_spawner is not None:
            self.orm_spawner.user_options = chosen
            # At once: the next request that JupyterHub handles rolls back whatever is not committed (base.py, prepare).
            row = inspect(self.orm_spawner, raiseerr=False)
            if row is not None and row.session is not None:
                row.session.commit()

    def _options_are_new(self) -> bool:
        """Return whether the options came with this very request, and are not those saved from an earlier one.

        JupyterHub hands over both in the same place; only the handler that is answering tells them apart.
        Options given when a named server was created (PUT), and never started since, count as new too.
        """
        handler = self.handler
        if not self._started_before and self.user_options:
            return True
        if handler is None:
            return False
        if hasattr(handler, "get_server_json_body"):
            return handler.get_server_json_body().get("user_options") is not None
        if handler.request.method == "POST":
            return True
        return bool(set(handler.request.query_arguments) - {"next", "display_name", "_xsrf"})

    # --- progress --------------------------------------------------------------------------------------------

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what is being waited for, in plain words; JupyterHub escapes the messages."""
        async for step in self.feed.follow():
            yield {"progress": step.percent, "message": step.text}

    # --- environment -----------------------------------------------------------------------------------------

    def get_env(self) -> dict[str, Any]:
        """Return the session's environment; without JupyterHub's second copy of the token, unused since 0.7.2."""
        env: dict[str, Any] = super().get_env()
        env.pop("JPY_API_TOKEN", None)
        if self.service_url:
            env["ARMILLARY_SERVICE_URL"] = self.service_url
        if self.request is not None and (apps := granted_apps(self.catalogue, self.request.image, self.person)):
            env[APPS] = told(apps)
        return env

    # --- after a restart of the hub --------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return what is stored; JupyterHub asks only after start() has returned, so the mark says "it was ready"."""
        state: dict[str, Any] = super().get_state()
        if self.request is not None or self._was_ready:
            state["was_ready"] = True
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        super().load_state(state)
        self._was_ready = bool(state.get("was_ready"))

    def clear_state(self) -> None:
        """Forget the last start."""
        super().clear_state()
        self.request = None
        self._was_ready = False

    @property
    def server(self) -> Any:
        """JupyterHub's record of the server's address, with a patient check after a restart of the hub.

        JupyterHub shuts down a running server that misses `http_timeout` in that check (app.py, check_spawner).
        """
        server = Spawner.server.fget(self)
        if server is not None and "wait_up" not in server.__dict__:
            server.__dict__["wait_up"] = _Patience(self, server.wait_up)
        return server

    @server.setter
    def server(self, server: Any) -> None:
        Spawner.server.fset(self, server)


class _Patience:
    """Replaces `Server.wait_up` of one server: as JupyterHub's own, but patient in the check after a restart."""

    def __init__(self, spawner: RequestSpawner, wait_up: Callable[..., Awaitable[Any]]) -> None:
        self._spawner = spawner
        self._wait_up = wait_up

    async def __call__(self, timeout: float = 10, **kwargs: Any) -> Any:  # noqa: ASYNC109  # JupyterHub's signature
        spawner = self._spawner
        if not spawner._check_pending:
            return await self._wait_up(timeout=timeout, **kwargs)
        deadline = time.monotonic() + spawner.start_timeout
        while True:
            try:
                return await self._wait_up(timeout=min(timeout, _CHECK_S), **kwargs)
            except TimeoutError:
                if await spawner.poll() is not None:
                    raise
                if spawner._was_ready:
                    spawner.log.warning("%s runs but answers late; it is left alone", spawner._log_name)
                    return _Unanswered()
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0)


class _Unanswered:
    """Stands for the answer of a server that is too busy to give one."""

    headers: ClassVar[dict[str, str]] = {"X-JupyterHub-Version": jupyterhub_version}


def _nothing(spawner: Spawner, user_options: dict[str, Any]) -> None:
    """Leave the options to start()."""
