"""`armillary mig` on a real API server, against a strict double of NVIDIA's MIG manager; ended at every step by SIGKILL."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.cluster_api import ClusterApi, connect
from tests.cluster.mig_manager import LAYOUTS, MigManager
from tests.docs.blocks import blocks
from tests.hub.mig_world import CONFIG
from tests.lab.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "hub.cli", "mig"]
LABEL, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
RECORD = "armillary/mig-change"
pytestmark = pytest.mark.timeout(400)


class Command:
    """A command that runs, and what it has said so far."""

    def __init__(self, words: list[str], kubeconfig: Path) -> None:
        self._process = subprocess.Popen(
            words,
            env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        self.said = ""
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._heard:
                    self.said += line
                    self._heard.notify_all()

    def until(self, words: str) -> None:
        """Wait until it has said these words."""
        with self._heard:
            assert self._heard.wait_for(lambda: words in self.said, 120.0), f"{words!r} was not said:\n{self.said}"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; return when it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return its status and all that it said."""
        status = self._process.wait(180.0)
        self._reader.join()
        assert "Traceback" not in self.said
        return status, self.said


@dataclass
class World:
    """One simulated node with its MIG manager's pod, and namespaces for pods."""

    cluster: Cluster
    api: ClusterApi
    node: str
    sessions: str
    jobs: str
    running: list[Command] = field(default_factory=list)

    def start(self, *words: str, kubeconfig: Path | None = None) -> Command:
        process = Command([*PROGRAM, *words], kubeconfig or self.cluster.kubeconfig)
        self.running.append(process)
        return process

    def apply(self, *words: str, layout: str = "all-1g.5gb", **options: Any) -> Command:
        return self.start("apply", self.node, "--layout", layout, "--yes", "--timeout", "120", *words, **options)

    def applied(self, *words: str, layout: str = "all-1g.5gb") -> tuple[int, str]:
        return self.apply(*words, layout=layout).ended()

    def pod(
        self, name: str, namespace: str, devices: Mapping[str, str] | None = None, notes: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None, **spec: Any,
    ) -> None:  # fmt: skip
        container = {"name": "main", "image": "localhost/none:1", "resources": {"limits": dict(devices or {})}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "annotations": dict(notes or {}), "labels": dict(labels or {})},
            "spec": {"nodeName": self.node, "containers": [container], "tolerations": [{"operator": "Exists"}], **spec},
        }  # fmt: skip
        self.cluster.apply(pod)
        self.cluster.kubectl(
            "wait", "--for=jsonpath={.status.phase}=Running", f"pod/{name}", "-n", namespace, "--timeout=60s"
        )

    def session(self, name: str, user: str) -> None:
        notes = {"armillary/spawn-id": name, "armillary/accelerator": "a100", "hub.jupyter.org/username": user}
        self.pod(name, self.sessions, {"nvidia.com/gpu": "1"}, notes)

    def pods(self, namespace: str) -> list[str]:
        return self.cluster.kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}").split()

    def now(self) -> dict[str, Any]:
        return self.api.get(f"/api/v1/nodes/{self.node}")

    def is_finished(self, layout: str = "all-1g.5gb") -> None:
        node = self.now()
        labels, offered = node["metadata"]["labels"], node["status"]["allocatable"]
        assert (labels[LABEL], labels[STATE]) == (layout, "success")
        assert not node["spec"].get("unschedulable")
        assert RECORD not in node["metadata"].get("annotations", {})
        assert {name: count for name, count in offered.items() if "nvidia" in name and count != "0"} == LAYOUTS[layout]


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    node = f"mig-{secrets.token_hex(3)}"
    labels = {
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "mixed",
        LABEL: "all-disabled",
        STATE: "success",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
    }
    with (
        cluster.namespace("mig-operator", restricted=False) as operator,
        cluster.namespace("mig-sessions", restricted=False) as sessions,
        cluster.namespace("mig-jobs", restricted=False) as jobs,
    ):
        api = connect(str(cluster.kubeconfig), None, {})
        made = World(cluster, api, node, sessions, jobs)
        cluster.add_simulated_node(node, {"nvidia.com/gpu": "1"}, labels)
        try:
            config = {"name": "default-mig-parted-config", "namespace": operator}
            cluster.apply(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": config, "data": {"config.yaml": CONFIG}}
            )
            volumes = [{"name": "config", "configMap": {"name": config["name"]}}]
            made.pod("nvidia-mig-manager-1", operator, labels={"app": "nvidia-mig-manager"}, volumes=volumes)
            yield made
        finally:
            for process in made.running:
                process.kill()
            cluster.remove_node(node)


