"""The OpenID Connect provider as seen over HTTP: discovery, keys, tokens, user information.

Asked when first needed and again when old, so that a hub starts while its provider is away. Every answer is limited in
size and time, redirects are not followed, TLS is always verified.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from hub.auth.problems import Garbled, GrantRefused, LoginProblem, Unanswered, quoted
from hub.settings.values import is_loopback

DISCOVERY = "/.well-known/openid-configuration"
FRESH_S = 3600.0  # how long discovery and keys are taken as they are
KEYS_AGAIN_S = 10.0  # an unknown key id makes us fetch the keys again, but not more often than this
ATTEMPTS = 3
PAUSE_S = 0.2
BUSY = frozenset({408, 425, 429})
# RFC 6749 5.2: the grant or its owner is refused; anything else is a fault of configuration.
GRANT_ERRORS = frozenset({"invalid_grant", "access_denied", "interaction_required", "login_required"})


@dataclass(frozen=True)
class Metadata:
    """What the discovery document says, checked."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    names_issuer_in_answer: bool


@dataclass(frozen=True)
class Credentials:
    """What the hub proves itself with at the provider."""

    client_id: str
    client_secret: str = field(repr=False)
    basic: bool = True


class Provider:
    """One provider; safe to use from many requests at once."""

    def __init__(
        self,
        issuer: str,
        credentials: Credentials,
        *,
        client: AsyncHTTPClient,
        timeout_s: float,
        request: dict[str, Any],
    ) -> None:
        self.issuer = issuer
        self._credentials = credentials
        self._client = client
        self._timeout_s = timeout_s
        self._request = request
        self._metadata: Metadata | None = None
        self._metadata_at = 0.0
        self._keys: list[jwt.PyJWK] = []
        self._keys_at = 0.0
        self._lock = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """The provider's endpoints; old ones while new ones cannot be had. Raises Unanswered or Garbled."""
        async with self._lock:
            if self._metadata and time.monotonic() - self._metadata_at < FRESH_S:
                return self._metadata
            try:
                document = await self._get_json(self.issuer.rstrip("/") + DISCOVERY)
                self._metadata = read_metadata(document, self.issuer)
            except LoginProblem:
                if self._metadata is None:
                    raise
            self._metadata_at = time.monotonic()
            return self._metadata

    async def keys(self, kid: str | None) -> list[jwt.PyJWK]:
        """The keys that may have signed with this key id; fetched again once when it is unknown (rotation)."""
        metadata = await self.metadata()
        async with self._lock:
            age = time.monotonic() - self._keys_at
            if not self._keys or age > FRESH_S or (not _matching(self._keys, kid) and age > KEYS_AGAIN_S):
                self._keys = read_keys(await self._get_json(metadata.jwks_uri))
                self._keys_at = time.monotonic()
            return _matching(self._keys, kid)

    async def tokens(self, grant: Mapping[str, str]) -> dict[str, Any]:
        """Exchange a code or a refresh token. Never tried twice: both can be used only once.

        Raises GrantRefused where the provider does not accept the grant, Unanswered, or Garbled.
        """
        metadata = await self.metadata()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = dict(grant)
        own = self._credentials
        request = dict(self._request)
        if own.basic:
            # RFC 6749 2.3.1: both parts are form-encoded before they are joined; oauthenticator 17.4 forgets that.
            request |= {
                "auth_username": quote(own.client_id, safe=""),
                "auth_password": quote(own.client_secret, safe=""),
                "auth_mode": "basic",
            }
        else:
            body |= {"client_id": own.client_id, "client_secret": own.client_secret}
        response = await self._send(
            metadata.token_endpoint, method="POST", headers=headers, body=urlencode(body), request=request
        )
        answer = _json_object(response, "the token endpoint")
        if response.code != 200 or "error" in answer:
            said = quoted(answer.get("error"))
            if answer.get("error") in GRANT_ERRORS:
                raise GrantRefused(log=f"token endpoint: {response.code} {said}")
            raise Garbled(log=f"token endpoint: {response.code} {said} {quoted(answer.get('error_description', ''))}")
        kind = answer.get("token_type")
        if not isinstance(answer.get("access_token"), str) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise Garbled(log="token endpoint: no access token of type Bearer in the answer")
        return answer

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """What the provider knows about the token's owner; {} if it has no such endpoint.

        Raises GrantRefused where the token is not accepted any more, Unanswered, or Garbled.
        """
        metadata = await self.metadata()
        if metadata.userinfo_endpoint is None:
            return {}
        headers = {"Authorization": f"Bearer {access_token}"}
        response = await self._send(metadata.userinfo_endpoint, headers=headers)
        if response.code in (400, 401, 403):
            raise GrantRefused(log=f"user information: {response.code}")
        if response.code != 200:
            raise Garbled(log=f"user information: status {response.code}")
        return _json_object(response, "the user information")

    async def _get_json(self, url: str) -> dict[str, Any]:
        """GET, tried again after a short pause while the provider does not answer."""
        for attempt in range(ATTEMPTS):
            try:
                response = await self._send(url)
                break
            except Unanswered:
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(PAUSE_S * 2**attempt)
        if response.code != 200:
            raise Garbled(log=f"{url}: status {response.code}")
        return _json_object(response, url)

    async def _send(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        request: dict[str, Any] | None = None,
    ) -> HTTPResponse:
        """One request; the answer may have any status below 500. Messages name the URL, never headers or bodies."""
        whole = HTTPRequest(
            url,
            method=method,
            headers={"Accept": "application/json", "User-Agent": "Armillary", **(headers or {})},
            body=body,
            connect_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            follow_redirects=False,
            **(request if request is not None else self._request),
        )
        try:
            response = await asyncio.wait_for(self._client.fetch(whole, raise_error=False), self._timeout_s + 1)
        except (OSError, HTTPClientError, TimeoutError) as error:
            raise Unanswered(log=f"{method} {url}: {type(error).__name__} {quoted(error)}") from None
        if response.code >= 500 or response.code in BUSY:
            raise Unanswered(log=f"{method} {url}: status {response.code}")
        return response


