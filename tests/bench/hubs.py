"""The hubs that are compared, each a process of its own on this machine, outside the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from tests.bench.installation import SERVICE, install
from tests.hub.site import free_ports
from tests.lab.cluster import Cluster

__all__ = ["HUBS", "OURS", "Hub", "running"]

OURS = "armillary"
NAIVE = "naive"
HUBS = {
    "plain": "KubeSpawner",
    "quick-proxy": "KubeSpawner, quick proxy",
    OURS: "Armillary",
}
"""The hubs and what they are called in tables: JupyterHub, KubeSpawner and the proxy as they come; the same with a
proxy whose password is quick to check; ours."""

_HERE = Path(__file__).parent
_UP_S = 120.0
_DOWN_S = 60.0


@dataclass(frozen=True)
class Hub:
    """A hub that runs.

    Attributes:
        name: one of `HUBS`.
        url: where its proxy listens.
        namespace: where its pods are.
        rules: the proxy's file of routes.
        log: what the hub and its proxy have logged.
        service_pid: the process of the service with the controller; None where there is none.
        pid: returns the hub's own process.
        restart: ends the hub's process and starts it again; returns in how many seconds its API answered.
        token: of a client of the hub's API that may look at all servers.
        loop_record: what `loop_watch` writes there, where it was asked for.
        page_goes_straight_on: what its pending page does when the server is ready: go to the address that the
            event names (ours), or load itself again and be sent there (JupyterHub's own).
    """

    name: str
    url: str
    namespace: str
    rules: Path
    log: Path
    loop_record: Path
    page_goes_straight_on: bool
    pid: Callable[[], int]
    restart: Callable[[], float]
    token: str
    service_pid: int | None = None


def _tail(log: Path, lines: int = 25) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _wait_until_up(hub: Hub, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the {hub.name} hub ended with status {process.returncode}:\n{_tail(hub.log)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{hub.url}/hub/api/", timeout=5) as answer:
            if "version" in json.load(answer):
                return
        time.sleep(0.2)
    raise RuntimeError(f"the {hub.name} hub did not come up in {_UP_S:.0f} s:\n{_tail(hub.log)}")


def _start(command: Sequence[str], folder: Path, given: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | given,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the hub as a deployer would, and after a while everything of its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_DOWN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(
    name: str,
    cluster: Cluster,
    namespace: str,
    image: str,
    folder: Path,
    *,
    inventory: bool = False,
    loop_watch: bool = False,
    servers_at: str | None = None,
) -> Iterator[Hub]:
    """Run the hub `name` while the block runs. Its state and log lie in `folder`.

    Parameters
    ----------
    inventory
        With the shipped catalogue's accelerators instead of one profile without choices (ours only).
    loop_watch
        Watch who holds its event loop.
    servers_at
        `address:port` where every server is reached, instead of at its pod; without homes and limits then.

    Raises
    ------
    RuntimeError
        It did not come up; with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = _given(cluster, namespace, image, folder) | {"BENCH_HUB": name}
    if loop_watch:
        given["BENCH_LOOP"] = str(folder / "loop.json")
    if servers_at:
        given["BENCH_SERVERS"] = servers_at
    ours = name in (OURS, NAIVE)
    commands = [[sys.executable, "-m", "jupyterhub", "-f", str(_HERE / f"{OURS if ours else 'plain'}_config.py")]]
    rules = folder / "rules.toml"
    if ours:
        settings, proxy = install(folder, given, inventory=inventory)
        commands = [proxy, [*SERVICE, str(folder / "armillary.yaml")], *commands]
        rules = settings.paths.traefik_rules
    processes: list[subprocess.Popen[bytes]] = []

    def restart() -> float:
        _end(processes.pop())
        began = time.monotonic()
        processes.append(_start(commands[-1], folder, given, log))
        _wait_until_up(hub, processes[-1])
        return time.monotonic() - began

    hub = Hub(
        name,
        given["BENCH_URL"],
        namespace,
        rules,
        folder / "hub.log",
        folder / "loop.json",
        ours,
        lambda: processes[-1].pid,
        restart,
        given["BENCH_TOKEN"],
    )
    with hub.log.open("wb") as log:
        try:
            for command in commands:
                processes.append(_start(command, folder, given, log))
            _wait_until_up(hub, processes[-1])
            yield replace(hub, service_pid=processes[1].pid) if ours else hub
        finally:
            for process in reversed(processes):
                _end(process)


def _given(cluster: Cluster, namespace: str, image: str, folder: Path) -> dict[str, str]:
    """What the configuration files are told, by the environment."""
    public, api = free_ports(2, cluster.bridge_address)
    proxy_api, service = free_ports(2)
    given = {
        "BENCH_FOLDER": folder,
        "BENCH_URL": f"http://{cluster.bridge_address}:{public}",
        "BENCH_HUB_URL": f"http://{cluster.bridge_address}:{api}",
        "BENCH_PROXY_API_URL": f"http://127.0.0.1:{proxy_api}",
        "BENCH_SERVICE_URL": f"http://127.0.0.1:{service}",
        "BENCH_PROXY_PASSWORD": secrets.token_hex(16),
        "BENCH_TOKEN": secrets.token_hex(16),
        "BENCH_NAMESPACE": namespace,
        "BENCH_IMAGE": image,
        "BENCH_STORAGE_CLASS": cluster.storage_class,
        "KUBECONFIG": cluster.kubeconfig,
        # Where traefik is, which the plain hub starts by its name.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": _HERE.parents[1],
    }
    return {key: str(value) for key, value in given.items()}
