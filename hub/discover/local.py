"""From this machine's NVIDIA cards to findings. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hub.discover.finding import Finding, named, plain
from hub.discover.naming import key_of
from hub.discover.vendors import family_of, model_of, slice_share
from profiles.quantities import format_memory, say_memory
from spawner.devices.nvml import Card, Seen

__all__ = ["findings_of_cards"]


def findings_of_cards(seen: Seen) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return whole cards and MIG devices by product, and remarks about what cannot be offered."""
    kinds: dict[tuple[str, str], list[tuple[str, int, str]]] = defaultdict(list)
    remarks = [plain(text, 300) for text in seen.unreadable]
    for card in seen.cards:
        for profile, uuid, memory, problem in _devices(card):
            kinds[card.product, profile].append((uuid, memory, problem))
        if card.mig and not card.instances:
            remarks.append(f"{plain(card.product)} {plain(card.uuid)}: MIG is on, but it has no instances")
    return tuple(_finding(product, profile, kinds[product, profile]) for product, profile in sorted(kinds)), tuple(
        remarks
    )


def _devices(card: Card) -> Iterable[tuple[str, str, int, str]]:
    if not card.mig:
        yield "", card.uuid, card.memory, card.problem
    for instance in card.instances:
        yield instance.profile, instance.uuid, instance.memory, card.problem or instance.problem


def _finding(product: str, profile: str, devices: list[tuple[str, int, str]]) -> Finding:
    family, model = family_of(product) or product, model_of(product) or product
    sizes = [memory for _, memory, _ in devices if memory]
    share = slice_share("-".join(product.split()), profile)
    where = named((uuid for uuid, _, _ in devices), "device")
    entry: dict[str, Any] = {
        "description": plain(f"{product}{f', MIG {profile}' if profile else ''}"),
        "family": family,
    }
    evidence: dict[tuple[str, ...], str] = {}
    if sizes:
        entry["description"] += f", {say_memory(min(sizes))}"
        entry["memory"] = format_memory(min(sizes))
        evidence["memory",] = "as NVML says"
    entry["share"] = 1 if share is None or share == 1 else f"{share.numerator}/{share.denominator}"
    evidence["share",] = f"MIG {plain(profile)}, compute slices of the card's" if profile else "a whole card"
    if share is None:
        evidence["share",] = f"not known for {plain(profile)}: put the right one"
    entry["per_node"] = min(len(devices), 1024)
    evidence["per_node",] = "as many as this machine has"
    entry["local"] = {"product": product, **({"mig": profile} if profile else {})}
    evidence["local", "product"] = where
    part = f" {profile}" if profile else ""
    titled = " slice" if profile else ""
    names = tuple((key_of(f"{card}{part}"), plain(f"{card}{titled}{part}")) for card in dict.fromkeys((family, model)))
    broken = [f"{plain(uuid)}: {plain(problem, 200)}" for uuid, _, problem in devices if problem]
    return Finding(names, entry, evidence, tuple(f"not handed out now: {text}" for text in broken))
