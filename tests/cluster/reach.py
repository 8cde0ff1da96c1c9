"""Pods that listen, and what is reached from inside a pod."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.lab.cluster import Cluster

__all__ = ["CLOSED", "OPEN", "SILENT", "Target", "addresses", "listener", "listening", "reached", "wait_ready"]

Target = tuple[str, int]
"""A host, by name or address, and a TCP port."""

OPEN, SILENT, CLOSED = "open", "silent", "closed"
"""A connection was made; nothing came back at all, as where packets are dropped; the host said that nothing listens."""

_LISTEN = """
import select, socket, sys
all = [socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[1:]]
print("listening", flush=True)
while True:
    for one in select.select(all, [], [])[0]:
        one.accept()[0].close()
"""

# Long enough for a busy machine, and all targets are tried at once.
_PATIENCE_S = 4
_ASK = """
import errno, json, socket, sys, threading
told = {}
def ask(host, port):
    try:
        socket.create_connection((host, port), timeout=float(sys.argv[2])).close()
        told[f"{host} {port}"] = "open"
    except TimeoutError:
        told[f"{host} {port}"] = "silent"
    except OSError as error:
        told[f"{host} {port}"] = "closed" if error.errno == errno.ECONNREFUSED else str(error)
threads = [threading.Thread(target=ask, args=target) for target in json.loads(sys.argv[1])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(told))
"""


def listener(
    name: str, namespace: str, image: str, ports: Mapping[str, int], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return a pod that listens at these named ports and answers nothing; Pod Security "restricted" accepts it."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _LISTEN, *map(str, ports.values())],
        "ports": [{"name": each, "containerPort": number} for each, number in ports.items()],
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", "test $(grep -c ' 0A ' /proc/net/tcp6) -ge " + str(len(ports))]},
            "periodSeconds": 1,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def wait_ready(cluster: Cluster, namespace: str) -> None:
    """Wait until all pods of a namespace are ready."""
    cluster.kubectl("wait", "--for=condition=Ready", "pods", "--all", "-n", namespace, "--timeout=90s")


def addresses(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Return the address of every pod of a namespace, by name."""
    found = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in found}


def reached(cluster: Cluster, namespace: str, pod: str, targets: Sequence[Target]) -> dict[Target, str]:
    """Try these targets from inside a pod, all at once; return what became of each: `OPEN`, `SILENT`, `CLOSED` or an
    error's text.
    """
    ask = ["python3", "-c", _ASK, json.dumps(targets), str(_PATIENCE_S)]
    told = json.loads(cluster.kubectl("exec", "-n", namespace, pod, "--", *ask))
    return {(host, port): told[f"{host} {port}"] for host, port in targets}


@contextlib.contextmanager
def listening(address: str, *ports: int) -> Iterator[list[int]]:
    """Listen at an address of this machine, at free ports where 0 is given; yields the ports."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((address, port))) for port in ports]
        stop = threading.Event()

        def take(server: socket.socket) -> None:
            server.settimeout(0.2)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    server.accept()[0].close()

        threads = [threading.Thread(target=take, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        try:
            yield [server.getsockname()[1] for server in servers]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
