"""Kill -9 of hub, service with controller, and database at every step from the request to the ledger's last line.

A whole site on the local engine for each row: real hub, real sessions, real database. Afterwards no card is held by
nobody, none was held twice, no second is charged twice, and at most a heartbeat of each session is lost.
`tests/cluster/test_admission_steps.py` has the same on Kubernetes.

By default the first step of each part is tested. The whole table, each step before and after on both databases:

    ARMILLARY_ALL_STEPS=1 python -m pytest tests/faults/test_admission_steps.py
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.admission_site import GROUPS, STEPS, Here, restarted, site_of
from tests.faults.admission_steps import (
    ALL_STEPS,
    Place,
    World,
    finish,
    kill_at,
    one_of_each_part,
    whole_table,
    whole_way,
)
from tests.faults.killing import KillOrder
from tests.hub.site import wait_for
from tests.lab import postgres

pytestmark = [pytest.mark.hub, pytest.mark.timeout(600)]

KINDS = ("sqlite", "postgresql")
WHOLE = os.environ.get(ALL_STEPS, "") == "1"
ROWS = whole_table(GROUPS, KINDS) if WHOLE else one_of_each_part(GROUPS, KINDS)
DATABASE_STEPS = sorted(STEPS) if WHOLE else ["hub.admission.tickets:promote"]
DATABASE_ROWS = [pytest.param(step, id=step.partition(":")[2]) for step in DATABASE_STEPS]


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


@pytest.fixture(scope="module")
def world(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    order = KillOrder(tmp_path_factory.mktemp("order"), STEPS)
    with contextlib.ExitStack() as stack:
        url = None
        if place.kind == "postgresql":
            url = stack.enter_context(postgres.running()).fresh_database()
        made = Here(stack.enter_context(site_of(order, url)), order, url)
        yield made
        made.database.dispose()


# Without its scope said, pytest takes the narrowest, and makes a site for each row.
@pytest.mark.parametrize(("place", "when", "who", "step"), ROWS, indirect=["place"], scope="module")
def test_whoever_is_killed_nothing_is_held_by_nobody_and_nothing_is_charged_twice(
    world: World, place: Place, when: str, who: str, step: str
) -> None:
    kill_at(world, place, when, who, step)


def test_no_step_is_left_out() -> None:
    some = one_of_each_part(GROUPS, KINDS)
    assert {row.values[0].part for row in some} == set(GROUPS)
    assert {row.values[1] for row in some} == {"before", "after"}
    assert {row.values[0].kind for row in some} == set(KINDS)
    whole = whole_table(GROUPS, KINDS)
    assert {row.values[3] for row in whole} == STEPS
    assert len(whole) == 4 * len(STEPS)


@pytest.mark.parametrize("step", DATABASE_ROWS)
def test_a_database_that_is_killed_at_a_step_loses_nothing_that_was_decided(
    step: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    part, who = next((part, who) for part, rows in GROUPS.items() for who, one in rows if one == step)
    order = KillOrder(tmp_path_factory.mktemp("order"), STEPS)
    with contextlib.ExitStack() as stack:
        # Commits are on the disk here: of what a killed server had only in memory nobody can ask anything.
        # In a folder that the server's account can enter, as pytest's own are not.
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="armillary-steps-")))
        disk.chmod(0o755)
        server = stack.enter_context(postgres.running(durable=disk))
        url = server.fresh_database()
        world = Here(stack.enter_context(site_of(order, url)), order, url, server)
        stack.callback(world.database.dispose)
        order.give("after", step, who, server.pid)
        restarting = stack.enter_context(_restarts(world))
        began = whole_way(world, part)
        wait_for(lambda: order.taken, f"the database to die after {step}", 90)
        wait_for(lambda: restarting.done, "the database to be back", 90)
        world.database_server = None
        world.mended()
        finish(world, part, began)


@dataclass
class _Restarting:
    done: bool = False


@contextlib.contextmanager
def _restarts(world: Here) -> Iterator[_Restarting]:
    """Start the database again when it was killed, two seconds later, beside the test."""
    said, over = _Restarting(), threading.Event()
    server = world.database_server
    assert server is not None

    def watch() -> None:
        while not over.wait(0.1):
            if not said.done and world.order.taken:
                over.wait(2.0)
                wait_for(lambda: restarted(server), "the database to start again", 60)
                said.done = True

    thread = threading.Thread(target=watch, name="restarts-the-database", daemon=True)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join(70)
