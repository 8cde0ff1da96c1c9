"""The change of a layout step by step: nothing is schedulable too early, nobody is stopped unannounced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hub.cluster_api import Away
from hub.mig import holder as holder_module
from hub.mig.change import Failed, Occupied
from hub.mig.drain import NotDrained
from hub.mig.names import CONFIG, RECORD
from hub.mig.plan import make_plan
from hub.mig.record import Record, record_of
from hub.mig.view import look
from tests.hub.mig_change_world import SEVEN, Killed, Manager, Run, is_finished, quick
from tests.hub.mig_world import FakeApi, manager_pod, mig_node, pod, session

__all__ = ["quick"]  # the fixture, which is for every test here


def test_an_empty_node_gets_its_layout_and_takes_pods_only_then() -> None:
    api = FakeApi(mig_node(), manager_pod())
    manager = Manager(api)
    said = Run(api)()
    assert is_finished(api)
    assert manager.states == ["pending", "success"]
    assert api.schedulable_with == ["all-1g.5gb success"]
    assert "says pending" in said
    assert "gpu-1 offers 7 nvidia.com/mig-1g.5gb." in said
    assert said.endswith("gpu-1 has the layout all-1g.5gb. It takes pods again.")


def test_a_node_that_was_cordoned_stays_so() -> None:
    node = mig_node()
    node["spec"]["unschedulable"] = True
    api = FakeApi(node, manager_pod())
    Manager(api)
    assert Run(api)().endswith("It stays cordoned, as it was before.")
    assert api.node["spec"]["unschedulable"] is True
    assert RECORD not in api.node["metadata"]["annotations"]
    assert api.schedulable_with == []


def test_who_came_in_between_is_not_stopped_and_the_node_is_as_it_was() -> None:
    api = FakeApi(mig_node(), manager_pod())
    Manager(api)
    run = Run(api)
    api.pods.append(session("a", "alice", "a100"))
    with pytest.raises(Occupied, match="the session of alice"):
        run()
    assert "unschedulable" not in api.node["spec"]
    assert record_of(api.node) is None
    assert api.node["metadata"]["labels"][CONFIG] == "all-disabled"
    assert [one["metadata"]["name"] for one in api.pods if "sessions" in one["metadata"]["namespace"]] == ["a"]


def test_a_drain_warns_each_pod_by_an_event_and_stops_it_only_then() -> None:
    api = FakeApi(
        mig_node(), manager_pod(), session("a", "alice", "a100"), pod("job", {"nvidia.com/gpu": "1"}), pod("web")
    )
    Manager(api)
    said = Run(api, drain=True, grace_s=0.2)()
    assert is_finished(api)
    assert {one["metadata"]["name"] for one in api.pods} == {"nvidia-mig-manager-x7k2p", "web"}
    assert {(event["involvedObject"]["name"], event["type"], event["reason"]) for event in api.events} == {
        ("a", "Warning", "MigLayoutChange"), ("job", "Warning", "MigLayoutChange"),
    }  # fmt: skip
    assert all("this pod is stopped at 20" in event["message"] for event in api.events)
    for told, stopped in (("Stops at", "Evicted: pod jobs/job"), ("Stops at", "is ended by deleting its pod")):
        assert said.index(told) < said.index(stopped)


def test_the_time_that_was_announced_is_kept_by_the_next_run() -> None:
    begun = Record("all-1g.5gb", "all-disabled", cordoned=False, told={"uid-a": datetime.now(UTC)}).as_annotation()
    api = FakeApi(mig_node(annotations={RECORD: begun}), manager_pod(), session("a", "alice", "a100"))
    api.node["spec"]["unschedulable"] = True
    Manager(api)
    assert "was told: at 20" in "\n".join(make_plan(look(api, "gpu-1"), "all-1g.5gb").lines())
    assert "is ended by deleting its pod" in Run(api, drain=True, grace_s=100_000)()
    assert is_finished(api)


@pytest.mark.parametrize("uncordoned", [True, False], ids=["called-off-by-hand", "told-to-another-only"])
def test_a_time_that_was_told_to_others_or_called_off_stops_nobody(uncordoned: bool) -> None:
    """Each has the whole grace from the warning to the stop, whatever an earlier run told whom."""
    told = {"uid-a" if uncordoned else "uid-of-before": datetime(2026, 1, 1, tzinfo=UTC)}
    begun = Record("all-1g.5gb", "all-disabled", cordoned=False, told=told).as_annotation()
    api = FakeApi(mig_node(annotations={RECORD: begun}), manager_pod(), session("a", "alice", "a100"))
    api.node["spec"] = {} if uncordoned else {"unschedulable": True}
    Manager(api)
    assert "was told" not in "\n".join(make_plan(look(api, "gpu-1"), "all-1g.5gb").lines())
    run = Run(api, drain=True, grace_s=1000.0)
    begins, looks = datetime.now(UTC), list[str]()

    class Enough(Exception):
        pass

    plain = api.before

    def leave(method: str, path: str) -> None:
        plain(method, path)
        looks.append(method)
        assert method != "DELETE"
        if len(looks) > 60:
            raise Enough

    api.before = leave
    with pytest.raises(Enough):
        run()
    record = record_of(api.node)
    assert record is not None
    assert set(record.told) == {"uid-a"}
    assert (record.told["uid-a"] - begins).total_seconds() >= 1000.0
    assert f"{record.told['uid-a']:%Y-%m-%d %H:%M:%S}" in api.events[0]["message"]


def test_a_pod_of_the_same_name_that_came_after_is_not_stopped() -> None:
    api = FakeApi(mig_node(), manager_pod(), pod("job", {"nvidia.com/gpu": "1"}))
    Manager(api)
    plain = api.ask

    def replaced(method: str, path: str, *more: Any, **options: Any) -> dict[str, Any]:
        if path.endswith("/eviction") and api.pods[-1]["metadata"]["uid"] == "uid-job":
            api.pods[-1] = {**pod("job"), "metadata": {"name": "job", "namespace": "jobs", "uid": "another"}}
        return plain(method, path, *more, **options)

    api.ask = replaced  # type: ignore[method-assign]
    Run(api, drain=True)()
    assert api.pods[-1]["metadata"]["uid"] == "another"


def test_a_disruption_budget_is_waited_for_and_then_said() -> None:
    api = FakeApi(mig_node(), manager_pod(), pod("job", {"nvidia.com/gpu": "1"}))
    Manager(api)
    plain = api.before

    def refuse(method: str, path: str) -> None:
        plain(method, path)
        if path.endswith("/eviction"):
            raise Away("budget", 429)

    api.before = refuse
    run = Run(api, drain=True, timeout_s=0.05)
    with pytest.raises(NotDrained, match=r"Still there after 0 s: pod jobs/job"):
        run()
    assert any("A PodDisruptionBudget does not allow it yet" in line for line in run.said)
    assert api.node["spec"]["unschedulable"]
    assert api.node["metadata"]["labels"][CONFIG] == "all-disabled"


def test_failure_leaves_it_cordoned_and_says_how_to_go_back() -> None:
    api = FakeApi(mig_node(), manager_pod())
    Manager(api, fails=True)
    with pytest.raises(Failed) as problem:
        Run(api)()
    assert "kubectl logs -n gpu-operator nvidia-mig-manager-x7k2p" in str(problem.value)
    assert "armillary mig apply gpu-1 --layout all-disabled" in str(problem.value)
    assert api.node["spec"]["unschedulable"]
    assert api.schedulable_with == []


def test_after_a_failure_the_same_layout_can_be_tried_again_and_the_old_one_too() -> None:
    """The manager acts on a change of the label's value only, so the value must go and come again."""
    for layout in ("all-1g.5gb", "all-disabled"):
        api = FakeApi(mig_node(), manager_pod())
        manager = Manager(api, fails=True)
        with pytest.raises(Failed):
            Run(api)()
        manager.fails = False
        Run(api, layout)()
        assert is_finished(api, layout)
        assert manager.states == ["pending", "failed", "pending", "success"]


