"""What the service asks the hub: who holds this token, and which token belongs to this login.

Answers about tokens are kept for some seconds, for a bounded number of tokens, and asked for once at a time, so that
a thousand pages of one person cost the hub one request. While the hub is away (a restart takes seconds) people go on
by what was last known of them, for a bounded time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from hub.web.place import CLIENT_ID, NAME
from profiles.access import Person

__all__ = ["Granted", "HubAccess", "HubAway", "Identity", "LoginRefused"]

_log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Questions to the hub at once. It answers them one after the other, and whoever opens one of its own pages waits for
all that are there: when a thousand people come within a moment, the others have their turn here."""

_TURN_S = 60.0
"""How long somebody of whom nothing is known waits for that, and for the answer."""

_KEPT_S = 30.0
_LOOKED_ON_S = 300.0
_LOOKS_PER_S = 10.0
"""How often the hub is asked, in the mean, about people who only look on; see `HubAccess.look_again`."""

_WRONG_KEPT_S = 5.0
_AWAY_S = 1.0
"""How long the hub is not asked again after it did not answer."""


class HubAway(OSError):
    """The hub did not answer, and nothing is known that could be gone by meanwhile."""


class LoginRefused(Exception):
    """The hub gave no token for a login: its code was used before, or is too old."""


@dataclass(frozen=True)
class Identity:
    """Whoever holds a token, as the hub describes them."""

    kind: Literal["user", "service"]
    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    scopes: frozenset[str] = frozenset()

    def may(self, scope: str) -> bool:
        """Whether the token carries a scope, for this service or for all."""
        return not self.scopes.isdisjoint({scope, f"{scope}!service={NAME}"})

    @property
    def person(self) -> Person:
        """The person for the catalogue's access rules; a program is nobody in particular."""
        return Person(self.name if self.kind == "user" else "", self.groups, self.admin)


@dataclass(frozen=True)
class Granted:
    """A token that the hub gave for a login, and for how long it is good."""

    token: str
    expires_in_s: int


@dataclass(frozen=True)
class _Known:
    identity: Identity | None
    at: float


