"""What service and controller ask of the hub: start this server, stop that one, how is it.

The hub's REST API answers many things with the same status (JupyterHub 6.1, apihandlers/users.py); here each answer
becomes one of a few words. Whatever is asked may be asked again: a start of a server that is starting or runs changes
nothing, and says so.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol
from urllib.parse import quote

import aiohttp

from hub.web.place import COMES_BACK
from spawner.log_facts import REQUEST_HEADER, facts

__all__ = ["Answer", "HubServers", "Servers", "Word"]

_log = logging.getLogger(__name__)

Word = Literal["ready", "pending", "stopped", "cut", "refused", "failed", "lapsed", "busy", "gone", "away"]
"""
`ready`, `pending`, `stopped`: so is the server. `cut`: somebody stops a start, or the hub ends. `refused`, `failed`: it
is not started, with a code and a text for its owner. `lapsed`: its owner has to log in again. `busy`: not now. `gone`:
there is no such person. `away`: the hub did not answer as a hub in order does, and nothing is known.
"""

_LONGEST_TEXT = 2000
_START_S = 40.0
"""A start is answered after `servers.slow_start_s` (60 at most is legal, 5 usual); see `HubServers`."""

_ANSWER_S = 10.0
_LINE_S = 60.0
"""How long a stream of progress may be silent: the hub sends an empty line every 8 s."""

_CUT = "Spawn cancelled"
_RUNS = re.compile(r"is already running")
_BETWEEN = re.compile(r"is pending (?:stop|check|rename)|pending (?:stop|check|rename|spawn)")
_LAPSED = re.compile(r"auth has expired")
_LAPSED_CODE = "login-lapsed"


@dataclass(frozen=True)
class Answer:
    """How it stands. `text` is for people; `wait_s` is after how long the hub would like to be asked again."""

    word: Word
    code: str = ""
    text: str = ""
    wait_s: float = 0.0


class Servers(Protocol):
    """What is asked of a hub; the tests' double is one too."""

    async def start(self, user: str, server: str, options: Mapping[str, Any], *, back: bool = False) -> Answer:
        """Ask for a start with these options; answered when it is up or has failed, or after some seconds: pending.

        Parameters
        ----------
        back
            It was stopped for a switch, and comes back: also if its owner's login has lapsed meanwhile.
        """

    async def follow(self, user: str, server: str) -> Answer:
        """Wait until a pending start is `ready`, has `failed` or is `cut`; `away`: contact lost, `stopped`: none is
        pending."""

    async def stop(self, user: str, server: str) -> Answer:
        """Ask for a stop: `stopped`, `pending` while it is being done, `gone`, `busy` or `away`."""

    async def look(self, user: str, server: str) -> Answer:
        """Return how a server is: `ready`, `pending` (start or stop), `stopped` or `away`."""

    async def knows(self, user: str) -> bool | None:
        """Whether there is such a person; None: the hub does not say."""

    async def named(self, user: str) -> frozenset[str] | None:
        """Return the names of this person's servers that have one, running or not; None: the hub does not say."""

    async def close(self) -> None:
        """Give up connections."""


