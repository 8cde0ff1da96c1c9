"""Wait until a server answers, or is gone, whichever comes first.

JupyterHub's own wait looks with growing pauses and does not notice a server that dies meanwhile
(jupyterhub-behaviour: REST 500 after 11 s). Ours looks every few hundredths of a second: a session's start is
dominated by a server that boots in two seconds, so a pause of seconds is felt.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

__all__ = ["Gone", "answers", "wait_until_answering"]

_ENDING: set[asyncio.Task[None]] = set()
# Last looks under way; the event loop itself keeps only weak references to its tasks.


class Gone(Exception):
    """What was waited for is gone; `result` is what the watcher of its end returned."""

    def __init__(self, result: object) -> None:
        super().__init__(str(result))
        self.result = result


async def answers(url: str, *, timeout_s: float = 5.0, ssl_options: Any = None) -> bool:
    """Return whether something answers HTTP at this address; any status but 5xx counts as an answer."""
    try:
        await AsyncHTTPClient().fetch(
            url, follow_redirects=False, request_timeout=timeout_s, connect_timeout=timeout_s, ssl_options=ssl_options
        )
    except HTTPClientError as error:
        return error.code < 500
    except (OSError, EOFError):
        return False
    return True


async def wait_until_answering(
    url: str, gone: asyncio.Future[Any], *, every_s: float = 0.05, ssl_options: Any = None
) -> None:
    """Return as soon as `url` answers HTTP.

    Parameters
    ----------
    url
        Looked at every `every_s` seconds; the caller bounds the whole wait.
    gone
        Done when the server has ended. It is not cancelled here.

    Raises
    ------
    Gone
        The server ended first.
    """

    over = False

    async def look() -> None:
        while not over and not await answers(url, ssl_options=ssl_options):  # noqa: ASYNC110  # nobody says when
            await asyncio.sleep(every_s)

    looking = asyncio.ensure_future(look())
    try:
        await asyncio.wait([looking, gone], return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            looking.result()
            return
        raise Gone(gone.result())
    finally:
        # Not cancelled: tornado would log the failure of a look that is under way, and each ends soon by itself.
        over = True
        _ENDING.add(looking)
        looking.add_done_callback(_ENDING.discard)
