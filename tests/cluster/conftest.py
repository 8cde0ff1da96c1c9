"""The cluster that all tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import kubernetes


@pytest.fixture(scope="session")
def cluster() -> Iterator[kubernetes.Cluster]:
    """A running Kubernetes.

    It is ended after the last test, and nothing of it may be left then, unless it ran before the first one or
    ARMILLARY_LAB_KEEP=1 asks to keep it.
    """
    keep = kubernetes.is_up() or os.environ.get("ARMILLARY_LAB_KEEP") == "1"
    yield kubernetes.up()
    if not keep:
        kubernetes.down()
        assert kubernetes.leftovers() == []
