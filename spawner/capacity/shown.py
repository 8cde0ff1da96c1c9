"""What a person is shown of the counts: the JSON of the service's API and of the form, the same in both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from profiles.model import NO_ACCELERATOR
from spawner.capacity.availability import Availability
from spawner.capacity.grant import room
from spawner.capacity.model import Fit

__all__ = ["shown", "utc_text"]


def shown(availability: Availability, user: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the counts as values that JSON has.

    Parameters
    ----------
    availability
        What is known now.
    user
        Who looks: `mine` are theirs, `others` everybody else's.
    titles
        The accelerators to show by key of the catalogue, `none` for sessions without one; with their titles.

    Returns
    -------
    dict
        `free` of an accelerator is None wherever it is not known, never a number then.
    """
    return {
        "engine": availability.snapshot.engine if availability.snapshot else None,
        "fresh": availability.fresh,
        "as_of": utc_text(availability.as_of) if availability.as_of else None,
        "accelerators": {key: _one(availability, user, key, title) for key, title in titles.items()},
    }


def _one(availability: Availability, user: str, key: str, title: str) -> dict[str, Any]:
    free = availability.free(key, user)
    count = availability.count(key)
    return {
        "title": title,
        **asdict(free),
        "held_because": [list(pair) for pair in count.held_because] if count else [],
        "fits_now": _fits(room(availability, None if key == NO_ACCELERATOR else key)),
        "fits_empty": _fits(count.fits_empty if count else ()),
    }


def _fits(fits: Iterable[Fit]) -> list[dict[str, int]]:
    return [asdict(fit) for fit in fits]


def utc_text(when: datetime) -> str:
    """Return a time as JSON and HTML have it: `2026-11-21T15:00:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
