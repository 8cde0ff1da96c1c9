"""The cluster that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.cluster.hub import KubeHub
from tests.lab import kubernetes
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Kubernetes, shared with any other test run on this machine.

    The last run to use it ends it, and nothing of it may be left then, unless it was up before the first one or
    ARMILLARY_LAB_KEEP=1 asks to keep it.
    """
    with kubernetes.in_use() as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failure what its hubs said and what there was in the cluster."""
    report = yield
    if report.failed:
        for name, hub in item.funcargs.items():
            if isinstance(hub, KubeHub):
                report.sections += [(f"{name}'s log", hub.tail()), (f"{name}'s namespace", _state(hub))]
    return report


def _state(hub: KubeHub) -> str:
    try:
        found = ("pods,pvc", "-o", "wide"), ("events", "--sort-by=.lastTimestamp")
        return "\n".join(hub.cluster.kubectl("get", *words, "-n", hub.namespace)[-4000:] for words in found)
    except LabError as error:
        return str(error)
