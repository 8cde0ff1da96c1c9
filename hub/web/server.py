"""The web server around the app: where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from hub.settings.values import split_url

__all__ = ["ListenError", "listen", "serve"]

_log = logging.getLogger(__name__)

_LOOPBACK = ["127.0.0.1", "::1"]
_GRACE_S = 5
# Longer than traefik keeps idle connections (90 s), so that it never sends a request into one that we just close.
_KEEP_ALIVE_S = 120


class ListenError(OSError):
    """The service cannot listen where the settings say; the text is for the operator."""


def listen(url: str) -> socket.socket:
    """Return a socket that listens where the URL says.

    Raises
    ------
    ListenError
        That is not possible, with what to do.
    """
    parts = split_url(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ListenError(f"service.bind_url: cannot listen on {url}: {error.strerror or error}") from error


async def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; live pages end at once then, other requests are answered first."""
    _allow_many_connections()
    server = _Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,  # its lines would hold the codes of logins
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=_LOOPBACK,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )

    def end() -> None:
        app.state.live.close()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    _log.info("The service listens on %s:%d", *listening.getsockname()[:2])
    await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Leaves signals to us: on them live pages have to end first, or the server would wait for them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _allow_many_connections() -> None:
    """Each live page is an open file; shells allow 1,024 unless one asks for more (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
