"""A node that is lost with a session on it, and comes back while somebody waits for its card."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.card_site import CARDS, NODE, Beside, offer_simulated, site
from tests.faults.admission_steps import check_books
from tests.faults.killing import KillOrder
from tests.hub.site import wait_for
from tests.lab.cluster import Cluster

pytestmark = [pytest.mark.timeout(600)]

_NOTICED_S = 240
"""Kubernetes removes the pods of a node that is gone after 40 to 80 s; the hub asks every 30."""


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path) -> Iterator[Beside]:
    folders = [tmp_path / name for name in ("order", "hub")]
    for folder in folders:
        folder.mkdir()
    nobody = KillOrder(folders[0], frozenset())
    with CARDS["simulated"](cluster) as environ, site(cluster, "simulated", folders[1], nobody, environ) as made:
        yield made


def test_its_session_ends_and_who_waits_has_the_card_when_it_is_back(world: Beside, cluster: Cluster) -> None:
    began = time.time()
    assert world.ask() == "starting"
    wait_for(world.ready, "the server to be ready", 120)
    assert world.ask(world.other) == "queued"
    cluster.remove_node(NODE)
    wait_for(lambda: not world.server(world.name), "the hub to notice", _NOTICED_S, 0.5)
    assert "node-lost: Your server was ended because its node is gone." in world.hub.tail(400)
    assert not world.server(world.other), "there is no card"
    offer_simulated(cluster)
    wait_for(lambda: world.ready(world.other), "who waits to start by itself", 120)
    world.check_no_card_twice()
    world.stop(world.other)
    wait_for(world.settled, "nothing to be held by nobody", 120)
    check_books(world, began, time.time())
