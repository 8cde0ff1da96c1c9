"""Who holds a hub's event loop, and for how long: found out by looking at the stack while a callback runs.

Loaded by the configuration of a hub that is measured. Each callback is timed; a thread looks at the loop's stack
every two milliseconds while one runs for longer than that, so a long one is known by the functions that it was seen in.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["install"]

_LOOK_S = 0.002
_TICK_S = 0.01
_WRITE_S = 1.0
_OURS = tuple(str(Path(__file__).resolve().parents[2] / package) + "/" for package in ("profiles", "spawner", "hub"))


class _Watch:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.running_since: float | None = None
        self.serial = 0
        self.callbacks = 0
        self.looks: dict[int, Counter[str]] = {}
        self.long: list[dict[str, Any]] = []
        self.lags: list[float] = []

    # --- in the loop's thread --------------------------------------------------------------------------------

    def timed(self, run: Any) -> Any:
        def _run(handle: Any) -> None:
            self.serial += 1
            serial, began, cpu = self.serial, time.perf_counter(), time.thread_time()
            self.running_since = began
            try:
                run(handle)
            finally:
                self.running_since = None
                self.callbacks += 1
                if serial in self.looks:
                    self._note(time.perf_counter() - began, time.thread_time() - cpu, self.looks.pop(serial))

        return _run

    def _note(self, seconds: float, cpu_s: float, seen: Counter[str]) -> None:
        ours = sum(number for where, number in seen.items() if where)
        self.long.append(
            {
                "ms": round(seconds * 1000, 2),
                "ours_ms": round(seconds * 1000 * ours / seen.total(), 2),
                # What the thread has computed of that: the rest is a machine that did something else meanwhile.
                "ours_cpu_ms": round(cpu_s * 1000 * ours / seen.total(), 2),
                "where": max(seen, key=lambda where: seen[where]),
            }
        )

    async def tick(self) -> None:
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            due = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.lags.append(max(0.0, loop.time() - due))
            if loop.time() - written > _WRITE_S:
                written = loop.time()
                threading.Thread(target=self.write, daemon=True).start()

    # --- in the other thread ---------------------------------------------------------------------------------

    def look(self, thread: int) -> None:
        while True:
            time.sleep(_LOOK_S)
            since, serial = self.running_since, self.serial
            if since is None or time.perf_counter() - since < _LOOK_S:
                continue
            frame = sys._current_frames().get(thread)
            if frame is not None and self.serial == serial:
                # Whole before the loop's thread can take it: an empty one there would end the hub.
                self.looks[serial] = self.looks.get(serial, Counter()) + Counter([_where(frame)])

    def write(self) -> None:
        draft = self.file.with_suffix(".draft")
        lags = [round(lag * 1000, 2) for lag in list(self.lags)]
        draft.write_text(json.dumps({"callbacks": self.callbacks, "long": list(self.long), "lags_ms": lags}))
        draft.replace(self.file)


def _where(frame: FrameType | None) -> str:
    """The innermost function of ours on the stack; empty where there is none."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OURS):
            return f"{Path(file).parent.name}/{Path(file).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def install(file: Path) -> None:
    """Watch the loop of this thread from its first callback on; the record is written to `file` each second."""
    watch = _Watch(file)
    asyncio.events.Handle._run = watch.timed(asyncio.events.Handle._run)  # type: ignore[method-assign]
    thread = threading.get_ident()
    threading.Thread(target=watch.look, args=(thread,), daemon=True, name="loop-watch").start()
    from tornado.ioloop import IOLoop

    started: list[asyncio.Task[None]] = []
    IOLoop.current().add_callback(lambda: started.append(asyncio.ensure_future(watch.tick())))
