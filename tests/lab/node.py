"""The one real node: containerd, kubelet and kube-proxy, each with all of its state in the run folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.lab import cache, control_plane, network, processes
from tests.lab.pki import Authority

NAME = "lab"
# All pods live below a cgroup of our own, so that they are told from those of any other cluster here.
_CGROUP = "armillary-lab"
_CONTAINER_LOG_LINKS = Path("/var/log/containers")
_CGROUPS = Path("/sys/fs/cgroup")
# Shims listen here whatever containerd is told (a constant of its runtime).
_SHIM_SOCKETS = Path("/run/containerd/s")


def containerd_socket() -> Path:
    """Where our containerd listens; a system's own containerd is never touched."""
    return cache.run_folder() / "containerd.sock"


def _containerd_config(pause_image: str) -> str:
    run = cache.run_folder()
    quoted = {name: json.dumps(str(run / name)) for name in ("containerd", "state", "opt", "cni", "runc")}
    return f"""\
version = 2
root = {quoted["containerd"]}
state = {quoted["state"]}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
address = {json.dumps(str(containerd_socket()))}
[plugins."io.containerd.internal.v1.opt"]
path = {quoted["opt"]}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {json.dumps(pause_image)}
# Without CAP_SYS_RESOURCE a negative score cannot be set, and runc fails without saying why.
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = {quoted["cni"]}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = {quoted["runc"]}
"""


def start_containerd(pause_image: str) -> None:
    """Starts the container runtime and waits until it answers."""
    config = cache.run_folder() / "containerd.toml"
    config.write_text(_containerd_config(pause_image))
    processes.start("containerd", ["containerd", "--config", config])

    def answers() -> bool:
        return (
            subprocess.run(
                ["ctr", "-a", str(containerd_socket()), "version"], capture_output=True, check=False
            ).returncode
            == 0
        )

    processes.wait_until(answers, "containerd's answer", "containerd")


def ctr(*arguments: str) -> str:
    """Runs containerd's client in the namespace that Kubernetes uses; raises CalledProcessError."""
    command = ["ctr", "-a", str(containerd_socket()), "-n", "k8s.io", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def import_image(reference: str, archive: Path) -> None:
    """Gives the node the image of this archive, unless it has it."""
    with cache.locked("import"):
        if not ctr("images", "list", "--quiet", f"name=={reference}").strip():
            ctr("images", "import", "--snapshotter=overlayfs", str(archive))


def _kubelet_config(authority: Authority) -> dict[str, object]:
    run = cache.run_folder()
    serving, key = authority.issue("kubelet-serving", f"system:node:{NAME}", hosts=[NAME, network.ADDRESS])
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving),
        "tlsPrivateKeyFile": str(key),
        "address": network.ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "containerRuntimeEndpoint": f"unix://{containerd_socket()}",
        "clusterDNS": [network.ADDRESS],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{_CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {},
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "serializeImagePulls": False,
        "podLogsDir": str(run / "pod-logs"),
        "volumePluginDir": str(run / "flexvolume"),
    }


def start_kubelet(programs: Path, authority: Authority) -> None:
    """Starts the node's agent; the node's readiness is for the caller to wait for."""
    run = cache.run_folder()
    if processes.running("kubelet") is None:
        control_plane.require_free_port(10250, network.ADDRESS, "kubelet")
    _make_cgroups()
    config = run / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(authority), indent=1))
    kubeconfig = authority.kubeconfig("kubelet", control_plane.SERVER, f"system:node:{NAME}", ["system:nodes"])
    processes.start(
        "kubelet",
        [
            programs / "kubelet",
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={run / 'kubelet'}",
            f"--cert-dir={run / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.ADDRESS}",
        ],
    )


def start_proxy(programs: Path, authority: Authority) -> None:
    """Starts kube-proxy, which makes the services' addresses work."""
    kubeconfig = authority.kubeconfig("kube-proxy", control_plane.SERVER, "system:kube-proxy")
    config = cache.run_folder() / "kube-proxy.json"
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": network.PODS,
        "hostnameOverride": NAME,
        # Zero leaves the machine's own limits and times alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"localhostNodePorts": False, "minSyncPeriod": "0s"},
        "healthzBindAddress": "127.0.0.1",
        "metricsBindAddress": "127.0.0.1",
        "oomScoreAdj": 0,
    }
    config.write_text(json.dumps(settings, indent=1))
    processes.start("kube-proxy", [programs / "kube-proxy", f"--config={config}"])


def _make_cgroups() -> None:
    """Makes the pods' cgroup in every hierarchy that has controllers; the kubelet wants to find it."""
    if (_CGROUPS / "cgroup.controllers").exists():
        hierarchies = [_CGROUPS]
    else:
        lines = Path("/proc/cgroups").read_text().splitlines()[1:]
        controllers = [fields[0] for fields in map(str.split, lines) if fields[1] != "0"]
        hierarchies = [_CGROUPS / controller for controller in [*controllers, "systemd"]]
    for hierarchy in hierarchies:
        if hierarchy.is_dir():
            (hierarchy / _CGROUP).mkdir(exist_ok=True)


def _cgroups() -> list[Path]:
    """Cgroups of pods, deepest first, in every hierarchy."""
    tops = [path for path in (_CGROUPS / _CGROUP, *_CGROUPS.glob(f"*/{_CGROUP}")) if path.is_dir()]
    found = [Path(folder) for top in tops for folder, _, _ in os.walk(top)]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _pids_in_pods() -> Iterator[int]:
    for cgroup in _cgroups():
        try:
            yield from map(int, (cgroup / "cgroup.procs").read_text().split())
        except OSError:
            continue


def _shim_sockets() -> list[Path]:
    addresses = (cache.run_folder() / "state").glob("io.containerd.runtime.v2.task/k8s.io/*/address")
    sockets = (Path(file.read_text().strip().removeprefix("unix://")) for file in addresses)
    return [socket for socket in sockets if socket.parent == _SHIM_SOCKETS]


def _mounts() -> list[str]:
    """Mounts below the run folder, innermost first."""
    run = str(cache.run_folder())
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(run + "/"):
            points.append(point)
    return points[::-1]


def _our_log_links() -> list[Path]:
    run = str(cache.run_folder()) + "/"
    links = _CONTAINER_LOG_LINKS.glob("*.log")
    return [link for link in links if link.is_symlink() and os.readlink(link).startswith(run)]


def down() -> None:
    """Ends kubelet, every container and containerd, and removes their cgroups, sockets and mounts."""
    for name in ("kubelet", "kube-proxy"):
        processes.stop(name)
    sockets = _shim_sockets()
    processes.end_all(_pids_in_pods())
    processes.stop("containerd", grace=1)
    processes.end_all(processes.marked("containerd-shim"))
    for socket in sockets:
        socket.unlink(missing_ok=True)
    for point in _mounts():
        subprocess.run(["umount", "--lazy", point], check=True, capture_output=True)
    for cgroup in _cgroups():
        cgroup.rmdir()
    for link in _our_log_links():
        link.unlink()


def leftovers() -> list[str]:
    """What of the node is still there, in words; empty after `down`."""
    found = [f"mount {point}" for point in _mounts()]
    found += [f"cgroup {cgroup}" for cgroup in _cgroups()]
    found += [f"link {link}" for link in _our_log_links()]
    return found
