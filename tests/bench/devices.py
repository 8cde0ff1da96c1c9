"""A check of this machine's own cards, from the inventory to the inside of a session: `python -m tests.bench.devices`.

Every card and MIG instance is handed out once, by the real controller and desk over a database of its own, to a
session that runs as the local engine would run it; then one session without any. In each, CUDA must see exactly what
was handed out, and where this machine closes devices, no other node may open, whatever the session sets in its
environment. Prints what was found and how long each step took; the exit status is 0 where all of that holds, 1 where
it does not, 2 where there is nothing to check.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.admission.desk import SqlDesk
from hub.controller.lease import Lease
from hub.controller.local import run
from hub.controller.loop import Publisher
from hub.controller.status import Status
from hub.db.engine import connect
from hub.db.upgrade import upgrade
from hub.settings import Settings
from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.devices.environment import device_environment
from spawner.devices.hand_out import hand_out
from spawner.devices.nvml import NvmlAway, Seen
from spawner.devices.reader import this_machine
from spawner.processes.machine import Machine, detect
from spawner.processes.session import start
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.spawner.local_sessions import Ground

PROBE = Path(__file__).with_name("device_probe.py").read_text(encoding="utf-8")
UID = 330_000


@dataclass(frozen=True)
class Part:
    """Something that can be handed out: a card or an instance; `node` is its card's."""

    uuid: str
    product: str
    mig: str | None
    node: str


def parts_of(seen: Seen) -> list[Part]:
    """Return all that is well; the rest is told when it is listed."""
    found = []
    for card in seen.cards:
        node = f"nvidia{card.minor}"
        if card.mig:
            found += [Part(one.uuid, card.product, one.profile, node) for one in card.instances if not card.problem]
        elif not card.problem:
            found.append(Part(card.uuid, card.product, None, node))
    return found


def catalogue_of(parts: Sequence[Part]) -> Catalogue:
    """Return a catalogue of this machine: an accelerator for each kind of part."""
    kinds = sorted({(part.product, part.mig or "") for part in parts})
    accelerators = {
        key_of(product, mig): {
            "title": f"{product} {mig}",
            "local": {"product": product, **({"mig": mig} if mig else {})},
        }
        for product, mig in kinds
    }
    return Catalogue.model_validate({"accelerators": accelerators, "profiles": {"any": {"title": "Any"}}})


def key_of(product: str, mig: str | None) -> str:
    """Return the key of a kind in that catalogue."""
    return "".join(letter if letter.isalnum() else "-" for letter in f"{product} {mig or ''}".lower()).strip("-")


def faults(part: Part | None, seen: dict[str, Any], *, enforced: bool) -> list[str]:
    """Return what is wrong with what a session saw that was given this part (None: none)."""
    wanted = [part.uuid.partition("-")[2]] if part is not None else []
    wrong = []
    if seen["cuda"]["uuids"] != wanted or seen["cuda"]["error"]:
        wrong.append(f"CUDA sees {seen['cuda']}, not {wanted}")
    if not enforced:
        return wrong
    opened = [name for name, is_open in seen["nodes"].items() if is_open]
    if opened != ([part.node] if part is not None else []):
        wrong.append(f"it can open {opened}")
    if any(found not in wanted for found in seen["bare"]["uuids"]):
        wrong.append(f"without its variables CUDA sees {seen['bare']['uuids']}")
    return wrong


