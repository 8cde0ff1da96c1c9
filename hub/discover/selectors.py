"""Whether a DRA device meets a CEL expression of a DeviceClass."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

import cel

from hub.discover.dra import Device

__all__ = ["matches"]


def matches(expression: str, device: Device) -> bool:
    """Return whether the device meets the expression; one that cannot be evaluated for it is not met.

    Notes
    -----
    The scheduler would fail the whole claim there, which for the question "is it in this class" is the same.
    """
    attributes: dict[str, dict[str, Any]] = defaultdict(dict)
    capacity: dict[str, dict[str, Any]] = defaultdict(dict)
    for values, domains in ((device.attributes, attributes), (device.capacity, capacity)):
        for name, value in values.items():
            domain, _, attribute = name.rpartition("/")
            domains[domain][attribute] = value
    given = {"device": {"driver": device.driver, "attributes": dict(attributes), "capacity": dict(capacity)}}
    try:
        return _compiled(expression).execute(given) is True
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError):
        return False


@lru_cache(maxsize=256)
def _compiled(expression: str) -> Any:
    return cel.compile(expression)
