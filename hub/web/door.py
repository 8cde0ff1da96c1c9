"""Who asks: the login behind a request, by the token of a program or the cookie of a browser.

Never a redirect: a program that follows one to a login page takes the page for its answer. Browsers begin a login
at `/login` (`hub.web.login`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from fastapi import Request, Response

from hub.web.hub_access import HubAccess, HubAway, Identity
from hub.web.place import Place
from hub.web.problems import Problem
from hub.web.proof import is_proof, make_proof

__all__ = ["ACCESS", "COOKIE", "CSRF_COOKIE", "CSRF_HEADER", "HUB_SESSION", "Door", "Visitor", "csrf_token", "remember"]

COOKIE = "armillary-service"
"""Holds a browser's token; no script reads it."""

CSRF_COOKIE = "armillary-csrf"
"""Readable by scripts of the service's own pages only, which is what proves that a request comes from one of them."""

CSRF_HEADER = "X-CSRF-Token"

HUB_SESSION = "jupyterhub-session-id"
"""The hub's own cookie that names the browser's session there; it is another one after a log-out."""

ACCESS = "access:services"
"""The scope that the service's users need, for this service or for all."""

_AUTHORIZATION = re.compile(r"(?:token|bearer) +([!-~]{1,512})", re.IGNORECASE)
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Visitor:
    """Who is behind a request, and by what they proved it."""

    identity: Identity
    token: str
    session: str
    """The browser's session at the hub; empty for programs."""
    by_cookie: bool


