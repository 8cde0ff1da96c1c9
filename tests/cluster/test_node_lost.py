"""A node that is lost with a session on it, and comes back."""

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

_NOTICED_S = 180
"""Kubernetes removes pods of a node that is gone after 40 to 80 s."""


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path) -> Iterator[Beside]:
    for name in ("order", "hub"):
        (tmp_path / name).mkdir()
    nobody = KillOrder(tmp_path / "order", frozenset())
    with CARDS["simulated"](cluster) as environ, site(cluster, "simulated", tmp_path / "hub", nobody, environ) as made:
        yield made


def test_a_session_whose_node_is_lost_ends_and_its_card_goes_to_who_waits_once_it_is_back(
    world: Beside, cluster: Cluster
) -> None:
    began = time.time()
    assert world.ask() == "starting"
    wait_for(world.ready, "the server to be ready", 120)
    assert world.ask(world.other) == "queued"
    cluster.remove_node(NODE)
    wait_for(lambda: not world.server(world.name), "the hub to notice", _NOTICED_S, 0.5)
    assert "person1 has ended: " in world.hub.tail(400)
    assert not world.server(world.other), "there is no card"
    assert world.ask() == "queued", "nobody is told to have what is not there"
    world.leave(world.name)
    offer_simulated(cluster)
    wait_for(lambda: world.ready(world.other), "who waits to start by itself", 120)
    world.check_no_card_twice()
    world.stop(world.other)
    wait_for(world.settled, "nothing to be held by nobody", 120)
    check_books(world, began, time.time())
