"""The three pages of a login: away to the provider, back from it, and log-out here and there."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler, OAuthLogoutHandler
from tornado.httputil import url_concat

from hub.auth.problems import Garbled, LoginProblem, NotAllowed, StrayCallback, Unanswered, quoted
from hub.metrics import LOGINS

COOKIE = "armillary-login-"
ATTEMPT_S = 600  # how long a login at the provider may take
MOST_ATTEMPTS = 8  # logins begun at once in one browser; more would swell its requests
LONGEST_NEXT = 2000  # in a cookie's 4096 bytes: base64 of it, the random values and the signature
# RFC 6749 4.1.2.1 and OpenID Connect Core 3.1.2.6: what the provider may say instead of a code.
UNAVAILABLE = frozenset({"temporarily_unavailable", "server_error"})
DENIED = frozenset({"access_denied", "consent_required", "interaction_required", "login_required"})


@dataclass(frozen=True)
class Attempt:
    """What one login began with; kept in a signed cookie of the browser that began it."""

    state: str
    nonce: str
    verifier: str
    next_url: str
    began: float

    @classmethod
    def begin(cls, next_url: str) -> "Attempt":
        """Fresh random values: 256 bits each, the verifier in the form of RFC 7636."""
        token = secrets.token_urlsafe
        return cls(token(32), token(32), token(32), next_url, time.time())

    @property
    def challenge(self) -> str:
        """The PKCE challenge (S256) of the verifier."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def cookie(self) -> str:
        """The cookie's name: one for each attempt, so that logins in two tabs do not spoil each other."""
        return cookie_of(self.state)


def cookie_of(state: str) -> str:
    """The name of the cookie that belongs to a `state`; the state itself does not go into it."""
    return COOKIE + hashlib.sha256(state.encode()).hexdigest()[:16]


@contextmanager
def counting_failures() -> Iterator[None]:
    """Count a login that fails here, by its cause."""
    try:
        yield
    except Exception as problem:
        LOGINS.labels(problem.outcome if isinstance(problem, LoginProblem) else "failed").inc()
        raise


class LoginPages:
    """What the three handlers share: an error page with a way on, and logs without codes."""

    def _request_summary(self) -> str:
        """As tornado's, for its warnings, without the query: that holds the code and the state."""
        request = self.request  # type: ignore[attr-defined]
        return f"{request.method} {request.path} ({request.remote_ip})"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show a login problem on its own page; everything else as JupyterHub does."""
        problem = (kwargs.get("exc_info") or (None, None, None))[1]
        if not isinstance(problem, LoginProblem):
            super().write_error(status_code, **kwargs)  # type: ignore[misc]
            return
        handler: Any = self
        if not hasattr(self, "_jupyterhub_user"):
            handler._jupyterhub_user = None
            handler._resolve_roles_and_scopes()
        for name, value in problem.headers.items():
            handler.set_header(name, value)
        handler.set_header("Content-Type", "text/html; charset=UTF-8")
        login_url = handler.authenticator.login_url(handler.hub.base_url)
        handler.write(
            handler.render_template(
                "login_problem.html",
                sync=True,
                status_code=status_code,
                problem=problem,
                again_url=login_url if problem.again else "",
                other_url=url_concat(login_url, {"as": "other"}) if problem.other else "",
            )
        )


class OIDCLoginHandler(LoginPages, OAuthLoginHandler):  # type: ignore[misc]  # oauthenticator is untyped
    """Sends the browser to the provider."""

    async def get(self) -> None:
        """Begin a login; `?as=other` has the provider ask again who is there."""
        with counting_failures():
            await self._begin()

    async def _begin(self) -> None:
        metadata = await self.authenticator.provider.metadata()
        attempt = Attempt.begin(self._get_next_url())
        self._drop_old_attempts()
        kept = json.dumps(asdict(attempt))
        self._set_cookie(attempt.cookie, kept, expires_days=ATTEMPT_S / 86_400, path=self.hub.base_url)
        parameters = {
            **self.authenticator.extra_authorize_params,
            "response_type": "code",
            "client_id": self.authenticator.client_id,
            "redirect_uri": self.authenticator.get_callback_url(self),
            "scope": " ".join(self.authenticator.scope),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        if self.get_argument("as", "") == "other":
            parameters["prompt"] = "login"
        self.set_header("Cache-Control", "no-store")
        self.redirect(add_query(metadata.authorization_endpoint, parameters))

    def _get_next_url(self) -> str:
        """As oauthenticator's, a path of this site; nothing where it is no URL, or fits into no header or cookie."""
        try:
            url = super()._get_next_url() or ""
        except ValueError:
            return ""
        return url if url.isprintable() and len(json.dumps(url)) <= LONGEST_NEXT else ""

    def _drop_old_attempts(self) -> None:
        begun = sorted(name for name in self.request.cookies if name.startswith(COOKIE))
        for name in begun[: max(0, len(begun) - MOST_ATTEMPTS + 1)]:
            self.clear_cookie(name, path=self.hub.base_url)


