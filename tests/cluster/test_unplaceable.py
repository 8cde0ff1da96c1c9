"""Today's scheduler says of what it cannot place what it said when its messages were recorded, and we understand it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from spawner.diagnosis import diagnose
from spawner.no_node import Known
from spawner.reservation import Reservation
from spawner.scheduling import verdict
from tests.cluster import unplaceable
from tests.cluster.sessions import Object, refusal, running
from tests.lab.cluster import Cluster
from tests.spawner.test_no_node import CODES, MESSAGES

_TOGETHER = [name for name, case in unplaceable.CASES.items() if not case.alone]
_ALONE = [[name] for name, case in unplaceable.CASES.items() if case.alone]


@pytest.mark.parametrize("names", [_TOGETHER, *_ALONE], ids=lambda names: names[0] if len(names) == 1 else "together")
def test_the_scheduler_says_what_it_said_when_it_was_recorded(cluster: Cluster, names: list[str]) -> None:
    with running(cluster, "unplaceable", unplaceable.known()) as world:
        unplaceable.provoked(world, names)

        def surprises(pods: dict[str, Object]) -> dict[str, str]:
            """What is said that was not expected; the scheduler corrects itself when it has seen everything."""
            return {name: refusal(pods[name]) for name in names if not _as_expected(name, pods[name])}

        with suppress(AssertionError):
            world.until(lambda pods: not surprises(pods), "all is as expected")
        assert surprises(world.pods()) == {}


def _as_expected(name: str, pod: Object) -> bool:
    case = unplaceable.CASES[name]
    asked_for = Reservation("x", "ann", "", "jupyterlab", case.accelerator, case.count)
    known = Known(asked_for, "T4", "nvidia.com/gpu") if case.accelerator else Known(asked_for)
    reason = diagnose(pod, (), known)
    now, then = verdict(refusal(pod)), verdict(MESSAGES[name]["message"])
    same = (now.why, now.hopeless, now.lacking) == (then.why, then.hopeless, then.lacking)
    expected = ("unschedulable", True) if case.accelerator is None and then.why == "labels" else CODES[name]
    return reason is not None and (reason.code, reason.final) == expected and same
