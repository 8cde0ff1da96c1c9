"""Somebody who only wants to log in, while a hub is busy with others.

    python -m tests.bench.login_page URL

In a process of its own: the one that plays thousands of people has moments in which it notices no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp

__all__ = ["Views", "main", "watched"]

_EVERY_S = 0.1
_PATIENCE_S = 300.0
_ENDED_S = 10.0


@dataclass
class Views:
    """How long the answers took while the block ran, in seconds; none before it has ended."""

    took: list[float] = field(default_factory=list)


@contextlib.contextmanager
def watched(url: str) -> Iterator[Views]:
    """Look at the login page of this hub while the block runs.

    An error, such as the proxy's that the hub does not answer, counts as the longest that is waited for an answer; so
    long as it lasts counts one that is still waited for at the end.
    """
    views = Views()
    command = [sys.executable, "-m", __name__, url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("nobody looks at the login page")
        yield views
    finally:
        try:
            said, _ = process.communicate(timeout=_ENDED_S)  # closes its input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"whoever looked at the login page ended with {process.returncode}")
    views.took += [float(line) for line in said.decode().split()]


async def _look(url: str) -> float:
    began = time.perf_counter()
    try:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
            await answer.read()
            answer.raise_for_status()
        return time.perf_counter() - began
    except asyncio.CancelledError:
        return time.perf_counter() - began
    except (aiohttp.ClientError, TimeoutError):
        return _PATIENCE_S


async def _keep_looking(url: str) -> None:
    print(await _look(url), flush=True)
    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.buffer.read))
    took = []
    while not over.done():
        look = asyncio.ensure_future(_look(url))
        await asyncio.wait((look, over), return_when=asyncio.FIRST_COMPLETED)
        look.cancel()
        took.append(await look)
        await asyncio.wait((over,), timeout=_EVERY_S)
    print(*took)  # not before: a pipe that nobody reads is full some time


def main(arguments: list[str]) -> None:
    """Look until the standard input ends: the first view's time is told at once, all others at the end."""
    (url,) = arguments
    asyncio.run(_keep_looking(f"{url}/hub/login"))


if __name__ == "__main__":
    main(sys.argv[1:])
