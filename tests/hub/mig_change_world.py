"""A node whose layout is changed, with a manager that answers, for the tests of the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.mig import change as change_module
from hub.mig import drain as drain_module
from hub.mig import holder as holder_module
from hub.mig import patience as patience_module
from hub.mig.change import Change
from hub.mig.holder import Holder
from hub.mig.names import CONFIG, RECORD, STATE
from hub.mig.plan import make_plan
from hub.mig.record import Record, record_of
from hub.mig.view import look
from tests.hub.mig_world import FakeApi, manager_pod, mig_node

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


class Killed(BaseException):
    """As SIGKILL: nothing of the run is tidied up."""


def held(holder: str, **more: Any) -> FakeApi:
    begun = Record("all-1g.5gb", "all-disabled", cordoned=False, holder=holder, **more).as_annotation()
    api = FakeApi(mig_node(annotations={RECORD: begun}), manager_pod())
    api.node["spec"]["unschedulable"] = True
    return api
