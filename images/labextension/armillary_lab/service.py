"""Armillary's service, asked with the session's own token, which is good for this session and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

__all__ = ["DEFAULT_SERVER", "URL", "Refused", "Service"]

URL = "ARMILLARY_SERVICE_URL"
"""The variable that says where the service is; without it the session was not started by Armillary."""

DEFAULT_SERVER = "~"
"""Stands for the server without a name in the service's paths."""

_CONNECT_S = 5.0
_ANSWER_S = 15.0
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Refused(Exception):
    """The service did not do it; status 503: it did not answer. `said` is what it said, as it said it."""

    status: int
    code: str
    detail: str
    said: Mapping[str, Any] = field(default_factory=dict)


class Service:
    """The service, as far as this session is concerned.

    Parameters
    ----------
    url
        Of the service, with its path.
    token
        The session's own.
    server
        The server's name; empty: the one without a name.
    """

    def __init__(self, url: str, token: str, server: str) -> None:
        self._base = f"{url.rstrip('/')}/api"
        self._session = f"sessions/{quote(server, safe='') or DEFAULT_SERVER}"
        self._token = token
        self._client: SimpleAsyncHTTPClient | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Service | None:
        """Return the service that started this session; None: none did."""
        url, token = environ.get(URL, ""), environ.get("JUPYTERHUB_API_TOKEN", "")
        if not url.startswith(("http://", "https://")) or not token:
            return None
        return cls(url, token, environ.get("JUPYTERHUB_SERVER_NAME", ""))

    async def measures(self, measures: Mapping[str, Any]) -> dict[str, Any]:
        """Send what was measured; return what the service knows of the session."""
        return await self._ask("POST", f"{self._session}/measures", measures)

    async def state(self) -> dict[str, Any]:
        """Return what the service knows of the session."""
        return await self._ask("GET", self._session)

    async def keep(self) -> dict[str, Any]:
        """Ask that the session goes on although it does nothing."""
        return await self._ask("POST", f"{self._session}/keep", {})

    async def choices(self) -> dict[str, Any]:
        """Return what the session could be switched to."""
        return await self._ask("GET", f"{self._session}/switch")

    async def switch(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a switch."""
        return await self._ask("POST", f"{self._session}/switch", wanted)

    async def leave(self) -> dict[str, Any]:
        """Take the wish to switch back."""
        return await self._ask("DELETE", f"{self._session}/switch")

    async def dismiss(self, notice: str) -> dict[str, Any]:
        """Note that a notice was read."""
        return await self._ask("DELETE", f"{self._session}/notices/{quote(notice, safe='')}")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's document.

        Raises
        ------
        Refused
            It is none, or says no.
        """
        request = HTTPRequest(
            f"{self._base}/{path}",
            method=method,
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            follow_redirects=False,
            connect_timeout=_CONNECT_S,
            request_timeout=_ANSWER_S,
        )
        try:
            answer = await self._http().fetch(request, raise_error=False)
        except (HTTPClientError, OSError, ValueError) as error:
            raise Refused(
                503, "service-away", f"Armillary's service does not answer ({type(error).__name__})."
            ) from error
        said = _document(answer.body)
        if answer.code == 599 or (answer.code >= 400 and "code" not in said):
            raise Refused(
                503, "service-away", f"Armillary's service does not answer as it should (status {answer.code})."
            )
        if answer.code >= 400:
            raise Refused(answer.code, str(said["code"]), str(said.get("detail", "")), said)
        return said

    def _http(self) -> SimpleAsyncHTTPClient:
        """Return a client of our own: the shared one has the settings of whoever asks for it first."""
        if self._client is None:
            self._client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=_MOST_BYTES)
        return self._client


def _document(body: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(body or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
