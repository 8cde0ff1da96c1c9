"""As `tests/faults/test_admission_steps.py`, on Kubernetes: hub and service are killed at every step of the way.

All steps with a card on a simulated node; those that touch a pod with a card on the real kubelet too. By default
those that touch a pod are tested on both, and the queue on the first. The whole table, each step before and after:

    ARMILLARY_ALL_STEPS=1 python -m pytest tests/cluster/test_admission_steps.py
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.cluster.card_site import CARDS, site
from tests.faults.admission_steps import ALL_STEPS, Place, World, kill_at, one_of_each_part, whole_table
from tests.faults.killing import KillOrder
from tests.lab.cluster import Cluster

pytestmark = [pytest.mark.timeout(600)]

POD_ROWS = {
    "spawn": (
        ("hub", "spawner.pod_maker:PodMaker.make"),
        ("hub", "spawner.readiness:wait_until_answering"),
    ),
    "stop": (
        ("hub", "spawner.kube:ArmillarySpawner.stop"),
        ("hub", "hub.admission.desk:SqlDesk.release"),
    ),
}
"""What touches a pod."""

OTHER_ROWS = {
    "request": (
        ("service", "hub.admission.doors:request"),
        ("service", "hub.admission.reservations:insert"),
        ("service", "hub.admission.hub_api:HubServers.start"),
    ),
    "spawn": (
        ("hub", "hub.admission.reservations:begin"),
        ("hub", "hub.admission.desk:SqlDesk.reserve"),
    ),
    "runs": (
        ("service", "hub.admission.outcome:settle"),
        ("service", "hub.controller.publish:publish"),
        ("service", "hub.usage.ledger:beat"),
    ),
    "stop": (
        ("hub", "hub.admission.changes:ended"),
        ("hub", "hub.usage.ledger:close"),
    ),
}
QUEUE_ROWS = {
    "queue": (
        ("service", "hub.admission.tickets:insert"),
        ("service", "hub.admission.promote:promote_next"),
        ("service", "hub.admission.tickets:promote"),
    ),
}
ALL_ROWS = {
    part: tuple(row for rows in (OTHER_ROWS, POD_ROWS, QUEUE_ROWS) for row in rows.get(part, ()))
    for part in ("request", "spawn", "runs", "stop", "queue")
}
STEPS = frozenset(step for rows in ALL_ROWS.values() for _, step in rows)
WHOLE = os.environ.get(ALL_STEPS, "") == "1"
ROWS = (
    whole_table(ALL_ROWS, ("simulated",)) + whole_table(POD_ROWS, ("real",))
    if WHOLE
    else one_of_each_part({**POD_ROWS, **QUEUE_ROWS}, ("simulated",)) + one_of_each_part(POD_ROWS, ("real",))
)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


@pytest.fixture(scope="module")
def world(cluster: Cluster, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    order = KillOrder(tmp_path_factory.mktemp("order"), STEPS)
    with contextlib.ExitStack() as stack:
        cards = stack.enter_context(CARDS[place.kind](cluster))
        environ = {**cards, **order.environ}
        yield stack.enter_context(site(cluster, place.kind, tmp_path_factory.mktemp("hub"), order, environ))


# Without its scope said, pytest takes the narrowest, and makes a site for each row.
@pytest.mark.parametrize(("place", "when", "who", "step"), ROWS, indirect=["place"], scope="module")
def test_whoever_is_killed_no_card_is_held_by_nobody_and_no_second_is_charged_twice(
    world: World, place: Place, when: str, who: str, step: str
) -> None:
    kill_at(world, place, when, who, step)
