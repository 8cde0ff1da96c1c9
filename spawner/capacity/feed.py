"""One kind of object, followed by list and watch, handed on as slim values; and how well it is seen right now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from traitlets import default

from spawner.capacity.slim import key_of
from spawner.reflector import Item, LiveReflector

__all__ = ["Feed", "Target"]

_log = logging.getLogger(__name__)

_COMPLAINTS_KEPT = 1000
_UNREADABLE = (KeyError, TypeError, AttributeError, ValueError)

_BETWEEN_S = 2.0
"""How long the next watch may take to be there after one that ended in good order."""

_CATCHING_UP_S = 0.5
"""How long after a loss of contact a new watch is given to tell what was missed: it tells that at once, but not when
it has told all."""

Slim = TypeVar("Slim")


@dataclass(frozen=True)
class Target(Generic[Slim]):
    """Where a feed's objects go.

    Parameters
    ----------
    read
        Makes a slim value; raises KeyError, TypeError, AttributeError or ValueError for what is no such object.
    put, forget
        Take it over, and take out what had this key.
    held
        The keys that are there.
    changed
        Told after each change.
    """

    read: Callable[[Item], Slim]
    put: Callable[[Slim], None]
    forget: Callable[[str], None]
    held: Callable[[], Collection[str]]
    changed: Callable[[], None]


class Feed(LiveReflector):
    """Follows all objects of a kind in the cluster.

    A watch that says nothing may be a quiet cluster or a connection that a firewall has forgotten. So the server is
    asked to end each one after a few seconds, and one that stays open longer than that is dead.

    Parameters
    ----------
    kind
        What it is called in texts, such as `pods`.
    method
        Of the client library's class `group`, listing all of the kind, such as `list_node`.
    """

    # So that all is seen again within 10 s of the API server's return, whatever was being waited for just then.
    longest_pause_s = 2.0
    connect_s = 3.0
    answer_s = 5.0

    def __init__(self, kind: str, group: str, method: str, target: Target[Any]) -> None:
        self.target = target
        self.broken = "not listed yet"
        """Why it cannot be seen; empty while a watch is open, or ended in good order."""
        self.applied = 0
        """Changes and listed objects so far."""
        self._ended = -_BETWEEN_S
        self._caught_up = 0.0
        self._complaints: set[tuple[str, str]] = set()
        super().__init__(kind=kind, api_group_name=group, list_method_name=method, omit_namespace=True, log=_log)

    @default("timeout_seconds")
    def _timeout_default(self) -> int:
        return 10

    @default("idle_timeout")
    def _idle_default(self) -> int:
        return 13

    @default("page_size")
    def _page_default(self) -> int:
        return 250

    @default("request_timeout")
    def _request_default(self) -> int:
        return 8

    # --- how well it is seen ---------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """The resource version that was reached."""
        return self._version or ""

    @property
    def blind_because(self) -> str:
        """Why this is not known to be in step with the server; empty: it is."""
        if self.broken:
            return self.broken
        now = self._now()
        if self.connected:
            silent_s = now - (self._last_contact or 0.0)
            if silent_s > self.idle_timeout:
                return f"silent for {silent_s:.0f} s"
            return "" if now >= self._caught_up else "it is catching up"
        return "" if now - self._ended <= _BETWEEN_S else "no connection"

    @property
    def last_in_step(self) -> float | None:
        """When it was last in step, on the event loop's clock; None: never."""
        return self._last_contact

    def _problem(self, text: str) -> None:
        told = self.broken
        self.broken = text
        if not text:
            self._ended = self._now()
        elif text != told:
            self.target.changed()

    def _watching(self) -> None:
        if self.broken:
            self.broken = ""
            self._caught_up = self._now() + _CATCHING_UP_S
        self.target.changed()

    def _take(self, change: Any) -> None:
        super()._take(change)
        self.target.changed()

    # --- the values ------------------------------------------------------------------------------------------------

    def _read(self, item: Item) -> tuple[str, Any] | None:
        self.applied += 1
        try:
            slim = self.target.read(item)
            key = key_of(item)
        except _UNREADABLE as error:
            self._complain(item, f"it cannot be read: {error!r}")
            return None
        problem = getattr(slim, "problem", "")
        if problem:
            self._complain(item, problem)
        return key, slim

    def _replace(self, found: dict[str, Any]) -> None:
        for key in set(self.target.held()) - found.keys():
            self.target.forget(key)
        for slim in found.values():
            self.target.put(slim)
        self.broken = ""
        self._ended = self._now()  # as if a watch had ended just now: the next one begins where the list ends
        self.target.changed()

    def _keep(self, key: str, item: Any) -> None:
        self.target.put(item)

    def _forget(self, key: str) -> None:
        self.applied += 1
        self.target.forget(key)

    def _complain(self, item: object, problem: str) -> None:
        """Log once what makes no sense; it comes again with every heartbeat."""
        try:
            name = key_of(item)  # type: ignore[arg-type]  # it may be anything
        except _UNREADABLE:
            name = "without a name"
        if (name, problem) not in self._complaints and len(self._complaints) < _COMPLAINTS_KEPT:
            self._complaints.add((name, problem))
            self.log.warning("Of the %s, %s is taken as in use as far as it goes: %s", self.kind, name, problem[:300])
