"""Looks at the cards without ever hanging, and remembers what only events tell: that a card has failed.

A driver may hang for good in any call, and a thread in it cannot be stopped. So every look runs in a thread of its
own that nobody has to wait for, and there is never a second one while the first has not come back.
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import replace
from typing import cast

import pynvml

from spawner.devices.nvml import Card, Driver, Instance, NvmlAway, Seen, away, read

__all__ = ["APPLICATION_XIDS", "Reader", "this_machine"]

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""XID errors that a program causes, after which the card is as good as before (NVIDIA, "XID Errors"; the device plugin
for Kubernetes passes over the same ones)."""

_LOOK_S = 10.0
_EVENT_MS = 2000
_WHOLE_CARD = 0xFFFFFFFF
_log = logging.getLogger(__name__)


class Reader:
    """The way to this machine's cards; its methods may be called from any thread.

    Parameters
    ----------
    driver
        What answers; default: NVIDIA's library, through the module `pynvml`.
    timeout_s
        How long a look may take before the driver counts as hanging.
    """

    def __init__(self, driver: Driver | None = None, *, timeout_s: float = _LOOK_S) -> None:
        self._driver = driver if driver is not None else cast(Driver, importlib.import_module("pynvml"))
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._looking: Future[Seen] | None = None
        self._since = 0.0
        self._ready = False
        self._known: dict[str, Card] = {}
        self._failed: dict[tuple[str, int | None, int | None], int] = {}
        self._listening = False

    def look(self) -> Seen:
        """Return the cards as they are now; blocks for `timeout_s` at most: call it in a thread.

        A card that was seen before and cannot be read any more, or not all of it, is returned as it was, with its
        problem: partitions stay partitions.

        Raises
        ------
        NvmlAway
            They cannot be seen: no driver, or one that does not answer. Its text says what to do.
        """
        with self._lock:
            if self._looking is None:
                self._looking, self._since = _begin(self._look), time.monotonic()
            looking = self._looking
        try:
            seen = looking.result(max(0.0, self._since + self._timeout_s - time.monotonic()))
        except TooLate:
            raise NvmlAway(
                "the NVIDIA driver does not answer",
                f"A question to it is open for {time.monotonic() - self._since:.0f} seconds. See `dmesg`; as a rule "
                "only a restart of the machine helps. Sessions that run are left alone.",
            ) from None
        except pynvml.NVMLError as error:
            self._over(looking)
            raise away(error) from error
        except BaseException:
            self._over(looking)
            raise
        self._over(looking)
        return self._with_memory(seen)

    def _over(self, looking: Future[Seen]) -> None:
        with self._lock:
            if self._looking is looking:
                self._looking = None

    def _look(self) -> Seen:
        if not self._ready:
            self._driver.nvmlInit()
            self._ready = True
        try:
            seen = read(self._driver)
        except pynvml.NVMLError:
            self._ready = False  # the driver may have been unloaded: begin anew next time
            raise
        if not self._listening and seen.cards:
            self._listening = True
            threading.Thread(target=self._listen, name="armillary-xid", daemon=True).start()
        return seen

    def _with_memory(self, seen: Seen) -> Seen:
        cards = [self._with_events(self._as_it_was(card)) for card in seen.cards]
        there = {card.uuid for card in cards}
        if seen.unreadable:  # those that are missing are the ones that could not be read
            lost = [card for uuid, card in self._known.items() if uuid not in there]
            cards += [replace(card, problem="the driver cannot reach it any more") for card in lost]
        self._known = {card.uuid: card for card in cards}
        return replace(seen, cards=tuple(cards))

    def _as_it_was(self, card: Card) -> Card:
        known = None if card.complete else self._known.get(card.uuid)
        return card if known is None else replace(known, problem=card.problem)

    # --- events --------------------------------------------------------------------------------------------------

    def _with_events(self, card: Card) -> Card:
        """Return the card with what has failed on it since this process watches."""
        xid = self._failed.get((card.uuid, None, None))
        if xid is not None:
            return replace(card, problem=card.problem or f"it reported a failure (XID {xid})")
        return replace(card, instances=tuple(self._instance(card.uuid, one) for one in card.instances))

    def _instance(self, card_uuid: str, instance: Instance) -> Instance:
        xid = self._failed.get((card_uuid, instance.gpu_instance, instance.compute_instance))
        return instance if xid is None else replace(instance, problem=f"it reported a failure (XID {xid})")

    def _listen(self) -> None:
        """Note critical XID errors until the driver fails; it is begun again by the next look."""
        try:
            events = self._driver.nvmlEventSetCreate()
            try:
                if self._register(events):
                    while True:
                        self._await_event(events)
            finally:
                self._driver.nvmlEventSetFree(events)
        except pynvml.NVMLError as error:
            _log.warning("failures (XID) of the NVIDIA cards are not reported by the driver now: %s", error)
            time.sleep(self._timeout_s)
        else:
            return  # no card tells of events: asking again is no use
        self._listening = False

    def _register(self, events: object) -> int:
        registered = 0
        for index in range(self._driver.nvmlDeviceGetCount()):
            try:
                handle = self._driver.nvmlDeviceGetHandleByIndex(index)
                self._driver.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
                registered += 1
            except pynvml.NVMLError as error:
                _log.info("NVIDIA card %i does not tell of failures (XID): %s", index, error)
        return registered

    def _await_event(self, events: object) -> None:
        try:
            event = self._driver.nvmlEventSetWait_v2(events, _EVENT_MS)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return
            raise
        if event.eventType != pynvml.nvmlEventTypeXidCriticalError or event.eventData in APPLICATION_XIDS:
            return
        uuid = self._driver.nvmlDeviceGetUUID(event.device)
        whole = _WHOLE_CARD in (event.gpuInstanceId, event.computeInstanceId)
        place = (uuid, None, None) if whole else (uuid, event.gpuInstanceId, event.computeInstanceId)
        self._failed[place] = event.eventData
        _log.error("NVIDIA card %s reported XID %i: not handed out until this process restarts", uuid, event.eventData)


@functools.lru_cache(maxsize=1)
def this_machine() -> Reader:
    """Return the one reader of this process: the driver is asked once for all."""
    return Reader()


def _begin(look: Callable[[], Seen]) -> Future[Seen]:
    """Run a look in a thread that nobody has to wait for, also not the end of this process."""
    future: Future[Seen] = Future()

    def run() -> None:
        try:
            outcome = look()
        except BaseException as error:  # noqa: BLE001  # it is raised to whoever waits
            future.set_exception(error)
        else:
            future.set_result(outcome)

    threading.Thread(target=run, name="armillary-nvml", daemon=True).start()
    return future
