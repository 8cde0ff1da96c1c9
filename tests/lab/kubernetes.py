"""A real Kubernetes on this machine: `up()`, `down()`, `status()`, and what tests ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import build, cache, control_plane, dns, images, kwok, network, node, packages, processes, provisioner
from tests.lab.errors import LabError, LabUnavailable
from tests.lab.pki import Authority

_REPOSITORY = Path(__file__).resolve().parents[2]
# Made by the lab in its run folder, so that `down` never removes a folder that is not the lab's.
_OURS = ".armillary-lab"


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: file with which its administrator talks to it.
        bridge_address: this machine's address as pods see it; what shall be reached from pods listens there.
        node: name of the one real node.
        storage_class: claims of this class get a directory of this machine.
        programs: folder with kubectl.
    """

    kubeconfig: Path
    bridge_address: str
    node: str
    storage_class: str
    programs: Path

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Runs kubectl as administrator and returns what it prints; LabError carries what it complains of."""
        return self._tool(self.programs / "kubectl", arguments, input)

    def helm(self, *arguments: str, input: str | None = None) -> str:
        """Runs helm as administrator and returns what it prints."""
        return self._tool(build.helm(), arguments, input)

    def _tool(self, program: Path, arguments: Sequence[str], given: str | None) -> str:
        done = subprocess.run(
            [str(program), *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"`{program.name} {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Mapping[str, object]) -> None:
        """Applies these objects."""
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def image(self, name: str) -> str:
        """The full reference of `images/<name>`, built and imported into the node when needed."""
        reference, archive = images.archive(name)
        _import(reference, archive)
        return reference

    @contextlib.contextmanager
    def namespace(self, prefix: str, restricted: bool = True) -> Iterator[str]:
        """A namespace for one test, deleted afterwards (without waiting until it is gone).

        Args:
            prefix: start of its name.
            restricted: enforce Pod Security "restricted".
        """
        name = f"{prefix}-{secrets.token_hex(3)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            # Pods are refused until the controller has made the namespace's service account.
            self.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for another user (by certificate), for tests of what may be done by whom."""
        return _authority().kubeconfig(f"user-{user}", control_plane.SERVER, user, groups)

    def add_simulated_node(
        self,
        name: str,
        capacity: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        tainted: bool = True,
    ) -> None:
        """Adds a node that KWOK plays, and waits until it is Ready.

        Args:
            name: the node's name.
            capacity: resources beside 32 CPUs, 256 GiB and 110 pods (which it may override).
            labels: beside `kubernetes.io/hostname` and `type=kwok`.
            tainted: keep away the pods that do not tolerate `kwok.TAINT`.
        """
        self.apply(kwok.node(name, capacity, labels or {}, tainted))
        self.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s")

    def remove_node(self, name: str) -> None:
        """Removes a simulated node; its pods go with it."""
        if name == self.node:
            raise LabError(f"{name} is the cluster's real node")
        self.kubectl("delete", "node", name, "--ignore-not-found", "--wait=false")

    def kubelet_log(self) -> str:
        """What the node's agent has logged."""
        return processes.log("kubelet").read_text(errors="replace")


def _authority() -> Authority:
    return Authority(cache.run_folder() / "pki")


def _import(reference: str, archive: Path) -> None:
    with cache.locked("import"):
        if node.ctr("images", "list", "--quiet", f"name=={reference}").strip():
            return
        node.ctr("images", "import", "--snapshotter=overlayfs", str(archive))


def _cluster() -> Cluster:
    kubeconfig = _authority().kubeconfig("admin", control_plane.SERVER, "lab-admin", ["system:masters"])
    return Cluster(kubeconfig, network.ADDRESS, node.NAME, provisioner.STORAGE_CLASS, build.kubernetes())


def _require_machine() -> None:
    if sys.platform != "linux":
        raise LabUnavailable("The lab's Kubernetes needs Linux: Debian 12, as root.")
    if os.geteuid() != 0:
        raise LabUnavailable("The lab's Kubernetes needs root (network, mounts, cgroups); run as root on Debian 12.")
    packages.install(packages.CLUSTER)


