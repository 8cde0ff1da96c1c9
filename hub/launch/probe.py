"""Whether something answers HTTP: one small request without a library's time-outs and redirects."""

import asyncio
import contextlib
from urllib.parse import urlsplit


async def status_of(url: str, timeout_s: float = 5.0, host: str = "") -> int | None:
    """GET a URL and return the answer's status; None if nothing (or nothing that speaks HTTP) answers in time.

    `host` is what the request says it asks, if not the URL's own.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                request = (
                    f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host or parts.netloc}\r\nConnection: close\r\n\r\n"
                )
                writer.write(request.encode("ascii"))
                await writer.drain()
                words = (await reader.readline()).split()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return None
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else None


async def until_ok(url: str, every_s: float = 0.1, host: str = "") -> None:
    """Return as soon as a URL answers 200, asked as this host."""
    while await status_of(url, host=host) != 200:  # noqa: ASYNC110 - nobody can tell us, it is another process
        await asyncio.sleep(every_s)