class Door:
    """Finds out who asks, and lets in whoever may.

    Parameters
    ----------
    hub
        Knows who holds which token.
    place
        Where we are.
    secret
        What the hub signs with that its pages are its own; empty: what they send is not taken.
    """

    def __init__(self, hub: HubAccess, place: Place, secret: str = "") -> None:
        self._hub = hub
        self._place = place
        self._secret = secret

    async def __call__(self, request: Request) -> Visitor:
        """Return who asks.

        Raises
        ------
        Problem
            `login-needed`, `not-allowed`, `other-site` or `hub-away`.
        """
        return await self.visitor(request, ACCESS)

    async def visitor(self, request: Request, scope: str, *, csrf: str | None = None) -> Visitor:
        """As the call, for another scope of the token.

        Parameters
        ----------
        csrf
            What a form of ours has in its hidden field; None: the header has it.
        """
        found = await self.anyone(request, csrf=csrf)
        self._check_scope(found.identity, scope)
        return found

    async def anyone(self, request: Request, *, kept_s: float | None = None, csrf: str | None = None) -> Visitor:
        """Return who asks, whatever scopes their token has; whoever calls this decides what these suffice for.

        Parameters
        ----------
        kept_s
            How old what the hub said of the token may be; default: as everywhere.
        csrf
            As for `visitor`.
        """
        said = request.headers.get("Authorization")
        by_cookie = said is None
        if said is None:
            token = request.cookies.get(COOKIE, "")
            session = request.cookies.get(HUB_SESSION, "")
        else:
            found = _AUTHORIZATION.fullmatch(said.strip())
            token, session = (found.group(1) if found else ""), ""
        if not token or len(token) > 512:
            raise self._login_needed(request, by_cookie)
        proved = True
        if by_cookie:
            proved = self._check_site(request, token, csrf)
        identity = await self._identify(token, session, kept_s)
        if identity is None:
            raise self._login_needed(request, by_cookie)
        if not proved and not self._proved(request, identity, csrf):
            raise Problem(
                "other-site", f"The header {CSRF_HEADER} must repeat the cookie {CSRF_COOKIE}; reload the page."
            )
        return Visitor(identity, token, session, by_cookie)

    async def again(self, visitor: Visitor, scope: str = ACCESS) -> Visitor | None:
        """Look again at somebody who was let in; None: their login has ended, or no longer suffices.

        While the hub does not answer for long they are let stay: what they see is no more than what they saw.
        """
        try:
            identity = await self._hub.look_again(visitor.token, visitor.session)
        except HubAway:
            return visitor
        if identity is None or not identity.may(scope):
            return None
        return Visitor(identity, visitor.token, visitor.session, visitor.by_cookie)

    async def _identify(self, token: str, session: str, kept_s: float | None) -> Identity | None:
        try:
            more = {} if kept_s is None else {"kept_s": kept_s}
            return await self._hub.identify(token, session, **more)
        except HubAway:
            raise Problem(
                "hub-away",
                "The hub, which knows who you are, does not answer; it is probably being restarted. Try again soon.",
                headers={"Retry-After": "5"},
            ) from None

    def _check_scope(self, identity: Identity, scope: str) -> None:
        if not identity.may(scope):
            raise Problem(
                "not-allowed",
                f"This needs a token with the scope {scope}"
                + ("!service=armillary" if scope == ACCESS else "")
                + f"; that of {identity.kind} {identity.name} has it not.",
            )

    def _login_needed(self, request: Request, by_cookie: bool) -> Problem:
        page = self._place.login(request.url.path)
        return Problem(
            "login-needed",
            "Send `Authorization: token …` with a token of yours from the hub's page “Token”, or log in with a browser "
            f"at {page}."
            if by_cookie
            else "The hub knows no such token, or it has expired; make another on the hub's page “Token”.",
            headers={"WWW-Authenticate": 'Bearer realm="armillary"'},
            more={"login": page},
        )

    def _check_site(self, request: Request, token: str, csrf: str | None) -> bool:
        """Refuse what another site makes a browser send: its cookies travel along (Fetch Metadata; RFC 6265bis).

        Returns whether it is only read, or proved to come from a page of the service.

        Reading is only refused where a browser says that another site asks for it; whatever changes something must
        besides prove that one of our own pages sent it: pages of users' servers share our host.
        """
        site, mode = request.headers.get("Sec-Fetch-Site", ""), request.headers.get("Sec-Fetch-Mode", "")
        if site in ("cross-site", "same-site") and not (mode == "navigate" and request.method in _READS):
            raise Problem("other-site", "A page of another site asked for this; only pages of this site may.")
        if request.method in _READS:
            return True
        origin = request.headers.get("Origin")
        if origin is not None and origin != self._place.origin:
            raise Problem("other-site", f"The request comes from a page of {origin}, not of this site.")
        given = request.headers.get(CSRF_HEADER, "") if csrf is None else csrf
        return hmac.compare_digest(given.encode("utf-8", "replace"), csrf_token(token).encode())

    def _proved(self, request: Request, identity: Identity, csrf: str | None) -> bool:
        """Whether a page that hub or service made for this person sent it (`hub.web.proof`)."""
        given = request.headers.get(CSRF_HEADER, "") if csrf is None else csrf
        return bool(self._secret) and is_proof(self._secret, identity.name, given)

    def proof_for(self, visitor: Visitor) -> str:
        """Return what the forms of a page for this visitor send along.

        It is for the person and not for this login: another page of the same browser may log in again meanwhile.
        """
        return make_proof(self._secret, visitor.identity.name) if self._secret else csrf_token(visitor.token)


def csrf_token(token: str) -> str:
    """Return what a page of ours sends to prove that it is one; tells nothing about the login's token."""
    return hmac.new(token.encode(), b"armillary csrf", hashlib.sha256).hexdigest()


def remember(response: Response, place: Place, token: str, expires_in_s: int) -> None:
    """Let the browser keep a login."""
    for name, value, hidden in ((COOKIE, token, True), (CSRF_COOKIE, csrf_token(token), False)):
        response.set_cookie(
            name,
            value,
            max_age=expires_in_s,
            path=f"{place.prefix}/",
            secure=place.secure,
            httponly=hidden,
            samesite="lax" if hidden else "strict",
        )
