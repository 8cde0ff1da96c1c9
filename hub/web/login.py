"""Login of browsers: the hub's OAuth (authorization code with PKCE, RFC 6749 and 7636), with nothing kept here.

What has to be known again when the browser comes back travels with it: where to go, in `state`, signed; and a cookie
that shows that it is the same browser. So any replica can complete what another began, and several tabs do not get in
each other's way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from hub.web.door import ACCESS, HUB_SESSION, remember
from hub.web.hub_access import Granted, HubAccess, HubAway, LoginRefused
from hub.web.place import CLIENT_ID, Place
from hub.web.problems import FieldProblem, Problem, answers, of_fields

__all__ = ["States", "router"]

_log = logging.getLogger(__name__)

_BROWSER = "armillary-browser-"
"""Begins the names of the cookies that tell browsers apart. A page and the script of the page before it may begin a
browser's first login at the same moment; with one name the answer that comes last would break the other's login."""

_GOOD_S = 600
_TEXT = Annotated[str, Field(max_length=2000)]


class _LoginQuery(BaseModel):
    next: _TEXT = Field("", description="Path of the service to go to then; default: its first page.")


class _CallbackQuery(BaseModel):
    code: _TEXT = Field("", description="What the hub gives for a login that it has confirmed.")
    state: _TEXT = Field("", description="What the login was begun with.")
    error: _TEXT = Field("", description="Why the hub did not agree, for programs.")


class States:
    """Makes and reads `state`, the value that comes back with the browser.

    Parameters
    ----------
    secret
        What all replicas know, and nobody else.
    clock
        Seconds since 1970: a replica reads what another has made.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(b"armillary service login\n" + secret.encode()).digest()
        self._clock = clock

    def make(self, browser: str, then: str) -> str:
        """Return the state of a login that this browser begins."""
        said = {"once": secrets.token_urlsafe(16), "then": then, "until": int(self._clock()) + _GOOD_S}
        text = _encode(json.dumps(said).encode())
        return f"{text}.{self._sign(browser, text)}"

    def read(self, browser: str, state: str) -> str | None:
        """Return where the browser wants to go; None: this browser began no such login, or too long ago."""
        text, _, signature = state.partition(".")
        if not browser or not hmac.compare_digest(signature.encode(), self._sign(browser, text).encode()):
            return None
        said = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return str(said["then"]) if said["until"] > self._clock() else None

    def verifier(self, browser: str, state: str) -> str:
        """Return the PKCE secret of a login: known again here, never told to the browser."""
        return _encode(hmac.new(self._key, f"verifier\n{browser}\n{state}".encode(), hashlib.sha256).digest())

    def _sign(self, browser: str, text: str) -> str:
        return _encode(hmac.new(self._key, f"state\n{browser}\n{text}".encode(), hashlib.sha256).digest())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def router(hub: HubAccess, place: Place, states: States) -> APIRouter:
    """Return the two pages of the login."""
    found = APIRouter(tags=["login"])
    redirects: dict[int | str, dict[str, str]] = {303: {"description": "On to the hub, or back to where one came from"}}

    @found.get(
        "/login",
        response_class=RedirectResponse,
        status_code=303,
        responses={**redirects, **answers("bad-request")},
        summary="Log a browser in through the hub",
        operation_id="login",
    )
    async def login(request: Request, query: Annotated[_LoginQuery, Query()]) -> Response:
        """Leads to the hub and back to `next`; who is logged in there does not have to do anything."""
        then = query.next or f"{place.prefix}/"
        if not place.is_ours(then):
            raise of_fields(
                [FieldProblem(field="query.next", detail=f"must be a path below {place.prefix}/, as it is written")]
            )
        cookie, browser = next(_browsers(request), (f"{_BROWSER}{secrets.token_hex(4)}", secrets.token_urlsafe(32)))
        state = states.make(browser, then)
        challenge = _encode(hashlib.sha256(states.verifier(browser, state).encode()).digest())
        asked = {
            "client_id": CLIENT_ID,
            "redirect_uri": place.callback,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = RedirectResponse(f"{place.authorize}?{urlencode(asked)}", 303)
        answer.set_cookie(
            cookie,
            browser,
            max_age=_GOOD_S,
            path=f"{place.prefix}/",
            secure=place.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    @found.get(
        "/oauth_callback",
        response_class=RedirectResponse,
        status_code=303,
        responses={**redirects, **answers("bad-request", "login-broken", "not-allowed", "hub-away")},
        summary="Where the hub sends browsers back to",
        operation_id="oauth_callback",
    )
    async def callback(request: Request, query: Annotated[_CallbackQuery, Query()]) -> Response:
        """Completes a login; only the hub leads here."""
        begun = ((browser, states.read(browser, query.state)) for _, browser in _browsers(request))
        browser, then = next(((browser, then) for browser, then in begun if then is not None), ("", None))
        if then is None:
            raise _broken(place, "it was begun too long ago, or in another browser, or cookies are switched off")
        if query.error or not query.code:
            raise _broken(place, "the hub did not agree to it")
        session = request.cookies.get(HUB_SESSION, "")
        granted = await _complete(hub, place, query.code, states.verifier(browser, query.state), session)
        answer = RedirectResponse(then, 303)
        remember(answer, place, granted.token, granted.expires_in_s)
        return answer

    return found


def _browsers(request: Request) -> Iterator[tuple[str, str]]:
    """Each cookie of ours that tells browsers apart, with its value."""
    for name, value in request.cookies.items():
        if name.startswith(_BROWSER) and 20 <= len(value) <= 100:
            yield name, value


async def _complete(hub: HubAccess, place: Place, code: str, verifier: str, session: str) -> Granted:
    """Return the token of a confirmed login whose owner may come in."""
    try:
        granted = await hub.token_for(code, verifier, place.callback)
        identity = await hub.identify(granted.token, session)
    except HubAway:
        raise Problem(
            "hub-away",
            f"The hub does not answer; it is probably being restarted. Log in again soon at {place.login()}.",
            headers={"Retry-After": "5"},
        ) from None
    except LoginRefused as refused:
        _log.warning("A login could not be completed: %s", refused)
        raise _broken(place, "the hub does not know it (any more)") from None
    if identity is None or not identity.may(ACCESS):
        raise Problem("not-allowed", "Your account may not use this service; ask those who run the site.")
    _log.info("%r has logged in", identity.name)
    return granted


def _broken(place: Place, why: str) -> Problem:
    return Problem("login-broken", f"The login could not be completed: {why}. Begin anew at {place.login()}.")