def test_a_manager_that_is_busy_is_waited_for() -> None:
    api = FakeApi(mig_node(mig_config_state="pending"), manager_pod())
    manager = Manager(api)
    nothing: list[Callable[[], None]] = [lambda: None] * 8  # reads of the node before it is waited for
    manager.steps = [*nothing, lambda: manager.say("rebooting"), lambda: manager.say("failed")]
    said = Run(api)()
    assert is_finished(api)
    assert said.index("is busy with an earlier change (pending)") < said.index("is now all-1g.5gb")
    assert manager.states == ["rebooting", "failed", "pending", "success"]


def test_success_of_the_layout_before_is_not_taken_for_an_answer() -> None:
    """A manager that begins late leaves the state of before for a while, were it not removed with the label."""
    api = FakeApi(mig_node(SEVEN, mig_config="all-disabled"), manager_pod())  # the offer fits by chance
    run = Run(api, timeout_s=0.05)
    with pytest.raises(Failed, match="the MIG manager says nothing"):
        run()
    assert api.schedulable_with == []


def test_success_without_the_offer_is_no_success() -> None:
    api = FakeApi(mig_node(), manager_pod())
    manager = Manager(api)
    manager.offer = lambda resources: None  # type: ignore[method-assign,assignment]
    with pytest.raises(Failed, match=r"it says success, but the node offers 1 nvidia.com/gpu, not 7 × 1g.5gb"):
        Run(api, timeout_s=0.1)()
    assert api.schedulable_with == []


