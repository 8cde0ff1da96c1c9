"""One change of a node's layout at a time, through whatever ends it in between."""

from __future__ import annotations

import pytest

from hub.mig import holder as holder_module
from hub.mig.change import Occupied
from hub.mig.holder import Lost, Taken
from hub.mig.names import CONFIG, RECORD, STATE
from hub.mig.record import record_of
from tests.hub.mig_change_world import Manager, Run, held, is_finished, quick
from tests.hub.mig_world import FakeApi, manager_pod, mig_node, session

__all__ = ["quick"]  # the fixture, which is for every test here


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
