"""Waiting for images on the nodes: what is waited for, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from hub.cluster_api import Away, ClusterApi, Forbidden, Json
from hub.pulled import missing, wait


def daemon_set(there: int, wanted: int, *, looked_at: int = 3) -> Json:
    status = {"observedGeneration": looked_at, "numberReady": there, "desiredNumberScheduled": wanted}
    return {"metadata": {"generation": 3}, "status": status}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"metadata": {"generation": 1}}, "the cluster has not looked at it yet", id="new"),
        pytest.param(daemon_set(2, 2, looked_at=2), "the cluster has not looked at it yet", id="changed"),
        pytest.param(daemon_set(1, 3), "the images are on 1 of 3 nodes", id="some"),
        pytest.param(daemon_set(3, 3), "", id="all"),
        pytest.param(daemon_set(0, 0), "", id="no-node-is-meant"),
    ],
)
def test_what_is_waited_for(said: Json, expected: str) -> None:
    assert missing(said) == expected


class Cluster(ClusterApi):
    """Answers one thing after the other, the last one for ever."""

    def __init__(self, *answers: Json | Exception) -> None:
        super().__init__(None, "a cluster")
        self.answers = list(answers)
        self.asked: list[str] = []

    def get(self, path: str, **query: str | int) -> Json:
        """Return the next answer."""
        self.asked.append(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def waited(cluster: ClusterApi, within_s: float) -> tuple[bool, list[str], float]:
    """Wait by a clock that only our own pauses move; returns what came out, what was said and how long it took."""
    said: list[str] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def now() -> float:
        return clock[0]

    there = wait(cluster, "core", "a-pull-first", within_s, said.append, sleep, now)
    return there, said, clock[0]


def test_it_goes_on_when_every_node_has_them() -> None:
    cluster = Cluster(daemon_set(0, 2), daemon_set(0, 2), Away("The API server is away."), daemon_set(2, 2))
    there, said, took = waited(cluster, 60)
    assert there
    assert said == ["the images are on 0 of 2 nodes", "The API server is away.", "the images are on every node"]
    assert set(cluster.asked) == {"/apis/apps/v1/namespaces/core/daemonsets/a-pull-first"}
    assert took < 60


def test_it_gives_up_in_time_and_says_where_to_look() -> None:
    there, said, took = waited(Cluster(daemon_set(1, 2)), 60)
    assert not there
    assert 60 <= took < 65
    assert "kubectl get pods -n core" in said[-1]


def test_what_is_refused_is_not_waited_for() -> None:
    refusal: Any = Forbidden("daemonsets may not be read")
    with pytest.raises(Forbidden):
        waited(Cluster(refusal), 60)