def test_somebody_who_changes_the_label_ends_it() -> None:
    api = FakeApi(mig_node(), manager_pod())
    manager = Manager(api)
    manager.plan = lambda layout: [  # type: ignore[method-assign]
        lambda: manager.say("pending"),
        lambda: api.write({"metadata": {"labels": {CONFIG: "all-3g.20gb"}}}),
    ]
    with pytest.raises(Failed, match="Somebody changed the label"):
        Run(api)()
    assert api.schedulable_with == []


def test_conflicts_are_tried_again_and_what_others_changed_is_kept() -> None:
    api = FakeApi(mig_node(), manager_pod())
    Manager(api)
    tick, patches = api.before, list[str]()

    def meddle(method: str, path: str) -> None:
        tick(method, path)
        if method == "PATCH" and len(patches) < 6:
            patches.append(path)
            if len(patches) % 2:
                api.write({"metadata": {"labels": {f"other-{len(patches)}": "1"}}})

    api.before = meddle
    Run(api)()
    assert is_finished(api)
    assert {f"other-{at}" for at in (1, 3, 5)} <= set(api.node["metadata"]["labels"])


@pytest.mark.parametrize("cordoned", [False, True])
@pytest.mark.parametrize("lost", [False, True], ids=["before-it", "after-it"])
def test_ended_at_any_request_the_next_run_brings_it_to_its_end(
    lost: bool, cordoned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed ahead of each request, or behind it before the answer is heard, until a run is through."""
    monkeypatch.setattr(holder_module, "surely_gone", lambda name: True)
    for last in range(1, 1000):
        node = mig_node()
        node["spec"] = {"unschedulable": True} if cordoned else {}
        api = FakeApi(node, manager_pod(), session("a", "alice", "a100"), pod("job", {"nvidia.com/gpu": "1"}))
        manager = Manager(api)
        plain, left = api.ask, [last]

        def ask(
            method: str, path: str, *more: Any, plain: Any = plain, left: list[int] = left, **options: Any
        ) -> dict[str, Any]:
            left[0] -= 1
            if left[0] == 0 and not lost:
                raise Killed
            answer: dict[str, Any] = plain(method, path, *more, **options)
            if left[0] == 0:
                raise Killed
            return answer

        api.ask = ask  # type: ignore[method-assign]
        try:
            Run(api, drain=True)()
        except Killed:
            api.ask = plain  # type: ignore[method-assign]
            if not make_plan(look(api, "gpu-1"), "all-1g.5gb").done:
                Run(api, drain=True)()
        assert record_of(api.node) is None
        assert bool(api.node["spec"].get("unschedulable")) is cordoned
        assert (manager.states, manager.last) == (["pending", "success"], "all-1g.5gb")
        assert set(api.schedulable_with) <= {"all-1g.5gb success"}
        if left[0] > 0:
            assert last > 20
            return
    raise AssertionError("no run came to its end")
