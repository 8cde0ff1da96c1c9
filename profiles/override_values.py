"""Values of the settings in a `kubespawner_override` that both engines read, checked when the catalogue is loaded.

Without this a slip such as `start_timeout: ten` would be found when somebody starts a server, as an error of the hub.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from profiles.quantities import QuantityError, parse_quantity
from profiles.syntax import shown

__all__ = ["wrong_values"]

_BYTES = re.compile(r"[0-9]+(\.[0-9]+)?[KMGT]?")
"""JupyterHub's notation of memory, where 2G is 2 GiB."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _quantity(value: object) -> bool:
    try:
        return isinstance(value, str) and parse_quantity(value) >= 0
    except QuantityError:
        return False


def _cores(value: object) -> bool:
    return value is None or _number(value) or _quantity(value)


def _memory(value: object) -> bool:
    return _cores(value) or (isinstance(value, str) and _BYTES.fullmatch(value) is not None)


def _seconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 86_400


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


_CORES = _cores, "a number of CPU cores such as 0.5 or 2"
_MEMORY = _memory, "an amount of memory such as 512M or 2G"
_SECONDS = _seconds, "a whole number of seconds from 1 to 86400"
_SWITCH = lambda value: isinstance(value, bool), "true or false"

_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "args": (_texts, "a list of texts"),
    "cpu_guarantee": _CORES,
    "cpu_limit": _CORES,
    "debug": _SWITCH,
    "default_url": (lambda value: isinstance(value, str), "text"),
    "disable_user_config": _SWITCH,
    "environment": (lambda value: isinstance(value, Mapping), "a mapping"),
    "http_timeout": _SECONDS,
    "mem_guarantee": _MEMORY,
    "mem_limit": _MEMORY,
    "start_timeout": _SECONDS,
}


def wrong_values(override: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Values that no engine can use, each as path and reason; one with `{value}` in it is not known yet."""
    for name, value in override.items():
        fits, wanted = _RULES.get(name, (None, ""))
        filled_in_later = isinstance(value, str) and "{value}" in value
        if fits is not None and not filled_in_later and not fits(value):
            yield (name,), f"must be {wanted}, not {shown(value)}"
