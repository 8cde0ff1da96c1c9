"""For how long nobody has done anything in the session, and which kernels are busy.

Signs of work are what people do and what computes: messages of kernels, keys and output of terminals, files saved, and
the open connection of an application such as VS Code, which tells nothing more of what is done in it. Any other page
that is left open asks the server for news all day, so requests that only read are no sign. Ages are measured by a clock
that nobody sets: a sign is seen by its having changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["APPS", "Connections", "Kernels", "Requests", "Signs", "kernels_of"]

APPS = "ARMILLARY_APPS"
"""The variable in which the hub names the session's web applications, as JSON."""

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CONTENTS = "api/contents/"
_DOWNLOADS = ("files/", "nbconvert/")
_PEOPLES = ("api/", "nbconvert/")


@dataclass(frozen=True)
class Kernels:
    """How many kernels run and how many of them execute something; `last` is when they last said something."""

    number: int = 0
    busy: int = 0
    last: tuple[str, ...] = ()


def kernels_of(models: Iterable[Mapping[str, Any]]) -> Kernels:
    """Return this of jupyter_server's models of kernels."""
    known = [(str(one.get("id", "")), one.get("execution_state"), str(one.get("last_activity", ""))) for one in models]
    busy = sum(state == "busy" for _, state, _ in known)
    return Kernels(len(known), busy, tuple(sorted(f"{id} {state} {last}" for id, state, last in known)))


class Connections:
    """The websockets of applications that are open now."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, handler: object) -> None:
        """Note one; until it is closed, it counts."""
        self._open.add(id(handler))

    def closed(self, handler: object) -> None:
        """Forget one."""
        self._open.discard(id(handler))


class Requests:
    """Wraps the server's `log_function`, which is told of every request, and notes those that are signs of work.

    Parameters
    ----------
    then
        The server's own function.
    base_url
        Path of the server, with a slash at both ends.
    apps
        Names of its applications: what is sent to them is work.
    """

    def __init__(
        self,
        then: Callable[[Any], None],
        base_url: str,
        apps: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._then = then
        self._base_url = base_url
        self._peoples = (*_PEOPLES, *(f"{name}/" for name in apps))
        self._clock = clock
        self.last: float | None = None
        """When the last one was, on the clock."""

    def __call__(self, handler: Any) -> None:
        """Note a request that was answered, and hand it on."""
        request = handler.request
        if self._is_work(request.method or "", request.path, request.query, handler.get_status()):
            self.last = self._clock()
        self._then(handler)

    def _is_work(self, method: str, path: str, query: str, status: int) -> bool:
        below = path.removeprefix(self._base_url)
        if status >= 400 or below.startswith("armillary/") or "no_track_activity" in query:
            return False
        if method in _CHANGES:
            # Other extensions ask for news by POST, too: that of git every three seconds.
            return below.startswith(self._peoples)
        # A file that is opened or downloaded; folders are listed again and again by pages that nobody looks at.
        opened = below.startswith(_CONTENTS) and "content=1" in query and "." in below.rpartition("/")[2]
        return method == "GET" and (opened or below.startswith(_DOWNLOADS))


class Signs:
    """Turns what changed since the last look into an age.

    Parameters
    ----------
    clock
        Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: object = None
        self._looked_at = self._last = clock()

    def quiet_s(self, seen: object, *, stamps: Iterable[datetime] = (), request_at: float | None = None) -> float:
        """Return for how many seconds there was no sign.

        Parameters
        ----------
        seen
            Something that is another when somebody has done something.
        stamps
            When that was, by the machine's clock; used between two looks only, where it fits.
        request_at
            When the last request was that is a sign, on the clock.
        """
        now = self._clock()
        if seen != self._seen and self._seen is not None:
            ages = [(datetime.now(UTC) - stamp).total_seconds() for stamp in stamps]
            fits = [age for age in ages if 0 <= age <= now - self._looked_at]
            self._last = max(self._last, now - min(fits, default=0.0))
        if request_at is not None:
            self._last = max(self._last, request_at)
        self._seen, self._looked_at = seen, now
        return now - self._last
