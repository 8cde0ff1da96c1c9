"""What parts say over HTTP, and by whose certificate."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "Silent", "addresses", "ask", "expires_at", "resolves"]

_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 20


class Silent(Exception):
    """There was no answer that could be read; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An answer. `date`: by the clock of whoever answered, where it said that."""

    status: int
    body: bytes
    date: datetime | None

    def json(self) -> dict[str, Any]:
        """Return the body as an object of JSON.

        Raises
        ------
        Silent
            It is none.
        """
        try:
            found = json.loads(self.body)
        except ValueError:
            raise Silent("what it answers is no JSON") from None
        if not isinstance(found, dict):
            raise Silent("what it answers is no object of JSON")
        return found


class _Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer: what is checked is this address and no other."""

    def redirect_request(self, *given: Any, **more: Any) -> None:
        """Follow nothing."""


def ask(url: str, *, ca_file: Path | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Return what is answered at this address, whatever its status; TLS is verified.

    Raises
    ------
    Silent
        Nobody answers, or nobody that can be trusted.
    """
    handlers = [_Stay(), urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_context(ca_file))]
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  # settings name http or https only
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
            return Answer(answer.status, answer.read(_MOST_BYTES), _date(answer.headers.get("Date")))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(_MOST_BYTES), _date(error.headers.get("Date")))
    except urllib.error.URLError as error:
        raise Silent(_said(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Silent(_said(error)) from error


def expires_at(url: str, ca_file: Path | None) -> datetime | None:
    """Return when the certificate behind an https address expires; None: it is not https, or nobody answers."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout=_TIMEOUT_S) as plain,
            _context(ca_file).wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            until = (secure.getpeercert() or {}).get("notAfter")
    except OSError:
        return None
    return None if until is None else datetime.fromtimestamp(ssl.cert_time_to_seconds(str(until)), UTC)


def resolves(url: str) -> str:
    """Return why the host of an address has no address itself; empty: it has."""
    try:
        addresses(urlsplit(url).hostname or "")
    except Silent as silent:
        return str(silent)
    return ""


def addresses(host: str) -> frozenset[str]:
    """Return the addresses of a host name, as they are known here.

    Raises
    ------
    Silent
        It has none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Silent(f"{host}: {error.strerror or error}") from error
    return frozenset(str(one[4][0]) for one in found)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _said(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no answer in {_TIMEOUT_S:g} s"
    return str(getattr(error, "strerror", None) or error)
