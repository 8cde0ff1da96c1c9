"""How long a start may take. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiles.model import Catalogue, Profile
from spawner.overrides import overrides
from spawner.request import Request

__all__ = ["longest_start_s", "start_limit_s"]


def longest_start_s(catalogue: Catalogue, default_s: int) -> int:
    """Return the longest time that any profile or choice gives to a start.

    JupyterHub reads `start_timeout` before it is known what is to be started (user.py, spawn), so it must be told
    the longest; each start then keeps to its own.
    """
    times = [default_s]
    for profile in catalogue.profiles.values():
        if profile.start_timeout_s is not None:
            times.append(profile.start_timeout_s)
        times += [int(override["start_timeout"]) for override in _overrides(profile) if "start_timeout" in override]
    return max(times)


def start_limit_s(request: Request, catalogue: Catalogue, default_s: int) -> int:
    """Return how long the start of this request may take: its profile's word, else an override's."""
    own = catalogue.profiles[request.profile].start_timeout_s
    return own or int(overrides(request, catalogue).get("start_timeout", default_s))


def _overrides(profile: Profile) -> Iterator[Mapping[str, Any]]:
    yield profile.kubespawner_override
    for option in profile.options.choices.values():
        for choice in option.choices.values():
            yield choice.kubespawner_override
