"""What Prometheus knows of the utilisation of accelerators (NVIDIA's DCGM exporter), by pod.

For sessions whose image cannot measure itself. A Prometheus that is away tells nothing, and nothing counts against a
session because of that.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping

import aiohttp

__all__ = ["Prometheus"]

_log = logging.getLogger(__name__)

_ANSWER_S = 10.0
_MOST_BYTES = 20 * 1024 * 1024
_LABELS = ("pod", "exported_pod")


class Prometheus:
    """One server, asked by its HTTP API (`/api/v1/query`). For one event loop.

    Parameters
    ----------
    url
        With a path, where it lies below one.
    query
        In PromQL, filled in.
    """

    def __init__(self, url: str, query: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._query = query
        self._away = False

    async def utilisation(self) -> Mapping[str, float]:
        """Return the utilisation by pod, as a part of 1; empty while it does not answer."""
        try:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data={"query": self._query}, allow_redirects=False) as answer,
            ):
                said = json.loads(await _whole(answer.content))
                if answer.status != 200:
                    error = said.get("error", "") if isinstance(said, dict) else ""
                    raise ValueError(f"status {answer.status} {str(error)[:200]}")
                found = _by_pod(said)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if not self._away:
                _log.warning("Prometheus does not tell how accelerators are used: %s: %s", type(error).__name__, error)
            self._away = True
            return {}
        if self._away:
            _log.info("Prometheus tells how accelerators are used again")
        self._away = False
        return found


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Return a body that comes in pieces; ValueError where it is longer than any answer should be."""
    raw = bytearray()
    async for piece in content.iter_any():
        raw += piece
        if len(raw) > _MOST_BYTES:
            raise ValueError(f"the answer has more than {_MOST_BYTES} bytes")
    return bytes(raw)


def _by_pod(said: object) -> dict[str, float]:
    """Return the values of an instant vector; ValueError where it is none."""
    data = said.get("data") if isinstance(said, dict) else None
    if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
        raise ValueError("the answer to the query is no instant vector")
    found: dict[str, float] = {}
    for series in data["result"]:
        labels = series.get("metric", {}) if isinstance(series, dict) else {}
        value = series.get("value") if isinstance(series, dict) else None
        pod = next((str(labels[label]) for label in _LABELS if label in labels), "")
        if not pod or not isinstance(value, list) or len(value) != 2:
            continue
        used = float(value[1])
        if not math.isnan(used):
            found[pod] = max(used, found.get(pod, 0.0))
    return found
