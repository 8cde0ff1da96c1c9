"""What the controller measures of itself, for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub.controller.status import Status
from hub.metrics import LOOP_LAG
from hub.web.metrics_token import carries

__all__ = ["StatusMetrics", "show", "watch_loop_lag"]

_BEAT_S = 0.25


class StatusMetrics(Collector):
    """The state of one controller, read when it is asked for."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        status = self._status
        for name, text, value in (
            ("leading", "Whether this controller is the one that acts.", status.leading),
            ("blind", "Whether the source of the counts cannot be seen by this controller.", status.blind_because),
            ("publish_age_seconds", "Seconds since this controller published counts.", status.publish_age_s),
        ):
            if value is not None:
                number = value if isinstance(value, float) else float(bool(value))
                yield GaugeMetricFamily(f"armillary_controller_{name}", text, value=number)


def show(port: int, token: str, *, need_token: bool = True) -> WSGIServer:
    """Show this process' metrics at `/metrics` of this port of all addresses, in a thread; `/health` says it is alive.

    Parameters
    ----------
    token
        Whoever has it may read; with an empty one nobody may.
    need_token
        Whether a token is asked for at all.
    """
    metrics = make_wsgi_app()

    def answer(environ: Mapping[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/health":
            begin("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"ok\n"]
        if path != "/metrics":
            begin("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"/metrics, /health\n"]
        if need_token and not carries(environ.get("HTTP_AUTHORIZATION"), token):
            refused = [("Content-Type", "text/plain; charset=utf-8"), ("WWW-Authenticate", "Bearer")]
            begin("401 Unauthorized", refused)
            return [b"Send `Authorization: Bearer ...` with the token of hub.metrics_token_file.\n"]
        told: Iterable[bytes] = metrics(dict(environ), begin)
        return told

    server = make_server("", port, answer, _Threads, _Silent)
    threading.Thread(target=server.serve_forever, name="armillary-metrics", daemon=True).start()
    return server


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""


async def watch_loop_lag(stop: asyncio.Event) -> None:
    """Measure the event loop until `stop` is set."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + _BEAT_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _BEAT_S)
            return
        LOOP_LAG.observe(max(0.0, loop.time() - due))