class HubServers(Servers):
    """The hub, by its REST API. For one event loop.

    Parameters
    ----------
    api_url
        Without a slash at its end.
    token
        Of the service, whose role `hub.config` gives it what it needs here.
    slow_start_s
        The setting `servers.slow_start_s`: how long the hub waits with its answer to a start.
    """

    def __init__(self, api_url: str, token: str, *, slow_start_s: float = 5.0) -> None:
        self._api_url = api_url
        self._headers = {"Authorization": f"token {token}"}
        self._start_s = slow_start_s + _START_S
        self._session: aiohttp.ClientSession | None = None

    async def start(self, user: str, server: str, options: Mapping[str, Any], *, back: bool = False) -> Answer:
        """See `Servers`."""
        body = {"user_options": dict(options)}
        more = {COMES_BACK: "1"} if back else {}
        status, headers, said = await self._ask("POST", _path(user, server), self._start_s, more, json=body)
        if status == 201:
            return Answer("ready")
        if status == 202:
            return Answer("pending")
        return _no(status, headers, said)

    async def stop(self, user: str, server: str) -> Answer:
        """See `Servers`."""
        # Interrupting a start takes the hub a second or more (apihandlers/users.py, delete).
        status, headers, said = await self._ask("DELETE", _path(user, server), self._start_s)
        if status == 204:
            return Answer("stopped")
        if status == 202:
            return Answer("pending")
        if status == 404 and server:  # a named server that was removed
            return Answer("stopped")
        return _no(status, headers, said)

    async def look(self, user: str, server: str) -> Answer:
        """See `Servers`."""
        status, _, said = await self._ask("GET", _path(user, server), _ANSWER_S)
        if status == 404:
            return Answer("stopped")
        if status != 200 or not isinstance(said, dict):
            return Answer("away", text=f"status {status}")
        if said.get("pending"):
            return Answer("pending", code=str(said["pending"]))
        return Answer("ready" if said.get("ready") else "stopped")

    async def knows(self, user: str) -> bool | None:
        """See `Servers`."""
        status, _, _ = await self._ask("GET", f"/users/{quote(user, safe='')}", _ANSWER_S)
        return {200: True, 404: False}.get(status)

    async def named(self, user: str) -> frozenset[str] | None:
        """See `Servers`."""
        path = f"/users/{quote(user, safe='')}?include_stopped_servers"
        status, _, said = await self._ask("GET", path, _ANSWER_S)
        servers = said.get("servers") if status == 200 and isinstance(said, dict) else None
        return frozenset(servers) - {""} if isinstance(servers, dict) else None

    async def follow(self, user: str, server: str) -> Answer:
        """See `Servers`."""
        try:
            async for event in self._events(f"{_path(user, server)}/progress"):
                if event.get("ready"):
                    return Answer("ready")
                if event.get("failed") and event.get("message") == _CUT:
                    return Answer("cut")
                if event.get("failed"):
                    text = str(event.get("message", "")).removeprefix("Spawn failed: ")
                    return Answer("failed", text=text[:_LONGEST_TEXT])
        except _NotStarting:
            return Answer("stopped")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer("away", text=type(error).__name__)
        return Answer("away", text="the stream has ended")

    async def _events(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S, sock_read=_LINE_S)
        async with self._connection().get(
            self._api_url + path, headers=self._headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status in (400, 404):
                raise _NotStarting
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    if isinstance(event, dict):
                        yield event

    async def _ask(
        self, method: str, path: str, within_s: float, heads: Mapping[str, str] = MappingProxyType({}), **more: Any
    ) -> tuple[int, Mapping[str, str], Mapping[str, Any] | None]:
        """Return status (0: no answer), headers, and the body where it is a JSON object."""
        timeout = aiohttp.ClientTimeout(total=within_s, sock_connect=_ANSWER_S)
        try:
            async with self._connection().request(
                method,
                self._api_url + path,
                headers=self._heads() | dict(heads),
                timeout=timeout,
                allow_redirects=False,
                **more,
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, {}, {"message": type(error).__name__}
        try:
            said = json.loads(raw) if raw else None
        except ValueError:
            said = None
        return answer.status, answer.headers, said if isinstance(said, dict) else None

    def _heads(self) -> dict[str, str]:
        """With the request that this is done for, so that the hub's log names it too."""
        request = facts().get("request")
        return self._headers | ({REQUEST_HEADER: request} if request else {})

    def _connection(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # No limit of connections: each start that is followed has one, and start slots bound these.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """See `Servers`."""
        if self._session is not None:
            await self._session.close()


class _NotStarting(Exception):
    """There is no start to follow."""


def _path(user: str, server: str) -> str:
    one = f"servers/{quote(server, safe='')}" if server else "server"
    return f"/users/{quote(user, safe='')}/{one}"


def _no(status: int, headers: Mapping[str, str], said: Mapping[str, Any] | None) -> Answer:
    """Return what an answer means that is no success."""
    code = headers.get("Armillary-Refusal", "")
    text = str((said or {}).get("message") or "")[:_LONGEST_TEXT]
    wait_s = _seconds(headers.get("Retry-After", ""))
    if code == _LAPSED_CODE or (status == 403 and _LAPSED.search(text)):
        return Answer("lapsed", code, text)
    if code:
        return Answer("failed" if status >= 500 else "refused", code, text, wait_s)
    match status:
        case 400 if _RUNS.search(text):
            return Answer("ready")
        case 400 if _BETWEEN.search(text):
            return Answer("busy", text=text, wait_s=2.0)
        case 404:
            return Answer("gone", text=text)
        case 409 | 429:
            return Answer("busy", text=text, wait_s=wait_s)
        case 401 | 403:
            # Not the person's fault: the hub gives the service no such right, or does not know it (any more).
            _log.error("The hub does not let the service do this (status %d): %s", status, text)
            return Answer("away", text=f"status {status}")
        case 500:
            return Answer("failed", text=text)
        case 0 | 502 | 503 | 504:
            return Answer("away", text=text or f"status {status}", wait_s=wait_s)
    return Answer("refused" if 400 <= status < 500 else "away", "hub-refused", text or f"status {status}")


def _seconds(text: str) -> float:
    return min(float(text), 600.0) if text.isdigit() else 0.0
