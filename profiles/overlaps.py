"""Accelerators that claim the same devices: what is free of one would be a lie as soon as the other is used."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from profiles.document import Path
from profiles.model import Accelerator, DraDevice, KubernetesDevice, LocalDevice
from profiles.selectors import one_spelling

__all__ = ["overlaps"]


def overlaps(accelerators: Mapping[str, Accelerator]) -> Iterator[tuple[Path, str]]:
    """Where an accelerator claims devices of one before it, on Kubernetes or on one machine.

    Only what can be seen in the catalogue counts: nodes whose labels no node can have both, and slices of another
    size, are different devices. Paths start at the root of the catalogue.
    """
    yield from _by_resource(accelerators)
    yield from _by_class(accelerators)
    yield from _by_product(accelerators)


def _by_resource(accelerators: Mapping[str, Accelerator]) -> Iterator[tuple[Path, str]]:
    before: dict[str, list[tuple[str, KubernetesDevice]]] = defaultdict(list)
    for key, card in accelerators.items():
        device = card.kubernetes
        if device is None or device.resource is None:
            continue
        same = before[device.resource]
        other = next((name for name, earlier in same if not _apart(earlier, device)), None)
        if other is not None:
            yield (
                ("accelerators", key, "kubernetes", "resource"),
                f"claims the same devices as {other!r}: both are {device.resource} on nodes that can be the same; "
                "give each a node label of which the other has no value, or keep one of the two",
            )
        same.append((key, device))


def _by_class(accelerators: Mapping[str, Accelerator]) -> Iterator[tuple[Path, str]]:
    before: dict[str, list[tuple[str, KubernetesDevice, frozenset[str]]]] = defaultdict(list)
    for key, card in accelerators.items():
        device = card.kubernetes
        if device is None or device.dra is None:
            continue
        selectors = _selectors(device.dra)
        same = before[device.dra.device_class]
        within = (name for name, earlier, theirs in same if _one_within_other(device, selectors, earlier, theirs))
        other = next(within, None)
        if other is not None:
            yield (
                ("accelerators", key, "kubernetes", "dra", "device_class"),
                f"claims the same devices as {other!r}: every device of class {device.dra.device_class} that meets the "
                "selectors of one meets those of the other; give each a selector that tells them apart",
            )
        same.append((key, device, selectors))


def _by_product(accelerators: Mapping[str, Accelerator]) -> Iterator[tuple[Path, str]]:
    before: dict[tuple[str, str | None], str] = {}
    for key, card in accelerators.items():
        for claim in _claims(card.local):
            other = before.setdefault(claim, key)
            if other != key:
                product, mig = claim
                what = f"slices {mig} of {product}" if mig else f"whole cards {product}"
                yield (
                    ("accelerators", key, "local", "product"),
                    f"claims the same devices as {other!r}: {what}; keep one of the two",
                )
                break


def _claims(device: LocalDevice | None) -> Iterable[tuple[str, str | None]]:
    return [(product, device.mig) for product in device.product] if device else ()


def _selectors(dra: DraDevice) -> frozenset[str]:
    return frozenset(map(one_spelling, dra.selectors))


def _one_within_other(
    device: KubernetesDevice, selectors: frozenset[str], earlier: KubernetesDevice, others: frozenset[str]
) -> bool:
    return (selectors <= others or others <= selectors) and not _apart(earlier, device)


def _apart(one: KubernetesDevice, other: KubernetesDevice) -> bool:
    """Whether no node can have the labels of both."""
    return any(
        key in other.node_labels and not set(values) & set(other.node_labels[key])
        for key, values in one.node_labels.items()
    )