def _make_run_folder() -> None:
    run = cache.run_folder()
    if run.exists() and not (run / _OURS).exists() and any(run.iterdir()):
        raise LabError(f"{run} is not empty and not the lab's; name another folder in ARMILLARY_LAB_RUN")
    run.mkdir(parents=True, exist_ok=True)
    (run / _OURS).write_text(processes.boot_id())


def _start_provisioner(kubeconfig: Path) -> None:
    volumes = cache.run_folder() / "volumes"
    volumes.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.lab.provisioner", str(kubeconfig), str(volumes), node.NAME]
    processes.start("provisioner", command, {"PYTHONPATH": str(_REPOSITORY)})


DAEMONS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kwok",
    "provisioner",
)


def is_up() -> bool:
    """Whether every part runs."""
    return all(processes.running(name) is not None for name in DAEMONS)


def _start() -> Cluster:
    # What takes long and may fail comes first, while nothing runs yet.
    programs, name_server, simulator = build.kubernetes(), build.coredns(), build.kwok()
    build.helm()
    pause, pause_archive = images.pause_archive()
    _make_run_folder()
    network.up(cache.run_folder() / "cni")
    authority = _authority()
    control_plane.start_etcd()
    control_plane.start_apiserver(programs, authority)
    control_plane.start_controllers(programs, authority)
    node.start_containerd(pause)
    _import(pause, pause_archive)
    node.start_kubelet(programs, authority)
    node.start_proxy(programs, authority)
    cluster = _cluster()
    dns.start(name_server, cluster.kubeconfig)
    kwok.start(simulator, cluster.kubeconfig)
    cluster.apply(provisioner.storage_class())
    _start_provisioner(cluster.kubeconfig)
    cluster.kubectl("wait", "--for=create", f"node/{node.NAME}", "--timeout=60s")
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{node.NAME}", "--timeout=120s")
    return cluster


def up() -> Cluster:
    """Brings the cluster up, or whatever of it does not run; returns when its node is Ready.

    Raises:
        LabUnavailable: this machine lacks something that the lab cannot install.
        LabError: a part did not work.
    """
    _require_machine()
    with cache.locked("cluster"):
        mark = cache.run_folder() / _OURS
        if mark.exists() and mark.read_text() != processes.boot_id():
            _end()
        if is_up():
            return _cluster()
        return _start()


def _end() -> None:
    for name in ("provisioner", "kwok", "coredns"):
        processes.stop(name)
    node.down()
    # Their data is removed anyway, and the API server takes long to say goodbye.
    for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        processes.stop(name, grace=0)
    for name in processes.names():
        processes.stop(name)
    processes.end_all(processes.marked())
    network.down()
    if (cache.run_folder() / _OURS).exists():
        shutil.rmtree(cache.run_folder())


def down() -> None:
    """Ends the cluster and removes all of its state; does nothing when there is none. The cache stays."""
    with cache.locked("cluster"):
        _end()
    if still := leftovers():
        raise LabError("the lab left behind: " + "; ".join(still))


def leftovers() -> list[str]:
    """What of a cluster is on this machine, in words; empty after `down`."""
    found = [f"process {pid}" for pid in processes.marked()]
    found += node.leftovers() + network.leftovers()
    if (cache.run_folder() / _OURS).exists():
        found.append(f"folder {cache.run_folder()}")
    return found


def status() -> str:
    """What runs, in a few lines."""
    lines = []
    for name in DAEMONS:
        pid = processes.running(name)
        lines.append(f"{name:<24} " + (f"runs, process {pid}" if pid else "does not run"))
    if is_up():
        cluster = _cluster()
        lines += ["", cluster.kubectl("get", "nodes", "-o", "wide").rstrip(), "", f"KUBECONFIG={cluster.kubeconfig}"]
    return "\n".join(lines)
