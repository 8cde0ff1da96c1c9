"""The cluster that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import kubernetes
from tests.lab.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Kubernetes, shared with any other test run on this machine.

    The last run to use it ends it, and nothing of it may be left then, unless it was up before the first one or
    ARMILLARY_LAB_KEEP=1 asks to keep it.
    """
    with kubernetes.in_use() as running:
        yield running
