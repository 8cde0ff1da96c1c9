"""The app's own API, asked from inside the process in the name of a page's visitor.

Every rule of who may see and do what, and of what is legal, is the API's; a page that asks it like any program can
neither forget nor contradict one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.types import ASGIApp, Message

from hub.web.door import COOKIE, CSRF_HEADER, HUB_SESSION, Visitor, csrf_token

__all__ = ["Answer", "Inner", "Refused", "part"]

Query = Mapping[str, str | Sequence[str]]


class Refused(Exception):
    """The API's answer was an error: `status`, its `code` and what it tells the person.

    Parameters
    ----------
    said
        The document (RFC 9457).
    """

    def __init__(self, status: int, said: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(said.get("code", ""))
        self.text = str(said.get("detail", "")) or "This did not work."
        self.said = said
        super().__init__(f"{status} {self.code}")


@dataclass(frozen=True)
class Answer:
    """What the API answered; `said` is None where it said nothing."""

    status: int
    said: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def part(text: str) -> str:
    """Return a value as a part of a path."""
    return quote(text, safe="")


class Inner:
    """Asks the app.

    Parameters
    ----------
    app
        With everything that it does for a request from outside.
    prefix
        Where it lies.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(
        self,
        who: Visitor,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer of a path such as `/api/tickets`.

        Raises
        ------
        Refused
            The answer is an error.
        """
        raw = b"" if body is None else json.dumps(body).encode()
        scope = self._scope(who, method, path, query or {}, headers or {}, raw)
        heard: list[Message] = []
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Message) -> None:
            heard.append(message)

        await self._app(scope, receive, send)
        answer = _answer(heard)
        if answer.status >= 400:
            raise Refused(answer.status, answer.said if isinstance(answer.said, dict) else {})
        return answer

    def _scope(
        self, who: Visitor, method: str, path: str, query: Query, headers: Mapping[str, str], raw: bytes
    ) -> dict[str, Any]:
        said = {**headers, **_proof(who), "host": "inside", "content-length": str(len(raw))}
        if raw:
            said["content-type"] = "application/json"
        full = f"{self._prefix}{path}"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(full),
            "raw_path": full.encode("ascii"),
            "root_path": "",
            "query_string": urlencode(query, doseq=True).encode(),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in said.items()],
            "client": None,
            "server": None,
        }


def _proof(who: Visitor) -> dict[str, str]:
    """The same login as the page's, so that the hub is not asked again."""
    if not who.by_cookie:
        return {"authorization": f"token {who.token}"}
    cookies = f"{COOKIE}={who.token}" + (f"; {HUB_SESSION}={who.session}" if who.session else "")
    return {"cookie": cookies, CSRF_HEADER: csrf_token(who.token)}


def _answer(heard: Sequence[Message]) -> Answer:
    start = next(message for message in heard if message["type"] == "http.response.start")
    raw = b"".join(message.get("body", b"") for message in heard if message["type"] == "http.response.body")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    is_json = "json" in headers.get("content-type", "")
    return Answer(start["status"], json.loads(raw) if raw and is_json else None, headers)