def read_metadata(document: Mapping[str, Any], issuer: str) -> Metadata:
    """Check a discovery document (OpenID Connect Discovery 1.0, 4.3). Raises Garbled."""
    if document.get("issuer") != issuer:
        raise Garbled(
            log=f"discovery says issuer {quoted(document.get('issuer'))}, the setting login.issuer says {issuer!r}; "
            "they must be equal to the letter"
        )

    def endpoint(name: str, *, needed: bool = True) -> str | None:
        url = document.get(name)
        if url is None and not needed:
            return None
        if not isinstance(url, str) or not _safe(url, issuer):
            raise Garbled(log=f"discovery: {name} is missing or not https: {quoted(url)}")
        return url

    return Metadata(
        issuer=issuer,
        authorization_endpoint=str(endpoint("authorization_endpoint")),
        token_endpoint=str(endpoint("token_endpoint")),
        jwks_uri=str(endpoint("jwks_uri")),
        userinfo_endpoint=endpoint("userinfo_endpoint", needed=False),
        end_session_endpoint=endpoint("end_session_endpoint", needed=False),
        names_issuer_in_answer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _safe(url: str, issuer: str) -> bool:
    """https, or http on loopback where the issuer itself is on loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host:
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and is_loopback(host) and is_loopback(urlsplit(issuer).hostname)
    )


def read_keys(document: Mapping[str, Any]) -> list[jwt.PyJWK]:
    """The public keys for signatures in a key set; kinds of key that we do not know are passed over. Raises Garbled."""
    listed = document.get("keys")
    found = []
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") == "oct":
            continue
        try:
            found.append(jwt.PyJWK(item))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
    if not found:
        raise Garbled(log="the provider's key set (jwks_uri) has no key that can verify signatures")
    return found


def _matching(keys: list[jwt.PyJWK], kid: str | None) -> list[jwt.PyJWK]:
    return [key for key in keys if kid is None or key.key_id == kid]


def _json_object(response: HTTPResponse, what: str) -> dict[str, Any]:
    try:
        answer = json.loads(response.body or b"")
    except (ValueError, RecursionError):
        raise Garbled(log=f"{what}: status {response.code}, and no JSON") from None
    if not isinstance(answer, dict):
        raise Garbled(log=f"{what}: JSON, but no object")
    return answer
