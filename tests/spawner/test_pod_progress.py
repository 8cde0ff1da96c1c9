"""How far a pod has come, in words that a person understands; never in the words of the cluster's events."""

from __future__ import annotations

from typing import Any

import pytest

from spawner.pod_progress import step

_SCHEDULED = {"conditions": [{"type": "PodScheduled", "status": "True"}], "phase": "Pending"}


def pod(status: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {},
        "spec": {"containers": [{"name": "notebook", "image": "example.org/lab:1"}]},
        "status": status,
    }


def events(*reasons: str) -> list[dict[str, Any]]:
    return [{"reason": reason, "message": "<b>raw</b>"} for reason in reasons]


@pytest.mark.parametrize(
    ("status", "reasons", "text"),
    [
        ({"phase": "Pending"}, [], "Waiting for a node"),
        ({"phase": "Pending"}, ["TriggeredScaleUp"], "A new node is being started for you; this takes some minutes"),
        (_SCHEDULED, ["Scheduled"], "A node was found; connecting your home"),
        (_SCHEDULED, ["Scheduled", "SuccessfulAttachVolume"], "Preparing the node"),
        (_SCHEDULED, ["Scheduled", "Pulling"], "Pulling the image example.org/lab:1"),
        (_SCHEDULED, ["Scheduled", "Pulling", "Pulled"], "Making the container"),
        (
            {**_SCHEDULED, "phase": "Running", "containerStatuses": [{"name": "notebook", "state": {"running": {}}}]},
            ["Pulled", "Started"],
            "Starting JupyterLab",
        ),
    ],
)
def test_each_stage_has_its_words(status: dict[str, Any], reasons: list[str], text: str) -> None:
    assert step(pod(status), events(*reasons)).text == text


def test_the_percentage_grows_from_stage_to_stage() -> None:
    stages = [
        step(pod({"phase": "Pending"})),
        step(pod(_SCHEDULED)),
        step(pod(_SCHEDULED), events("Pulling")),
        step(pod(_SCHEDULED), events("Pulled")),
        step(pod({**_SCHEDULED, "containerStatuses": [{"name": "notebook", "state": {"running": {}}}]})),
    ]
    assert [stage.percent for stage in stages] == sorted({stage.percent for stage in stages})


def test_what_is_in_the_way_is_said_while_waiting() -> None:
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    assert step(pod({"phase": "Pending", "conditions": [condition]})).text == (
        "Waiting for a node: No node has enough free cpu cores at the moment; it is free again when somebody else stops."
    )