class HubAccess:
    """The hub, as the service sees it.

    Parameters
    ----------
    api_url
        The hub's API, without a slash at its end.
    token
        The service's own, by which the hub knows it.
    outage_s
        How long people go on by what was last known of them while the hub does not answer.
    limit
        Of how many tokens something is remembered.
    timeout_s
        How long the hub may take for one answer.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        outage_s: float = 600.0,
        limit: int = 10_000,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api_url = api_url
        self._token = token
        self._outage_s = outage_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._known = _Recent(limit)
        # Apart, so that guessing tokens pushes nobody's login out.
        self._wrong = _Recent(max(1, limit // 10))
        self._asking: dict[str, asyncio.Task[Identity | None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._looks = _Allowance(_LOOKS_PER_S, _LOOKS_PER_S * _KEPT_S, clock)
        self._not_before = 0.0
        self.asked = 0
        self.away = False

    async def close(self) -> None:
        """End the connections to the hub."""
        if self._session is not None:
            await self._session.close()

    async def identify(self, token: str, session: str = "", *, kept_s: float = _KEPT_S) -> Identity | None:
        """Return who holds a token; None: nobody does.

        Parameters
        ----------
        token
            Of a program, or of a browser's login with us.
        session
            The browser's session at the hub. Log-out there changes it, so that the token is looked at anew.
        kept_s
            How old an answer may be that is used again.

        Raises
        ------
        HubAway
            The hub does not answer, and did not for too long.
        """
        key = _key(token, session)
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now - known.at < kept_s:
            return known.identity
        wrong = self._wrong.get(key)
        if wrong is not None and now - wrong.at < _WRONG_KEPT_S:
            return None
        try:
            # Who is known does not wait for many who are not.
            async with asyncio.timeout(self._timeout.total if known is not None else _TURN_S):
                return await self._ask_once(key, token)
        except (HubAway, TimeoutError) as problem:
            if known is not None and self._clock() - known.at < self._outage_s:
                return known.identity
            if isinstance(problem, HubAway):
                raise
            raise HubAway("the hub has too much to answer") from problem

    async def look_again(self, token: str, session: str = "") -> Identity | None:
        """As `identify`, for somebody who was let in and whose page is open: asked every half minute; where several
        hundred pages are open less often, but after two and a half to five minutes, each token at its own time."""
        key = _key(token, session)
        known = self._known.get(key)
        age_s = self._clock() - known.at if known is not None else math.inf
        longest_s = _LOOKED_ON_S * (0.5 + int(key[:8], 16) / 2**33)
        due = age_s >= longest_s or (age_s >= _KEPT_S and key not in self._asking and self._looks.take())
        return await self.identify(token, session, kept_s=_KEPT_S if due else _LOOKED_ON_S)

    async def token_for(self, code: str, verifier: str, redirect_uri: str) -> Granted:
        """Return the token of a login that the hub has just confirmed (RFC 6749, 4.1.3; RFC 7636).

        Raises
        ------
        HubAway
            The hub does not answer.
        LoginRefused
            It gives none for this code.
        """
        form = {
            "client_id": CLIENT_ID,
            "client_secret": self._token,
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        status, said = await self._request("POST", "/oauth2/token", data=form)
        if status != 200 or not isinstance(said.get("access_token"), str):
            raise LoginRefused(f"the hub answered {status} {str(said.get('error', ''))[:60]!r}")
        lasts = said.get("expires_in")
        return Granted(said["access_token"], lasts if isinstance(lasts, int) and lasts > 0 else 3600)

    async def _ask_once(self, key: str, token: str) -> Identity | None:
        """Ask, or wait for the answer to the same question that somebody else has asked."""
        task = self._asking.get(key)
        if task is None:
            if self._clock() < self._not_before:
                raise HubAway("the hub did not answer a moment ago")
            task = asyncio.create_task(self._ask(key, token))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        # Shielded: whoever waits may go away, others wait for the same answer.
        return await asyncio.shield(task)

    def _answered(self, key: str, task: asyncio.Task[Identity | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen: nobody may be left who waits for it

    async def _ask(self, key: str, token: str) -> Identity | None:
        async with self._turns:
            status, said = await self._request("GET", "/user", headers={"Authorization": f"token {token}"})
        identity = _identity(said) if status == 200 else None
        known = _Known(identity, self._clock())
        if identity is None:
            self._known.forget(key)
            self._wrong.put(key, known)
        else:
            self._known.put(key, known)
        return identity

    async def _request(self, method: str, path: str, **more: Any) -> tuple[int, Mapping[str, Any]]:
        """Return the hub's answer; raises HubAway where it is none that a hub in order gives."""
        self.asked += 1
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=20), cookie_jar=aiohttp.DummyCookieJar(), timeout=self._timeout
            )
        try:
            async with self._session.request(method, self._api_url + path, allow_redirects=False, **more) as answer:
                raw = await answer.read()
                said = json.loads(raw)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._is_away(f"{type(error).__name__}") from error
        if answer.status >= 500 or answer.status == 429 or not isinstance(said, dict):
            raise self._is_away(f"status {answer.status}")
        if self.away:
            _log.info("The hub answers again")
        self.away = False
        return answer.status, said

    def _is_away(self, why: str) -> HubAway:
        if not self.away:
            _log.warning("The hub does not answer (%s); logins go on for %g s", why, self._outage_s)
        self.away = True
        self._not_before = self._clock() + _AWAY_S
        return HubAway(f"the hub does not answer: {why}")


class _Recent:
    """What was asked for last, of a bounded number of keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, _Known] = OrderedDict()

    def get(self, key: str) -> _Known | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: str, known: _Known) -> None:
        self._entries[key] = known
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)


class _Allowance:
    """So many a second in the mean; some more at once where there were fewer before."""

    def __init__(self, per_s: float, most: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._left = self._most = most
        self._clock = clock
        self._at = clock()

    def take(self) -> bool:
        """Take one; False: none is left."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _key(token: str, session: str) -> str:
    return hashlib.sha256(f"{session}\n{token}".encode("utf-8", "replace")).hexdigest()


def _identity(said: Mapping[str, Any]) -> Identity | None:
    """The hub's model of a token's owner; None for what a hub would not say."""
    name, groups, scopes = said.get("name"), said.get("groups", []), said.get("scopes", [])
    if not isinstance(name, str) or not name or not isinstance(groups, list) or not isinstance(scopes, list):
        return None
    kind: Literal["user", "service"] = "service" if said.get("kind") == "service" else "user"
    return Identity(kind, name, frozenset(map(str, groups)), said.get("admin") is True, frozenset(map(str, scopes)))