@dataclass
class Check:
    """One installation for the check, and what it has found so far."""

    ground: Ground
    desk: SqlDesk
    machine: Machine
    wrong: int = 0

    async def reserve(self, key: str | None) -> Reservation | None:
        """Hold a device of this kind, as a start does; None: there is none to be had, which is said."""
        wanted = Reservation(uuid.uuid4().hex, "ann", "", "any", key, 1 if key else 0)
        began = time.perf_counter()
        try:
            held = await self.desk.reserve(wanted, expires_in_s=600)
        except Refusal as refusal:
            print(f"not checked: {key}: {refusal.text}")
            return None
        print(f"reserved {', '.join(held.devices) or 'nothing'} in {_ms(began)}")
        return held

    async def look(self, held: Reservation, part: Part | None) -> None:
        """Run a session that has what is held, and judge what it saw."""
        began = time.perf_counter()
        given = await asyncio.to_thread(hand_out, held.devices, this_machine())
        handed_out = _ms(began)
        order = self.ground.order(
            (sys.executable, "-P", "-c", PROBE),
            uid=UID if self.machine.isolation.kind == "uid" else None,
            environment=device_environment(held.accelerator, held.devices),
            given=given,
            spawn_id=held.id,
        )
        began = time.perf_counter()
        session = await start(order)
        try:
            await session.gone
        finally:
            await session.end(grace_s=0)
        took = _ms(began)
        said = session.log.read_text().splitlines() or ["nothing"]
        try:
            wrong = faults(part, json.loads(said[-1]), enforced=self.enforced)
        except ValueError:
            wrong = [f"the session said: {' / '.join(said[-3:])}"]
        self.wrong += bool(wrong)
        what = part.uuid if part is not None else "no accelerator"
        figures = f"handed out in {handed_out}, session with both looks at CUDA {took}"
        print(f"{'WRONG' if wrong else 'ok'}: {what}: {'; '.join(wrong) or figures}")

    async def release(self, ids: Sequence[str]) -> None:
        """Give everything back and wait until the published counts say so."""
        began = time.perf_counter()
        for spawn_id in ids:
            await self.desk.release(spawn_id)
        while self._used(await self.desk.availability()):
            await asyncio.sleep(0.05)
        print(f"given back and counted as free after {_ms(began)}")

    @staticmethod
    def _used(known: Availability) -> bool:
        return known.snapshot is not None and any(one.used_by_us for one in known.snapshot.accelerators.values())

    @property
    def enforced(self) -> bool:
        """Whether this machine closes devices to sessions."""
        return not self.machine.device_notices()


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1e3:.0f} ms"


async def check(seen: Seen, folder: Path) -> int:
    """Hand every part out once and return how many sessions saw something wrong."""
    parts = parts_of(seen)
    offered = catalogue_of(parts)
    settings = Settings.model_validate({"engine": "local", "state_dir": folder})
    engine = connect(f"sqlite:///{settings.paths.database}")
    upgrade(engine)
    epoch = Lease(engine, "check", 60).try_acquire()
    stop = asyncio.Event()
    controller = asyncio.create_task(run(settings, offered, Publisher(engine, epoch or 0, Status(60)), stop))
    desk = SqlDesk(engine, engine_kind="local", catalogue=offered, stale_after_s=15)
    machine = detect()
    checking = Check(Ground(folder, machine.isolation, machine.cgroups), desk, machine)
    print(f"Devices are {'closed to sessions that were not given them' if checking.enforced else 'advisory here'}.")
    try:
        while (await desk.availability()).snapshot is None:
            await asyncio.sleep(0.1)
        held = [one for part in parts if (one := await checking.reserve(key_of(part.product, part.mig))) is not None]
        for one in held:
            await checking.look(one, next(part for part in parts if part.uuid == one.devices[0]))
        if (nothing := await checking.reserve(None)) is not None:
            await checking.look(nothing, None)
        await checking.release([one.id for one in held])
    finally:
        stop.set()
        await controller
        engine.dispose()
    return checking.wrong


def main() -> int:
    """List the cards, then check them."""
    began = time.perf_counter()
    try:
        seen = this_machine().look()
    except NvmlAway as error:
        print(error)
        return 2
    first = _ms(began)
    began = time.perf_counter()
    this_machine().look()
    print(f"NVML: {len(seen.cards)} cards in {first}, again in {_ms(began)}")
    for card in seen.cards:
        print(f"  {card.uuid} {card.product}, /dev/nvidia{card.minor}, {card.memory >> 20} MiB{_said(card.problem)}")
        for one in card.instances:
            print(f"    {one.uuid} MIG {one.profile}, {one.memory >> 20} MiB{_said(one.problem)}")
    if not seen.cards:
        return 2
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o711)
        return 1 if asyncio.run(check(seen, Path(folder))) else 0


def _said(problem: str) -> str:
    return f", NOT HANDED OUT: {problem}" if problem else ""


if __name__ == "__main__":
    sys.exit(main())