@contextlib.contextmanager
def manager(world: World, applied: str = "all-disabled", **options: Any) -> Iterator[MigManager]:
    with MigManager(world.api, world.node, applied, **options) as running:
        yield running
    assert running.violations == []


def test_a_plan_says_who_would_be_stopped_and_changes_nothing(world: World) -> None:
    world.session("jupyter-alice", "alice")
    world.pod("job", world.jobs, {"nvidia.com/gpu": "1"})
    before = world.now()["metadata"]["resourceVersion"], world.now()["spec"]
    status, said = world.start("plan", world.node, "--layout", "all-1g.5gb").ended()
    assert status == 0
    assert "Would stop: the session of alice (the default server, a100; pod " in said
    assert f"Would stop: pod {world.jobs}/job, since 20" in said
    assert "Asked for: all-1g.5gb: 7 × 1g.5gb on each card." in said
    assert said.endswith("Nothing was changed.\n")
    assert (world.now()["metadata"]["labels"][LABEL], world.now()["spec"]) == ("all-disabled", before[1])


def test_an_unknown_layout_and_running_sessions_are_refused_with_nothing_changed(world: World) -> None:
    status, said = world.applied(layout="all-9g.90gb")
    assert status == 1
    assert "has no layout 'all-9g.90gb'" in said
    world.session("jupyter-alice", "alice")
    status, said = world.applied()
    assert status == 1
    assert "They run: nothing was changed." in said
    node = world.now()
    assert (node["metadata"]["labels"][LABEL], node["spec"].get("unschedulable")) == ("all-disabled", None)
    assert RECORD not in node["metadata"].get("annotations", {})
    assert world.pods(world.sessions) == ["jupyter-alice"]


@pytest.mark.parametrize("reboots", [False, True])
def test_sessions_and_other_pods_are_warned_and_stopped_then_the_layout_changes(world: World, reboots: bool) -> None:
    world.session("jupyter-alice", "alice")
    world.pod("job", world.jobs, {"nvidia.com/gpu": "1"})
    world.pod("web", world.jobs)
    with manager(world, reboots=reboots) as double:
        status, said = world.applied("--drain", "--grace", "3")
        assert status == 0, said
        assert double.states == ["pending", *(["rebooting"] if reboots else []), "success"]
    world.is_finished()
    assert world.pods(world.sessions) == []
    assert world.pods(world.jobs) == ["web"]
    events = json.loads(world.cluster.kubectl("get", "events", "-n", world.sessions, "-o", "json"))["items"]
    (told,) = [event for event in events if event["reason"] == "MigLayoutChange"]
    assert told["involvedObject"]["name"] == "jupyter-alice"
    assert "this pod is stopped at 20" in told["message"]
    assert said.index("Stops at 20") < said.index("is ended by deleting its pod")


@pytest.mark.parametrize(
    "step",
    [
        "is cordoned",
        "Stops at",
        "is ended by deleting its pod",
        "Nobody has a card",
        "is now all-1g.5gb",
        "says pending",
        "says success",
        "offers 7 nvidia.com/mig-1g.5gb",
    ],
)
def test_killed_after_any_step_the_same_command_goes_on(world: World, step: str) -> None:
    world.session("jupyter-alice", "alice")
    with manager(world):
        first = world.apply("--drain", "--grace", "2")
        first.until(step)
        first.kill()
        status, said = world.applied("--drain", "--grace", "2")
        assert status == 0, said
        world.is_finished()
    assert world.pods(world.sessions) == []


def test_interrupted_by_ctrl_c_it_says_how_to_go_on(world: World) -> None:
    first = world.apply()  # no manager answers
    first.until("has said nothing yet")
    first.signal(signal.SIGINT)
    status, said = first.ended()
    assert status == 1
    assert "Ended. The same command goes on where it was ended" in said
    assert world.now()["spec"]["unschedulable"]
    with manager(world) as double:
        double.applied, double._last = "all-disabled", "all-disabled"
        status, said = world.applied()
    assert status == 0, said
    assert "holds" not in said
    world.is_finished()


