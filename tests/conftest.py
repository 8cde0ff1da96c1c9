"""Tiers by folder: a test in tests/cluster is of the tier `cluster`; all others are `unit` unless they say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

_TIERS = ("unit", "hub", "faults", "cluster", "browser", "bench")
_BY_FOLDER = {"faults": "faults", "cluster": "cluster", "browser": "browser", "bench": "bench"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test exactly one tier."""
    here = Path(__file__).parent
    for item in items:
        if any(item.get_closest_marker(tier) for tier in _TIERS):
            continue
        folder = item.path.relative_to(here).parts[0]
        item.add_marker(_BY_FOLDER.get(folder, "unit"))
