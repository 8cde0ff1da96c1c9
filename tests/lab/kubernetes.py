"""A real Kubernetes on this machine: `up()`, `down()`, `status()`; cluster.py has what tests ask of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab import build, cache, control_plane, dns, images, kwok, network, node, packages, processes, provisioner
from tests.lab.cluster import Cluster, authority
from tests.lab.errors import LabError, LabUnavailable

_REPOSITORY = Path(__file__).resolve().parents[2]
# Made by the lab in its run folder, so that `down` never removes a folder that is not the lab's.
_OURS = ".armillary-lab"
# With this much free memory (bytes) the run folder is in memory: a running lab fills about 2 GiB of it.
_MEMORY_FOR_TMPFS = 10 * 2**30
# There when tests have started the cluster, so that the last of them ends it.
_FOR_TESTS = ".for-tests"
_IN_USE = "cluster-in-use"


def _cluster() -> Cluster:
    kubeconfig = authority().kubeconfig("admin", control_plane.SERVER, "lab-admin", ["system:masters"])
    return Cluster(kubeconfig, network.ADDRESS, node.NAME, provisioner.STORAGE_CLASS, build.kubernetes())


def _require_machine() -> None:
    if sys.platform != "linux":
        raise LabUnavailable("The lab's Kubernetes needs Linux: Debian 12, as root.")
    if os.geteuid() != 0:
        raise LabUnavailable("The lab's Kubernetes needs root (network, mounts, cgroups); run as root on Debian 12.")
    packages.install(packages.CLUSTER)


def make_run_folder() -> None:
    """Makes the folder of everything that runs; in memory where root has enough of it."""
    run = cache.run_folder()
    if run.exists() and not (run / _OURS).exists() and any(run.iterdir()):
        raise LabError(f"{run} is not empty and not the lab's; name another folder in ARMILLARY_LAB_RUN")
    run.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and not any(run.iterdir()) and _free_memory() > _MEMORY_FOR_TMPFS:
        # Images are thousands of small files, and a disk that others use makes minutes of them.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "armillary-lab", str(run)], check=True)
    (run / _OURS).write_text(processes.boot_id())


def _free_memory() -> int:
    """Bytes of memory that could be used without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


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
    make_run_folder()
    network.up(cache.run_folder() / "cni")
    issuer = authority()
    control_plane.start_etcd()
    control_plane.start_apiserver(programs, issuer)
    control_plane.start_controllers(programs, issuer)
    node.start_containerd(pause)
    node.import_image(pause, pause_archive)
    node.start_kubelet(programs, issuer)
    node.start_proxy(programs, issuer)
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
    for name in ("policies", "provisioner", "kwok", "coredns"):
        processes.stop(name)
    node.down()
    # Their data is removed anyway, and the API server takes long to say goodbye.
    for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        processes.stop(name, grace=0)
    for name in processes.names():
        processes.stop(name)
    processes.end_all(processes.marked())
    network.down()
    run = cache.run_folder()
    if (run / _OURS).exists():
        if run.is_mount():
            subprocess.run(["umount", "--lazy", str(run)], check=True, capture_output=True)
        shutil.rmtree(run)


def _down() -> None:
    with cache.locked("cluster"):
        _end()
        if still := leftovers():
            raise LabError("the lab left behind: " + "; ".join(still))


def down() -> None:
    """Ends the cluster and removes all of its state; does nothing when there is none. The cache stays.

    Raises:
        LabError: a test run uses the cluster, or something of it is left.
    """
    with cache.shared(_IN_USE) as last:
        if not last():
            raise LabError("a test run uses the cluster and will end it or leave it; try again after that")
        _down()


def keep() -> None:
    """Leaves a cluster that tests have started to the person who now uses it."""
    (cache.run_folder() / _FOR_TESTS).unlink(missing_ok=True)


@contextlib.contextmanager
def in_use() -> Iterator[Cluster]:
    """The running cluster, which no other test run takes down meanwhile.

    The last user ends it, unless it was up before the first one, or ARMILLARY_LAB_KEEP=1 asks to keep it.
    """
    with cache.shared(_IN_USE) as last:
        started = not is_up()
        running = up()
        mark = cache.run_folder() / _FOR_TESTS
        if started and os.environ.get("ARMILLARY_LAB_KEEP") != "1":
            mark.touch()
        try:
            yield running
        finally:
            if mark.exists() and last():
                _down()


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
    for name in sorted({*DAEMONS, *processes.names()}, key=lambda name: (name not in DAEMONS, name)):
        pid = processes.running(name)
        lines.append(f"{name:<24} " + (f"runs, process {pid}" if pid else "does not run"))
    if is_up():
        cluster = _cluster()
        lines += ["", cluster.kubectl("get", "nodes", "-o", "wide").rstrip(), "", f"KUBECONFIG={cluster.kubeconfig}"]
    return "\n".join(lines)