def test_a_failed_layout_stays_cordoned_until_the_old_one_is_back(world: World) -> None:
    with manager(world, fails=("all-3g.20gb",)) as double:
        status, said = world.applied(layout="all-3g.20gb")
        assert status == 1
        assert f"armillary mig apply {world.node} --layout all-disabled" in said
        assert world.now()["spec"]["unschedulable"]
        status, said = world.applied(layout="all-3g.20gb")
        assert (status, double.states) == (1, ["pending", "failed"] * 2), said
        double.fails.clear()
        status, said = world.applied(layout="all-disabled")
        assert status == 0, said
    world.is_finished("all-disabled")


def test_of_two_at_once_the_second_is_refused(world: World) -> None:
    first = world.apply()
    first.until("has said nothing yet")
    status, said = world.applied(layout="all-3g.20gb")
    assert status == 1
    assert f"Another run changes {world.node} to all-1g.5gb now (process {first.pid} on " in said
    assert first.runs
    with manager(world) as double:
        double.applied, double._last = "all-disabled", "all-disabled"
        status, said = first.ended()
    assert status == 0, said
    world.is_finished()


def test_a_frozen_run_is_taken_over_and_changes_nothing_when_it_wakes(world: World) -> None:
    first = world.apply()
    first.until("has said nothing yet")
    first.signal(signal.SIGSTOP)
    with manager(world) as double:
        double.applied, double._last = "all-disabled", "all-disabled"
        status, said = world.applied()
        assert status == 0, said
        assert "It is silent" in said
        world.is_finished()
        first.signal(signal.SIGCONT)
        status, said = first.ended()
    assert status == 1
    assert "Another run took" in said
    world.is_finished()


def test_an_api_that_is_away_in_the_middle_is_waited_for(world: World, tmp_path: Path) -> None:
    with Relay(("10.88.0.1", 6443)) as relay:
        text = world.cluster.kubeconfig.read_text().replace("10.88.0.1:6443", f"127.0.0.1:{relay.port}")
        (tmp_path / "config").write_text(text)
        with manager(world):
            run = world.apply(kubeconfig=tmp_path / "config")
            run.until("says pending")
            relay.cut()
            run.until("does not answer")
            assert run.runs
            relay.mend()
            status, said = run.ended()
    assert status == 0, said
    assert "The API server answers again." in said
    world.is_finished()


@contextlib.contextmanager
def roles(world: World) -> Iterator[dict[str, Path]]:
    """Users who may what the documentation's roles say, by the role's name."""
    (block,) = blocks("mig-roles.yaml")
    made, users = [], {}
    for role in yaml.safe_load_all(block.text):
        name = f"{world.node}-{role['metadata']['name']}"
        users[role["metadata"]["name"]] = world.cluster.kubeconfig_for(name, [name])
        api = {"apiGroup": "rbac.authorization.k8s.io"}
        bound = {
            "roleRef": {**api, "kind": "ClusterRole", "name": name},
            "subjects": [{**api, "kind": "Group", "name": name}],
        }
        made += [
            {**role, "metadata": {"name": name}},
            {"apiVersion": role["apiVersion"], "kind": "ClusterRoleBinding", "metadata": {"name": name}, **bound},
        ]  # fmt: skip
    world.cluster.apply(*made)
    try:
        yield users
    finally:
        for one in made:
            world.cluster.kubectl("delete", one["kind"], one["metadata"]["name"], "--wait=false")


def test_the_roles_of_the_documentation_are_enough_and_missing_rights_are_named(world: World) -> None:
    world.session("jupyter-alice", "alice")
    world.pod("job", world.jobs, {"nvidia.com/gpu": "1"})
    with roles(world) as users, manager(world):
        reader = users["armillary-mig-plan"]
        status, said = world.start("plan", world.node, "--layout", "all-1g.5gb", kubeconfig=reader).ended()
        assert (status, "Would stop: the session of alice" in said, "Warning" in said) == (0, True, False)
        status, said = world.apply("--drain", kubeconfig=reader).ended()
        assert status == 1
        assert "These credentials lack the right `patch` on `nodes` in the whole cluster; nothing was changed." in said
        assert f"lack the right `delete` on `pods` in {world.sessions}" in said
        assert f"lack the right `create` on `pods/eviction` in {world.jobs}" in said
        assert "unschedulable" not in world.now()["spec"]
        status, said = world.apply("--drain", "--grace", "1", kubeconfig=users["armillary-mig-apply"]).ended()
        assert status == 0, said
    world.is_finished()
    assert "No event could be made" not in said


class Relay:
    """Passes connections on to an address, until it is cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target, self._cut = target, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        self._cut.set()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut.is_set():
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.close()
