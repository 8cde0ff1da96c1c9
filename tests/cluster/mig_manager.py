"""A strict double of NVIDIA's MIG manager, with the device plugin and the kubelet that react to it, for one simulated node.

What it does, and in which order, is that of mig-parted: cmd/nvidia-mig-manager/main.go (it acts on a change of the
label's value; an empty value is none) and deployments/gpu-operator/reconfigure-mig.sh (unknown layout: failed; applied
already: success at once; else pending, GPU clients off, apply, GPU clients on, then success or failed; perhaps
rebooting in between). Where the device plugin is gone the kubelet offers 0 of its resources; the plugin comes back only
after the state is written, so that the offer lags behind "success". Applying fails while a process uses the card.

Strict: it notes in `violations` whatever a command must never do to such a node.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from hub.cluster_api import ClusterApi, Json

__all__ = ["LAYOUTS", "MigManager"]

CONFIG, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
PLUGIN = "nvidia.com/gpu.deploy.device-plugin"
LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "all-disabled": {"nvidia.com/gpu": "1"},
    "all-1g.5gb": {"nvidia.com/mig-1g.5gb": "7"},
    "all-3g.20gb": {"nvidia.com/mig-3g.20gb": "2"},
}
_LOOK_S = 0.1


class MigManager(threading.Thread):
    """The double; use it as a context.

    Parameters
    ----------
    applied
        The layout that the card has at first.
    fails
        Layouts that the card refuses.
    reboots
        Whether changing the mode of the card restarts the node.
    step_s
        How long each of its steps takes.
    """

    def __init__(
        self, api: ClusterApi, node: str, applied: str, *, fails: tuple[str, ...] = (), reboots: bool = False, step_s: float = 0.6
    ) -> None:  # fmt: skip
        super().__init__(name=f"mig-manager-{node}", daemon=True)
        self._api, self._node, self._path = api, node, f"/api/v1/nodes/{node}"
        self.applied, self.fails, self.reboots, self._step_s = applied, set(fails), reboots, step_s
        self.violations: list[str] = []
        self.states: list[str] = []
        self._over = threading.Event()

    def __enter__(self) -> MigManager:
        self._last = self._labels(self._get()).get(CONFIG, "")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(_LOOK_S):
            asked = self._labels(self._watch()).get(CONFIG, "")
            if asked != self._last:
                self._last = asked
                if asked:
                    self._reconfigure(asked)

    # --- the node ------------------------------------------------------------------------------------------------

    def _get(self) -> Json:
        return self._api.get(self._path)

    def _labels(self, node: Json) -> dict[str, str]:
        return dict(node["metadata"].get("labels") or {})

    def _watch(self) -> Json:
        """The node, looked at for what must never be."""
        node = self._get()
        labels = self._labels(node)
        takes_pods = not (node.get("spec") or {}).get("unschedulable")
        offered = {
            name
            for name, count in node["status"]["allocatable"].items()
            if name.startswith("nvidia.com/") and count != "0"
        }
        if takes_pods and labels.get(CONFIG, "") != self.applied:
            self._violated(f"takes pods while {labels.get(CONFIG)} is asked for and {self.applied} is applied")
        if takes_pods and labels.get(STATE) != "success":
            self._violated(f"takes pods while the state is {labels.get(STATE)}")
        if takes_pods and offered != set(LAYOUTS[self.applied]):
            self._violated(f"takes pods while it offers {sorted(offered)} of {self.applied}")
        return node

    def _violated(self, text: str) -> None:
        if text not in self.violations:
            self.violations.append(text)

    def _label(self, **values: str) -> None:
        names = {"state": STATE, "plugin": PLUGIN}
        self._api.patch(self._path, {"metadata": {"labels": {names[key]: value for key, value in values.items()}}})
        if "state" in values:
            self.states.append(values["state"])

    def _offer(self, resources: Mapping[str, str]) -> None:
        """What the kubelet says when device plugins come and go: names stay, with 0."""
        status = self._get()["status"]
        gone = {name: "0" for name in status["allocatable"] if name.startswith("nvidia.com/")}
        offered = {**gone, **resources}
        self._api.patch(f"{self._path}/status", {"status": {"allocatable": offered, "capacity": offered}})

    def _pause(self) -> None:
        until = time.monotonic() + self._step_s
        while time.monotonic() < until:
            self._watch()
            time.sleep(_LOOK_S)

    # --- reconfigure-mig.sh --------------------------------------------------------------------------------------

    def _reconfigure(self, layout: str) -> None:
        if layout not in LAYOUTS:
            self._label(state="failed")
            return
        if layout == self.applied:
            self._label(state="success")
            return
        self._label(state="pending")
        self._pause()
        self._label(plugin="false")
        self._offer({})
        self._pause()
        if self.reboots:
            self._label(state="rebooting")
            self._pause()
        works = layout not in self.fails
        if users := self._users():
            self._violated(f"told to apply {layout} while {users} use the card")
            works = False
        if works:
            self.applied = layout
        self._label(plugin="true")
        self._label(state="success" if works else "failed")
        self._pause()  # the plugin's pod starts
        self._offer(LAYOUTS[self.applied])

    def _users(self) -> list[str]:
        found = []
        for pod in self._api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={self._node}"):
            limits: dict[str, Any] = {}
            for container in pod["spec"]["containers"]:
                limits |= (container.get("resources") or {}).get("limits") or {}
            if any(name.startswith("nvidia.com/") for name in limits) and pod["status"].get("phase") == "Running":
                found.append(pod["metadata"]["name"])
        return found