class OIDCCallbackHandler(LoginPages, OAuthCallbackHandler):  # type: ignore[misc]  # oauthenticator is untyped
    """Takes the provider's answer."""

    attempt: Attempt

    async def get(self) -> None:
        """Check that this browser began this login, then log in."""
        self.set_header("Cache-Control", "no-store")
        with counting_failures():
            self.attempt = self._take_attempt()
            await self._check_answer()
            user = await self.login_user()
            if user is None:
                raise NotAllowed(self.authenticator.custom_403_message, log="the account is blocked or not allowed")
        LOGINS.labels("in").inc()
        self._jupyterhub_user = user
        self.redirect(self.attempt.next_url or self.get_next_url(user))

    def get_next_url(self, user: Any = None) -> str:
        """Where JupyterHub would lead; the callback's own query says nothing about that."""
        return str(super(OAuthCallbackHandler, self).get_next_url(user))

    def _take_attempt(self) -> Attempt:
        """The attempt that the `state` belongs to; its cookie goes, so that it is good for one callback only."""
        states = self.get_arguments("state")
        if len(states) != 1 or not states[0]:
            raise StrayCallback(log="no state in the callback")
        name = cookie_of(states[0])
        kept = self.get_secure_cookie(name, max_age_days=ATTEMPT_S / 86_400)
        if kept is None:
            raise StrayCallback(log="no login was begun with this state in this browser in the last ten minutes")
        self.clear_cookie(name, path=self.hub.base_url)
        attempt = Attempt(**json.loads(kept))
        if not secrets.compare_digest(attempt.state.encode(), states[0].encode()):
            raise StrayCallback(log="the state is not that of the login that was begun")
        return attempt

    async def _check_answer(self) -> None:
        """The provider's error, its name (RFC 9207: no mix-up with another provider), its code."""
        metadata = await self.authenticator.provider.metadata()
        issuers = self.get_arguments("iss")
        if (issuers or metadata.names_issuer_in_answer) and issuers != [metadata.issuer]:
            raise StrayCallback(log=f"the answer came from issuer {quoted(issuers)}, asked was {metadata.issuer}")
        error = self.get_argument("error", "")
        if error:
            raise said_no(error, self.get_argument("error_description", ""))
        if len(self.get_arguments("code")) != 1 or not self.get_argument("code"):
            raise StrayCallback(log="neither a code nor an error in the callback")


class OIDCLogoutHandler(LoginPages, OAuthLogoutHandler):  # type: ignore[misc]  # oauthenticator is untyped
    """Ends the session here and, where the provider offers it, there (OpenID Connect RP-Initiated Logout 1.0)."""

    _id_token: str | None = None
    _was_logged_in = False

    async def default_handle_logout(self) -> None:
        """Read the ID token while the user is still known, then log out."""
        user = self.current_user
        if user is not None:
            self._was_logged_in = True
            state = await user.get_auth_state() or {}
            self._id_token = state.get("id_token")
        await super().default_handle_logout()

    async def render_logout_page(self) -> None:
        """Go on to the provider if somebody was logged in; it sends the browser back here, to the page that says so."""
        if self._was_logged_in and self.authenticator.logout_at_provider:
            url = await self._end_session_url()
            if url:
                self.set_header("Cache-Control", "no-store")
                self.redirect(url)
                return
        await super().render_logout_page()

    async def _end_session_url(self) -> str | None:
        try:
            metadata = await self.authenticator.provider.metadata()
        except (Unanswered, Garbled) as problem:
            self.log.warning("Logged out here, but not at the login service: %s", problem.get_message())
            return None
        if metadata.end_session_endpoint is None:
            return None
        parameters = {"client_id": self.authenticator.client_id, "state": secrets.token_urlsafe(16)}
        if self._id_token:
            parameters["id_token_hint"] = self._id_token
        back = self.authenticator.post_logout_url or self._own_url()
        return add_query(metadata.end_session_endpoint, {**parameters, "post_logout_redirect_uri": back})

    def _own_url(self) -> str:
        own = url_path_join(self.hub.base_url, "logout")
        return f"{self.request.protocol}://{self.request.host}{own}"


def said_no(error: str, description: str) -> LoginProblem:
    """The problem for an `error` in the callback. Its own words go to the log only: anybody can write such a link."""
    log = f"the provider answered {quoted(error)}: {quoted(description)}"
    if error in UNAVAILABLE:
        return Unanswered(log=log)
    if error in DENIED:
        problem = NotAllowed(
            "The login service did not let you in: you or it said no. Log in again to change your mind.", log=log
        )
        problem.title, problem.again = "The login was cancelled", True
        return problem
    return Garbled(log=log)


def add_query(url: str, parameters: dict[str, str]) -> str:
    """A URL with more query parameters; what it has already stays."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
