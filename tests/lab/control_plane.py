"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of this machine."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from tests.lab import cache, network, processes
from tests.lab.errors import LabError
from tests.lab.pki import Authority

PORT = 6443
SERVER = f"https://{network.ADDRESS}:{PORT}"
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"
# The first address of the services' range is always the API server's.
_SERVICE_ADDRESS = "10.96.0.1"


def _answers(url: str, authority: Authority | None = None) -> bool:
    context = None
    if authority is not None:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        certificate, key = authority.issue("admin", "lab-admin", ["system:masters"])
        context.load_cert_chain(certificate, key)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def require_free_port(port: int, address: str, daemon: str) -> None:
    """Raises LabError when something else listens where `daemon` is about to."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise LabError(
                f"{daemon} needs {address}:{port}, which another program has: {error.strerror}. "
                "End that program (another Kubernetes or etcd on this machine?) and try again."
            ) from error


def start_etcd() -> None:
    """Starts the database; durability is given up for speed, as its data never outlives the lab."""
    if processes.running("etcd") is None:
        require_free_port(2379, "127.0.0.1", "etcd")
    processes.start(
        "etcd",
        [
            "etcd",
            "--name=lab",
            f"--data-dir={cache.run_folder() / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=lab={_ETCD_PEER}",
            "--unsafe-no-fsync",
            "--quota-backend-bytes=8589934592",
            "--auto-compaction-retention=5m",
            "--log-level=warn",
        ],
    )
    processes.wait_until(partial(_answers, f"{_ETCD}/health"), "etcd's health", "etcd")


def start_apiserver(programs: Path, authority: Authority) -> None:
    """Starts the API server on the bridge's address and waits until it is ready."""
    hosts = [
        network.ADDRESS,
        _SERVICE_ADDRESS,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    serving, serving_key = authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    kubelet_client, kubelet_client_key = authority.issue("apiserver-kubelet", "kube-apiserver", ["system:masters"])
    if processes.running("kube-apiserver") is None:
        require_free_port(PORT, network.ADDRESS, "kube-apiserver")
    processes.start(
        "kube-apiserver",
        [
            programs / "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--bind-address={network.ADDRESS}",
            f"--advertise-address={network.ADDRESS}",
            f"--secure-port={PORT}",
            f"--tls-cert-file={serving}",
            f"--tls-private-key-file={serving_key}",
            f"--client-ca-file={authority.certificate}",
            f"--kubelet-certificate-authority={authority.certificate}",
            f"--kubelet-client-certificate={kubelet_client}",
            f"--kubelet-client-key={kubelet_client_key}",
            # Without this `kubectl logs` looks the node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={network.SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={authority.folder / 'service-account.pub'}",
            f"--service-account-signing-key-file={authority.folder / 'service-account.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            # Debian's etcd cannot report a watch's progress, which lists by watch need; with this they are refused at
            # once and clients list the plain way, instead of failing late and trying again with growing pauses.
            "--feature-gates=WatchList=false",
            "--profiling=false",
        ],
    )
    ready = partial(_answers, f"{SERVER}/readyz", authority)
    processes.wait_until(ready, "the API server's readiness", "kube-apiserver", seconds=120)


def start_controllers(programs: Path, authority: Authority) -> None:
    """Starts controller-manager and scheduler; both connect by themselves, so nothing is waited for."""
    controllers = authority.kubeconfig("controller-manager", SERVER, "system:kube-controller-manager")
    processes.start(
        "kube-controller-manager",
        [
            programs / "kube-controller-manager",
            f"--kubeconfig={controllers}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--root-ca-file={authority.certificate}",
            f"--service-account-private-key-file={authority.folder / 'service-account.key'}",
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.folder / 'ca.key'}",
            f"--cluster-cidr={network.PODS}",
            f"--flex-volume-plugin-dir={cache.run_folder() / 'flexvolume'}",
            # Simulated nodes renew their leases every 5 minutes (tests/lab/kwok.py); a node that is not heard of for 50 s,
            # the default, would be called lost on a busy machine, and its pods with it.
            "--node-monitor-grace-period=30m",
        ],
    )
    scheduler = authority.kubeconfig("scheduler", SERVER, "system:kube-scheduler")
    processes.start(
        "kube-scheduler",
        [
            programs / "kube-scheduler",
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
    )
