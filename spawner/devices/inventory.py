"""Which devices of this machine are which accelerators of the catalogue. Pure.

Only what the catalogue names is handed out: a card of another product, or a partition of another profile, is left
alone, and `unmatched` says so for logs and for whoever describes the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from profiles.model import Catalogue
from spawner.capacity.model import DeviceState
from spawner.devices.nvml import Card, Instance, Seen

__all__ = ["busy", "inventory", "looks_at_cards", "simulated_uuid", "unmatched"]

SIMULATED = "SIMULATED-"


def simulated_uuid(accelerator: str, number: int) -> str:
    """Return the name of an imagined device; `number` counts from 0."""
    return f"{SIMULATED}{accelerator}-{number}"


def looks_at_cards(catalogue: Catalogue) -> bool:
    """Return whether the catalogue names real devices of this machine, so that the driver has to be asked."""
    return any(accelerator.local is not None for accelerator in catalogue.accelerators.values())


def inventory(catalogue: Catalogue, seen: Seen | None) -> tuple[DeviceState, ...]:
    """Return all devices that the catalogue names, real ones first.

    Parameters
    ----------
    seen
        What the driver says; None: there is none, or it does not answer. Imagined devices need none.
    """
    wanted = _wanted(catalogue)
    found = []
    for card, instance in _parts(seen.cards if seen is not None else ()):
        key = wanted.get((card.product, instance.profile if instance is not None else None))
        if key is not None:
            found.append(_state(catalogue, key, card, instance))
    for key, accelerator in catalogue.accelerators.items():
        count = accelerator.simulated.count if accelerator.simulated is not None else 0
        found += [DeviceState(simulated_uuid(key, number), key, simulated=True) for number in range(count)]
    return tuple(found)


def unmatched(catalogue: Catalogue, seen: Seen) -> tuple[str, ...]:
    """Return sentences about devices that no accelerator of the catalogue is, with what would be written there."""
    wanted = _wanted(catalogue)
    lines = []
    for card, instance in _parts(seen.cards):
        profile = instance.profile if instance is not None else None
        if (card.product, profile) in wanted:
            continue
        uuid = instance.uuid if instance is not None else card.uuid
        asked = f"local: {{product: {card.product}" + (f", mig: {profile}}}" if profile else "}")
        lines.append(f"{uuid} is not handed out: no accelerator of the catalogue has `{asked}`")
    lines += [
        f"{card.uuid} ({card.product}) is in MIG mode but has no instances: nothing of it can be handed out"
        for card in seen.cards
        if card.mig and not card.instances and not card.problem
    ]
    return (*lines, *seen.unreadable)


def busy(seen: Seen) -> frozenset[str]:
    """Return the uuids of devices on which some process computes."""
    parts = _parts(seen.cards)
    return frozenset(
        instance.uuid if instance is not None else card.uuid
        for card, instance in parts
        if (instance.processes if instance is not None else card.processes)
    )


def _parts(cards: Iterable[Card]) -> Iterator[tuple[Card, Instance | None]]:
    """Yield what can be handed out: cards that are not partitioned, and the instances of those that are."""
    for card in cards:
        if card.mig:
            yield from ((card, instance) for instance in card.instances)
        else:
            yield card, None


def _wanted(catalogue: Catalogue) -> dict[tuple[str, str | None], str]:
    """Return which accelerator a product is; where two have the same one, which is refused at load, the first."""
    wanted: dict[tuple[str, str | None], str] = {}
    for key, accelerator in catalogue.accelerators.items():
        for product in accelerator.local.product if accelerator.local is not None else ():
            wanted.setdefault((product, accelerator.local.mig if accelerator.local is not None else None), key)
    return wanted


def _state(catalogue: Catalogue, key: str, card: Card, instance: Instance | None) -> DeviceState:
    local = catalogue.accelerators[key].local
    replicas = local.replicas if local is not None else 1
    if instance is None:
        return DeviceState(card.uuid, key, replicas, card.problem)
    return DeviceState(instance.uuid, key, replicas, card.problem or instance.problem)
