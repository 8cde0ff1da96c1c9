"""The OpenID Connect authenticator: oauthenticator's Generic one, with everything checked that the standard asks for.

Beyond oauthenticator 17.4: discovery by issuer, a nonce, the ID token's signature and claims, the user information's
`sub`, groups out of several claims, accounts that stay with one identity, patience while the provider is away, log-out
at the provider, and a page that says why a login did not work.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import maybe_future
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from traitlets import default

from hub.auth import groups, id_token, identity
from hub.auth.handlers import OIDCCallbackHandler, OIDCLoginHandler, OIDCLogoutHandler
from hub.auth.problems import Garbled, GrantRefused, LoginProblem, NotAllowed, Unanswered, Unproven, quoted
from hub.auth.provider import Credentials, Provider
from hub.auth.traits import OIDCTraits
from hub.mail.addresses import address_in
from hub.metrics import LOGIN_CHECKS
from hub.web.place import COMES_BACK
from hub.web.place import NAME as SERVICE
from spawner.refusal import Refusal

LARGEST_ANSWER_BYTES = 1_000_000
OUTAGE_S = 15.0  # how long a provider that did not answer is not asked again by re-checks


class OIDCAuthenticator(OIDCTraits):
    """Login through one OpenID Connect provider, found by its issuer URL."""

    login_handler = OIDCLoginHandler
    callback_handler = OIDCCallbackHandler
    logout_handler = OIDCLogoutHandler

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._provider: Provider | None = None
        self._checks: dict[str, asyncio.Task[dict[str, Any] | bool]] = {}
        self._lapsed: set[str] = set()
        self._silent_until = 0.0

    @default("http_client")
    def _default_http_client(self) -> SimpleAsyncHTTPClient:
        return SimpleAsyncHTTPClient(force_instance=True, max_clients=50, max_body_size=LARGEST_ANSWER_BYTES)

    @default("auth_state_groups_key")
    def _default_groups_key(self) -> Callable[[dict[str, Any]], set[str]]:
        return self._groups_of

    @property
    def provider(self) -> Provider:
        """The provider; nothing is asked of it before somebody logs in."""
        if self._provider is None:
            request = {**self.http_request_kwargs, "validate_cert": True}
            if self.ca_file:
                request["ca_certs"] = self.ca_file
            credentials = Credentials(self.client_id, self.client_secret, basic=self.basic_auth)
            self._provider = Provider(
                self.issuer, credentials, client=self.http_client, timeout_s=self.timeout_s, request=request
            )
        return self._provider

    # --- login -----------------------------------------------------------------------------------------------

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Exchange the callback's code, check what comes, and say who it is. Raises LoginProblem."""
        grant = {
            "grant_type": "authorization_code",
            "code": handler.get_argument("code"),
            "redirect_uri": self.get_callback_url(handler),
            "code_verifier": handler.attempt.verifier,
            **self.token_params,
        }
        tokens = await self.provider.tokens(grant)
        claims = await self._verified(tokens, nonce=handler.attempt.nonce)
        model = await self._model(tokens, claims)
        self._silent_until = 0.0  # it answers again
        self._stay_one_identity(handler, model, claims["sub"])
        return model

    async def run_post_auth_hook(self, handler: Any, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Hand on to the deployer's hook, note the e-mail address of who may log in, and tell that they have."""
        model: dict[str, Any] = await super().run_post_auth_hook(handler, auth_model)
        if self.addresses is not None:
            state = model.get("auth_state") or {}
            address = address_in(state.get(self.user_auth_state_key) or {}, state.get("id_token_claims") or {})
            await self.addresses.remember(model["name"], address)
        if self.logins is not None:
            await self.logins.happened(model["name"])
        return model

    async def _verified(
        self, tokens: dict[str, Any], *, nonce: str | None, subject: str | None = None
    ) -> dict[str, Any]:
        algorithms = [name for name in self.id_token_algorithms if name[:2] in {"RS", "PS", "ES", "Ed"}]
        rules = id_token.Rules(self.client_id, algorithms, self.leeway_s)
        return await id_token.verify(
            tokens.get("id_token"),
            self.provider,
            rules,
            access_token=tokens["access_token"],
            nonce=nonce,
            subject=subject,
        )

    async def _model(self, tokens: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
        """JupyterHub's description of a user, out of tokens whose ID token was checked."""
        userinfo = await self.provider.userinfo(tokens["access_token"])
        # OpenID Connect Core 5.3.2: else a token of somebody else's could have been slipped in.
        if userinfo and userinfo.get("sub") != claims["sub"]:
            raise Unproven(log=f"user information is about {quoted(userinfo.get('sub'))}, the ID token about another")
        state = self.build_auth_state_dict(tokens, userinfo, claims)
        if self.modify_auth_state_hook is not None:
            state = await self._call_modify_auth_state_hook(state)
        name = identity.user_name({**claims, **userinfo}, str(self.username_claim))
        model: dict[str, Any] = {"name": self.normalize_username(name), "admin": None, "auth_state": state}
        if model["name"] in self.admin_users:
            model["admin"] = True
        model = await self.update_auth_model(model)
        return dict(await self._apply_managed_groups(model))

    def build_auth_state_dict(
        self, token_info: dict[str, Any], user_info: dict[str, Any], claims: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What is kept, encrypted, in the database. Keys as oauthenticator's, and the ID token's claims."""
        claims = claims or {}
        scope = token_info.get("scope") or ""
        return {
            "access_token": token_info["access_token"],
            "refresh_token": token_info.get("refresh_token"),
            "id_token": token_info.get("id_token"),
            "scope": scope.split() if isinstance(scope, str) else list(scope),
            self.user_auth_state_key: user_info,
            "id_token_claims": claims,
            "groups_in_id_token": not groups.names_groups(user_info, self.groups_claims)
            and groups.names_groups(claims, self.groups_claims),
            "checked_at": time.time(),
        }

    def _groups_of(self, state: dict[str, Any]) -> set[str]:
        found = groups.groups_from(
            state[self.user_auth_state_key], state["id_token_claims"], self.groups_claims, self.entitlement_namespaces
        )
        return set(found)

    def normalize_username(self, username: str) -> str:
        """The name as it is: folding case, as JupyterHub does, would make one account of `Ann` and `ann`."""
        return str(self.username_map.get(username, username))

    def _stay_one_identity(self, handler: Any, model: dict[str, Any], subject: str) -> None:
        """Tie the account to its first identity; refuse any other that arrives with the same user name."""
        known = handler.find_user(model["name"])
        info = dict((known.user_info if known is not None else None) or {})
        mark = info.get("identity")
        legal = {identity.mark_of(issuer, subject) for issuer in (self.issuer, *self.former_issuers)}
        if mark is not None and mark not in legal:
            raise NotAllowed(
                f"The user name {model['name']} belongs to another person's account here. If it is you who had it "
                f"before your login changed, ask for it{self._whom()}: an administrator removes the old user on the "
                "admin page, which keeps its files.",
                log=f"user name {quoted(model['name'])} belongs to another issuer or sub",
            )
        model["user_info"] = {**info, "identity": identity.mark_of(self.issuer, subject)}

    # --- who may ---------------------------------------------------------------------------------------------

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whether somebody may log in; a "no" says which groups may (NotAllowed)."""
        if auth_model is None or await super().check_allowed(username, auth_model):
            return True
        mine = ", ".join(auth_model.get("groups") or []) or "none"
        raise NotAllowed(
            f"You are known as {username}, but {self._who_may()} Your groups: {mine}. Ask for access{self._whom()}.",
            log=f"user {quoted(username)} is in no allowed group (groups: {quoted(mine)})",
        )

    def _who_may(self) -> str:
        wanted = sorted(self.allowed_groups | self.admin_groups)
        if not wanted:
            return "this hub has not been opened to anybody yet."
        if len(wanted) == 1:
            return f"this hub is for members of the group {wanted[0]}."
        return f"this hub is for members of the groups {', '.join(wanted[:-1])} or {wanted[-1]}."

    def _whom(self) -> str:
        return f" at {self.contact}" if self.contact else " from the people who run this hub"

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a start to those who lost their right to log in, by whatever door they come.

        JupyterHub lets requests with a token go on when a re-check fails (`auth_refresh_strict`), since it cannot tell
        an expired login from a right that was taken away; the groups that the re-check wrote down can. Somebody who
        never logged in was added by an administrator, who answers for them.

        A start from the queue, which the service asks for perhaps hours later, needs a login that is still good: its
        owner is told to log in again, and keeps the place meanwhile. What was stopped for a switch comes back without.
        """
        await maybe_future(super().pre_spawn_start(user, spawner))
        if not (user.user_info or {}).get("identity"):
            return
        model = {"groups": [group.name for group in user.groups], "admin": user.admin, "auth_state": {}}
        try:
            await self.check_allowed(user.name, model)
        except NotAllowed as problem:
            raise Refusal("not-allowed", problem.text, status=403) from problem
        handler = getattr(spawner, "handler", None)
        if _comes_back(handler):
            user._auth_refreshed = None  # nobody was asked about this person just now
        elif user.name in self._lapsed and _asked_by_service(handler):
            raise Refusal("login-lapsed", "Your login has ended: log in again, and your server starts.", status=403)

    # --- re-check --------------------------------------------------------------------------------------------

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> dict[str, Any] | bool:
        """Ask the provider anew: True for no news, a model for news, False for "log in again".

        Requests of one person at the same moment share one answer: a refresh token must not be used twice. What was
        stopped for a switch comes back whatever the provider says: it would have gone on.
        """
        if _comes_back(handler):
            return True
        running = self._checks.get(user.name)
        if running is None:
            running = asyncio.ensure_future(self._counted(user, handler))
            self._checks[user.name] = running
            running.add_done_callback(lambda _: self._checks.pop(user.name, None))
        answer = await asyncio.shield(running)
        (self._lapsed.add if answer is False else self._lapsed.discard)(user.name)
        return dict(answer) if isinstance(answer, dict) else answer

    async def _counted(self, user: Any, handler: Any) -> dict[str, Any] | bool:
        answer = await self._recheck(user, handler)
        away = time.monotonic() < self._silent_until
        LOGIN_CHECKS.labels("provider" if away else "ended" if answer is False else "good").inc()
        return answer

    async def _recheck(self, user: Any, handler: Any) -> dict[str, Any] | bool:
        state = await user.get_auth_state()
        if self.refresh_user_hook is not None:
            answer: dict[str, Any] | bool | None = await self._call_refresh_user_hook(user, state)
            if answer is not None:
                return answer
        if not state or "id_token_claims" not in state:
            return False
        try:
            if time.monotonic() < self._silent_until:
                return self._patient(user, state)
            model = await self._fresh_model(user, state)
        except (Unanswered, Garbled) as problem:  # an HTML page instead of JSON is an outage too
            self._silent_until = time.monotonic() + OUTAGE_S
            self.log.warning("Groups of %s not re-checked: %s", user.name, problem.get_message())
            return self._patient(user, state)
        except LoginProblem as problem:
            self.log.info("Login of %s has ended: %s", user.name, problem.get_message())
            return False
        if model["name"] != user.name:
            self.log.warning("Login of %s has ended: the provider now names this person otherwise", user.name)
            return False
        return await self._still_allowed(user, handler, model)

    def _patient(self, user: Any, state: dict[str, Any]) -> bool:
        """Whether the last answer of a provider that is silent now is young enough to go by."""
        return bool(time.time() - float(state.get("checked_at", 0)) < self.outage_grace_s)

    async def _fresh_model(self, user: Any, state: dict[str, Any]) -> dict[str, Any]:
        """With the access token while it is good and the groups are not in the ID token, else by the refresh token."""
        claims = state["id_token_claims"]
        if not state.get("groups_in_id_token"):
            try:
                return await self._model(state, claims)
            except GrantRefused:
                if not state.get("refresh_token"):
                    raise
        if not state.get("refresh_token"):
            raise GrantRefused(log="groups are in the ID token only, and there is no refresh token to get a new one")
        tokens = await self.provider.tokens({"grant_type": "refresh_token", "refresh_token": state["refresh_token"]})
        if tokens.get("id_token") is not None:
            claims = await self._verified(tokens, nonce=None, subject=claims["sub"])
        elif state.get("groups_in_id_token"):
            raise GrantRefused(log="groups are in the ID token only, and refreshing brought no new one")
        # What the provider does not send again stays as it was (OpenID Connect Core 12.2, RFC 6749 6).
        kept = {key: state.get(key) for key in ("refresh_token", "id_token", "scope")}
        return await self._model({**kept, **tokens}, claims)

    async def _still_allowed(self, user: Any, handler: Any, model: dict[str, Any]) -> dict[str, Any] | bool:
        """News as they are; for somebody who lost all rights, write the new groups down, then end the login."""
        try:
            allowed = self.allow_all or await self.check_allowed(user.name, model)
            allowed = allowed and self.check_blocked_users(user.name, model)
        except NotAllowed as problem:
            self.log.warning("Login of %s has ended: %s", user.name, problem.get_message())
            allowed = False
        if not allowed:
            if handler is not None:
                await handler.auth_to_user(dict(model), user)
            return False
        return model


def _comes_back(handler: Any) -> bool:
    """Whether our service asks for the start of what was stopped for a switch."""
    request = getattr(handler, "request", None)
    return request is not None and COMES_BACK in request.headers and _asked_by_service(handler)


def _asked_by_service(handler: Any) -> bool:
    """Whether our service has asked for this start, and not the person or an administrator."""
    asking = getattr(handler, "current_user", None)
    return isinstance(asking, orm.Service) and asking.name == SERVICE
