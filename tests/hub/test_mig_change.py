"""The change of a layout step by step: nothing is schedulable too early, nobody is stopped unannounced, one at a time."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hub.cluster_api import Away
from hub.mig import change as change_module
from hub.mig import drain as drain_module
from hub.mig import holder as holder_module
from hub.mig import patience as patience_module
from hub.mig.change import Change, Failed, Occupied
from hub.mig.drain import NotDrained
from hub.mig.holder import Holder, Lost, Taken
from hub.mig.hub_api import HubAccess, HubProblem, read_token
from hub.mig.names import CONFIG, RECORD, STATE
from hub.mig.patience import PatientApi
from hub.mig.plan import make_plan
from hub.mig.record import Record, record_of
from hub.mig.rights import Right, missing, to_change, to_drain
from hub.mig.view import look
from tests.hub.mig_world import FakeApi, manager_pod, mig_node, pod, session

SEVEN = {"nvidia.com/mig-1g.5gb": "7", "nvidia.com/gpu": "0"}
WHOLE = {"nvidia.com/gpu": "1", "nvidia.com/mig-1g.5gb": "0"}
LAYOUTS = {"all-1g.5gb": SEVEN, "all-disabled": WHOLE}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (change_module, "_LOOK_S"), (change_module, "_SETTLE_S"), (drain_module, "_LOOK_S"),
        (holder_module, "_LOOK_S"), (patience_module, "_PAUSE_S"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.001)


class Manager:
    """Answers label changes as the MIG manager does, one step for each read of the node."""

    def __init__(self, api: FakeApi, *, fails: bool = False) -> None:
        self.api, self.fails = api, fails
        self.last = api.node["metadata"]["labels"].get(CONFIG)
        self.steps: list[Callable[[], None]] = []
        self.states: list[str] = []
        api.before = self.tick

    def tick(self, method: str, path: str) -> None:
        if method != "GET" or "/nodes/" not in path:
            return
        asked = self.api.node["metadata"]["labels"].get(CONFIG)
        if asked != self.last:
            self.last = asked
            self.steps = self.plan(asked) if asked else []
        elif self.steps:
            self.steps.pop(0)()

    def plan(self, layout: str) -> list[Callable[[], None]]:
        assert self.api.node["spec"].get("unschedulable"), "the label was changed on a node that takes pods"
        before = dict(self.api.node["status"]["allocatable"])
        gone = dict.fromkeys((name for name in before if name.startswith("nvidia.com/")), "0")
        busy = any(one["spec"]["containers"][0]["resources"] for one in self.api.pods)
        if self.fails or busy or layout not in LAYOUTS:
            return [
                lambda: self.say("pending"),
                lambda: self.offer(gone),
                lambda: self.offer(before),
                lambda: self.say("failed"),
            ]
        after = LAYOUTS[layout]
        return [lambda: self.say("pending"), lambda: self.offer(gone), lambda: self.say("success"),
                lambda: None, lambda: self.offer(after)]  # fmt: skip

    def say(self, state: str) -> None:
        self.states.append(state)
        self.api.write({"metadata": {"labels": {STATE: state}}})

    def offer(self, resources: dict[str, str]) -> None:
        self.api.write({"status": {"allocatable": resources}})


class Run:
    """One run of `mig apply` in this process."""

    def __init__(self, api: FakeApi, layout: str = "all-1g.5gb", **options: Any) -> None:
        self.api, self.said = api, list[str]()
        silent_s = options.pop("silent_s", 0.05)
        self.holder = Holder(api, "gpu-1", self.said.append, silent_s=silent_s)
        settings = {"drain": False, "grace_s": 0.0, "timeout_s": 5.0, **options}
        self.change = Change(api, make_plan(look(api, "gpu-1"), layout), self.holder, self.said.append, **settings)

    def __call__(self) -> str:
        self.change.run()
        return "\n".join(self.said)


def is_finished(api: FakeApi, layout: str = "all-1g.5gb") -> bool:
    labels, spec = api.node["metadata"]["labels"], api.node["spec"]
    return (
        (labels[CONFIG], labels[STATE]) == (layout, "success")
        and not spec.get("unschedulable")
        and not record_of(api.node)
    )


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


class Killed(BaseException):
    """As SIGKILL: nothing of the run is tidied up."""


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


# --- one at a time -----------------------------------------------------------------------------------------------


def held(holder: str, **more: Any) -> FakeApi:
    begun = Record("all-1g.5gb", "all-disabled", cordoned=False, holder=holder, **more).as_annotation()
    api = FakeApi(mig_node(annotations={RECORD: begun}), manager_pod())
    api.node["spec"]["unschedulable"] = True
    return api


def test_a_holder_that_lives_is_not_disturbed() -> None:
    api = held("other boot pid:[1] 77 5")
    run = Run(api, silent_s=5.0)
    looks = [0]

    def renew(method: str, path: str) -> None:
        looks[0] += 1
        if looks[0] == 4:
            record = record_of(api.node)
            assert record is not None
            api.write({"metadata": {"annotations": {RECORD: record.but().as_annotation()}}})

    api.before = renew
    with pytest.raises(Taken, match=r"changes gpu-1 to all-1g.5gb now \(process 77 on other\)"):
        run()


def test_a_silent_holder_is_taken_over() -> None:
    api = held("other boot pid:[1] 77 5")
    Manager(api)
    said = Run(api)()
    assert "It is silent: this run goes on" in said
    assert is_finished(api)


@pytest.mark.parametrize("holder", ["", "gone"])
def test_nobody_is_waited_for_where_nobody_is(holder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder_module, "surely_gone", lambda name: name == "gone")
    api = held(holder)
    Manager(api)
    said = Run(api, silent_s=1000.0)()
    assert is_finished(api)
    assert "silent" not in said


def test_of_two_that_begin_at_once_one_is_refused() -> None:
    """Both read the node before either writes: the resourceVersion decides."""
    api = FakeApi(mig_node(), manager_pod())
    first, second = Run(api), Run(api)
    taken = list[str]()

    def other_first(method: str, path: str) -> None:
        if method == "PATCH" and not taken:
            taken.append("second")
            second.holder._id = "other boot pid:[1] 2 2"
            second.holder.take("all-1g.5gb", cordon=True)

    api.before = other_first
    with pytest.raises(Taken):
        first.holder.take("all-1g.5gb", cordon=True)
    record = record_of(api.node)
    assert record is not None
    assert record.holder == "other boot pid:[1] 2 2"


def test_who_was_taken_over_changes_nothing_more() -> None:
    api = FakeApi(mig_node(), manager_pod())
    run = Run(api)
    run.holder.take("all-1g.5gb", cordon=True)
    record = record_of(api.node)
    assert record is not None
    api.write({"metadata": {"annotations": {RECORD: record.but(holder="another").as_annotation()}}})
    before = str(api.node)
    for act in (run.holder.alive, run.change._label, run.change._finish):
        with pytest.raises(Lost):
            act()
    run.holder.let_go(api)
    assert str(api.node) == before


def test_letting_go_spares_the_next_run_the_wait() -> None:
    api = FakeApi(mig_node(), manager_pod())
    first = Run(api)
    first.holder.take("all-1g.5gb", cordon=True)
    first.holder.let_go(api)
    Manager(api)
    assert "silent" not in Run(api, silent_s=1000.0)()
    assert is_finished(api)


def test_ended_before_the_label_and_begun_again_without_a_drain_it_is_undone() -> None:
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    run = Run(api, drain=True)
    run.holder.take("all-1g.5gb", cordon=True)
    run.holder.let_go(api)
    with pytest.raises(Occupied):
        Run(api)()
    assert "unschedulable" not in api.node["spec"]
    assert record_of(api.node) is None


def test_ended_after_the_label_it_is_never_undone_but_by_success() -> None:
    api = held("", asked="all-1g.5gb")
    api.write({"metadata": {"labels": {CONFIG: "all-1g.5gb", STATE: "failed"}}})
    api.schedulable_with.clear()
    api.pods.append(session("a", "alice", "a100"))
    with pytest.raises(Occupied):
        Run(api)()
    assert api.node["spec"]["unschedulable"]
    assert record_of(api.node) is not None


# --- an API server that is away ----------------------------------------------------------------------------------


def test_an_api_that_is_away_is_asked_again_and_said_once() -> None:
    api, said = FakeApi(mig_node()), list[str]()
    api.away(5)
    assert PatientApi(api, said.append, 60.0).get("/api/v1/nodes/gpu-1")["metadata"]["name"] == "gpu-1"
    assert len(said) == 2


def test_patience_ends() -> None:
    api = FakeApi(mig_node())
    api.away(10**9)
    with pytest.raises(Away):
        PatientApi(api, print, 0.02).get("/api/v1/nodes/gpu-1")


def test_a_change_survives_an_api_that_is_away_now_and_then() -> None:
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    tick, asked = api.before, [0]

    def flaky(method: str, path: str) -> None:
        asked[0] += 1
        if asked[0] % 3 == 0:
            raise Away("The API server does not answer.")
        tick(method, path)

    run = Run(api, drain=True)
    api.before = flaky
    patient = PatientApi(api, run.said.append, 60.0)
    holder = Holder(patient, "gpu-1", run.said.append)
    Change(patient, run.change.plan, holder, run.said.append, drain=True, grace_s=0.0, timeout_s=30.0).run()
    assert is_finished(api)


def test_a_write_whose_answer_was_lost_is_not_a_conflict_with_oneself() -> None:
    api = FakeApi(mig_node(), manager_pod())
    plain, lost = api.ask, list[str]()

    def swallow(method: str, path: str, *more: Any, **options: Any) -> dict[str, Any]:
        answer = plain(method, path, *more, **options)
        if method == "PATCH" and len(lost) < 2:
            lost.append(path)
            raise Away("The answer was lost.")
        return answer

    api.ask = swallow  # type: ignore[method-assign]
    patient = PatientApi(api, print, 60.0)
    holder = Holder(patient, "gpu-1", print)
    assert record_of(holder.take("all-1g.5gb", cordon=True)) is not None
    holder.change(lambda node, record: (record.but(asked="x"), {}))
    record = record_of(api.node)
    assert record is not None
    assert (record.asked, record.cordoned) == ("x", False)


# --- rights, and the hub -----------------------------------------------------------------------------------------


def test_rights_that_are_missing_are_named() -> None:
    class Reviews(FakeApi):
        def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            asked = body["spec"]["resourceAttributes"]
            return {"status": {"allowed": asked["verb"] == "get" or asked.get("subresource") == "eviction"}}

    wanted = [*to_change(), *to_drain({"sessions"}, {"jobs"})]
    lacking = missing(Reviews(mig_node()), wanted)
    assert Right("delete", "pods", "sessions") in lacking
    assert Right("create", "pods/eviction", "jobs") not in lacking
    assert str(Right("patch", "nodes")) in {str(right) for right in lacking}
    assert str(Right("create", "events", "jobs")) == "`create` on `events` in jobs"


@pytest.fixture
def hub() -> Iterator[tuple[str, list[tuple[str, str, str]], list[int]]]:
    asked, answers = list[tuple[str, str, str]](), [204]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            asked.append((self.command, self.path, str(self.headers["Authorization"])))
            self.send_response(answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jupyter/", asked, answers
        server.shutdown()
        thread.join()


def test_sessions_end_through_their_hub(hub: tuple[str, list[tuple[str, str, str]], list[int]]) -> None:
    url, asked, answers = hub
    access = HubAccess(url, "secret-token", "sessions")
    access.stop("ana/../x y", "")
    access.stop("bob", "my server")
    assert asked == [
        ("DELETE", "/jupyter/hub/api/users/ana%2F..%2Fx%20y/server", "token secret-token"),
        ("DELETE", "/jupyter/hub/api/users/bob/servers/my%20server", "token secret-token"),
    ]
    answers[0] = 404
    with pytest.raises(HubProblem, match="status 404"):
        access.stop("bob", "")
    assert "secret-token" not in repr(access)


def test_a_hub_that_cannot_stop_it_is_passed_by(hub: tuple[str, list[tuple[str, str, str]], list[int]]) -> None:
    url, _, answers = hub
    answers[0] = 503
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    said = Run(api, drain=True, hub=HubAccess(url, "t", "sessions"))()
    assert "is ended by deleting its pod, since the hub answers with status 503." in said
    assert is_finished(api)


def test_a_session_of_another_hub_is_not_stopped_through_this_one(
    hub: tuple[str, list[tuple[str, str, str]], list[int]],
) -> None:
    url, asked, _ = hub
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    Run(api, drain=True, hub=HubAccess(url, "t", "elsewhere"))()
    assert asked == []
    assert is_finished(api)


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff", "tök".encode()])
def test_a_token_file_that_is_none_is_a_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(HubProblem, match=r"token"):
        read_token(tmp_path / "token")
    (tmp_path / "token").write_text("abc123\n")
    assert read_token(tmp_path / "token") == "abc123"
