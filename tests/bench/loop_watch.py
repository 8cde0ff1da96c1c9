"""Who holds a hub's event loop, and for how long: found out by looking at the stack while a callback runs.

Loaded by the configuration of a hub that is measured. Each callback is timed; a thread looks at the loop's stack
every two milliseconds while one runs for longer than that, so a long one is known by the functions that it was seen in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["install", "read"]

_LOOK_S = 0.002
_SWITCH_S = 0.0005
# How long a look waits for the interpreter. With Python's default, 5 ms, it comes as a rule when the loop gives it away
# by itself, for a socket or the database: of what computes in between, such as reading JSON, a quarter is seen.
_TICK_S = 0.01
_WRITE_S = 1.0
_REFLECTORS = ("/kubespawner/reflector.py", "/spawner/reflector.py", "/spawner/pod_watch.py")
_EVENTS = ("/spawner/pod_progress.py", "/spawner/progress.py")
_EVENT_FUNCTIONS = ("progress", "events", "_make_progress", "_progress")
_OURS = tuple(str(Path(__file__).resolve().parents[2] / package) + "/" for package in ("profiles", "spawner", "hub"))


class _Watch:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.began = time.perf_counter()
        self.running_since: float | None = None
        self.serial = 0
        self.callbacks = 0
        self.looks: dict[int, Counter[str]] = {}
        self.long: list[dict[str, Any]] = []
        self.lags: list[float] = []
        self.written = (0, 0)
        self.shares: Counter[str] = Counter()
        """How often the loop was seen at what; see `_kind`."""
        self.looked = 0

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
            self.looked += 1
            frame = sys._current_frames().get(thread)
            self.shares["idle" if since is None else _kind(frame)] += 1
            if since is None or time.perf_counter() - since < _LOOK_S:
                continue
            if frame is not None and self.serial == serial:
                # Whole before the loop's thread can take it: an empty one there would end the hub.
                self.looks[serial] = self.looks.get(serial, Counter()) + Counter([_where(frame)])

    def write(self) -> None:
        """Add what is new: the whole of it would soon keep the interpreter, and so the loop, for longer than all else."""
        before, long, lags = self.written, list(self.long), list(self.lags)
        self.written = (len(long), len(lags))
        new = {"long": long[before[0] :], "lags_ms": [round(lag * 1000, 2) for lag in lags[before[1] :]]}
        with _lines(self.file).open("a") as lines:
            lines.write(json.dumps(new) + "\n")
        seconds = time.perf_counter() - self.began
        shares = {kind: seconds * number / max(1, self.looked) for kind, number in list(self.shares.items())}
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps({"callbacks": self.callbacks, "shares_s": shares}))
        draft.replace(self.file)


def _lines(file: Path) -> Path:
    return file.with_suffix(".lines")


def read(file: Path) -> dict[str, Any]:
    """Return the record: `callbacks`, `long`, `lags_ms` and `shares_s`."""
    found: dict[str, Any] = {**json.loads(file.read_text()), "long": [], "lags_ms": []}
    for line in _lines(file).read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # being written
            for name, new in json.loads(line).items():
                found[name] += new
    return found


def _where(frame: FrameType | None) -> str:
    """The innermost function of ours on the stack; empty where there is none."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OURS):
            return f"{Path(file).parent.name}/{Path(file).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _kind(frame: FrameType | None) -> str:
    """What the loop is at, by the innermost frame that tells: following pods, telling of events, something else."""
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.endswith(_REFLECTORS):
            return "reflectors"
        if file.endswith(_EVENTS) or ("/kubespawner/" in file and name in _EVENT_FUNCTIONS):
            return "events"
        if "/jupyterhub/" in file:
            return "jupyterhub"
        if file.startswith(_OURS):
            return "armillary"
        frame = frame.f_back
    return "other"


def install(file: Path) -> None:
    """Watch the loop of this thread from its first callback on; the record is written to `file` each second; see `read`."""
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
    _lines(file).unlink(missing_ok=True)  # of a hub before this one
    watch = _Watch(file)
    asyncio.events.Handle._run = watch.timed(asyncio.events.Handle._run)  # type: ignore[method-assign]
    thread = threading.get_ident()
    threading.Thread(target=watch.look, args=(thread,), daemon=True, name="loop-watch").start()
    from tornado.ioloop import IOLoop

    started: list[asyncio.Task[None]] = []
    IOLoop.current().add_callback(lambda: started.append(asyncio.ensure_future(watch.tick())))
