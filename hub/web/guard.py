"""What holds for every request: limits, headers, the shape of the unforeseen, and how long it took."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.web.measures import Measures
from hub.web.problems import Problem, new_instance, response
from spawner.log_facts import REQUEST_HEADER, about, request_id

__all__ = ["LARGEST_BODY", "LONGEST_QUERY", "Guard"]

_log = logging.getLogger(__name__)

LONGEST_QUERY = 8_192
LARGEST_BODY = 65_536

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # An address may hold a login's code.
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Outermost part of the app.

    Parameters
    ----------
    app
        All that is within.
    prefix
        Path below which the app lies; what is outside of it is not there.
    measures
        Where answers are counted.
    """

    def __init__(self, app: ASGIApp, prefix: str, measures: Measures) -> None:
        self._app = app
        self._prefix = prefix
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["root_path"] = self._prefix
        request = request_id(Headers(scope=scope).get(REQUEST_HEADER)) or uuid.uuid4().hex
        with about(request=request):
            await self._answered(scope, receive, _Answer(send, request))

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        began = time.monotonic()
        try:
            refused = self._refuses(scope)
            if refused is not None:
                await response(refused, self._prefix)(scope, receive, answer)
            else:
                await self._app(scope, _limited(receive), answer)
        except Exception as error:
            if answer.status:
                raise  # too late for another answer: the server closes the connection, and logs this
            instance = new_instance()
            _log.error("%s of %s %s", instance, scope["method"], scope["path"], exc_info=error)
            problem = Problem(
                "mistake-of-ours",
                f"Something went wrong here, and it is not your mistake. Tell those who run the site: {instance}.",
            )
            await response(problem, self._prefix, instance)(scope, receive, answer)
        finally:
            self._measure(scope, answer, began)

    def _refuses(self, scope: Scope) -> Problem | None:
        path = scope["path"]
        if path != self._prefix and not path.startswith(f"{self._prefix}/"):
            return Problem("no-such-page", f"There is nothing outside of {self._prefix}/ here.")
        if len(scope["query_string"]) > LONGEST_QUERY:
            return Problem("too-long", f"The address may have {LONGEST_QUERY} bytes behind its '?'.")
        if "\0" in path or b"%00" in scope["query_string"]:
            # No name has it, and PostgreSQL takes no text with it: that would look as if the database were away.
            return Problem("bad-request", "The address holds the character NUL (%00), which nothing here has.")
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            return _too_large()
        return None

    def _measure(self, scope: Scope, answer: _Answer, began: float) -> None:
        # The pattern, never the path: that is the sender's to choose, and there would be a series for each.
        path = getattr(scope.get("route"), "path", "") or "(none)"
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "(other)"
        self._measures.answers.labels(method, path, str(answer.status or 499)).inc()
        if answer.began is not None:
            self._measures.seconds.labels(path).observe(answer.began - began)


class _Answer:
    """Passes an answer on, with our headers wherever it has none of its own."""

    def __init__(self, send: Send, request: str) -> None:
        self._send = send
        self._request = request
        self.status = 0
        self.began: float | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began = time.monotonic()
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers[REQUEST_HEADER] = self._request
        await self._send(message)


def _limited(receive: Receive) -> Receive:
    """Let no more than LARGEST_BODY bytes through of a body that does not say how long it is."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > LARGEST_BODY:
            raise _too_large()
        return message

    return limited


def _too_large() -> Problem:
    return Problem("too-large", f"The request's body may have {LARGEST_BODY} bytes.")
