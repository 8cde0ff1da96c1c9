"""`armillary discover cluster` against a real API server: what it prints of simulated nodes is a catalogue that loads."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiles.loader import loads
from profiles.model import Accelerator
from tests.hub.discover_world import DEVICE_CLASSES, dra_slice
from tests.lab.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
REST = "profiles:\n  one: {title: One}\n"
NODES = {
    "a100": ({"nvidia.com/gpu.product": "NVIDIA-A100-Discovered", "nvidia.com/gpu.memory": "40960"}, "nvidia.com/mig-1g.5gb", "21"),
    "t4": ({"nvidia.com/gpu.product": "Tesla-T4-Discovered", "nvidia.com/gpu.memory": "15360"}, "nvidia.com/gpu", "2"),
    "u55c": ({}, "discovered.example.org/fpga-u55c", "3"),
}  # fmt: skip


def armillary(cluster: Cluster, *words: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(kubeconfig or cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def applied(cluster: Cluster, *objects: dict[str, Any]) -> Iterator[None]:
    cluster.apply(*objects)
    try:
        yield
    finally:
        for one in objects:
            cluster.kubectl("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="module")
def hardware(cluster: Cluster) -> Iterator[str]:
    """Simulated nodes, and devices by DRA on one of them; the value is the prefix of their names."""
    prefix = f"disc-{secrets.token_hex(3)}"
    driver = "gpu.nvidia.com"
    card = {
        "name": "gpu-0",
        "attributes": {"type": {"string": "gpu"}, "productName": {"string": f"NVIDIA {prefix} #: 'odd\"\u2028"[:64]}},
        "capacity": {"memory": {"value": "80Gi"}},
    }
    part = {
        "name": "gpu-0-mig-0",
        "attributes": {"type": {"string": "mig"}, "productName": {"string": f"NVIDIA {prefix}"}, "profile": {"string": "2g.20gb"}},
    }  # fmt: skip
    described = dra_slice(f"{prefix}-t4", driver, [card, part])
    slices = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **described}
    classes = [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": f"{prefix}.{one['metadata']['name']}"},
            "spec": one["spec"],
        }
        for one in DEVICE_CLASSES
    ]
    try:
        for name, (labels, resource, count) in NODES.items():
            cluster.add_simulated_node(f"{prefix}-{name}", {resource: count}, labels, tainted=name != "u55c")
        cluster.kubectl("cordon", f"{prefix}-t4")
        with applied(cluster, *classes, slices):
            yield prefix
    finally:
        for name in NODES:
            cluster.remove_node(f"{prefix}-{name}")


def test_nodes_and_devices_become_a_catalogue(cluster: Cluster, hardware: str, tmp_path: Path) -> None:
    done = armillary(cluster, "discover", "cluster")
    assert (done.returncode, done.stderr) == (0, "")
    cards = loads(done.stdout + REST).accelerators.values()

    def of(resource: str, product: str | None = None) -> Accelerator:
        """Others may have simulated nodes there too."""
        for card in cards:
            device = card.kubernetes
            values = device.node_labels.get("nvidia.com/gpu.product", ()) if device else ()
            if device and device.resource == resource and (product is None or product in values):
                return card
        raise AssertionError(done.stdout)

    slice_ = of("nvidia.com/mig-1g.5gb", "NVIDIA-A100-Discovered")
    whole = of("nvidia.com/gpu", "Tesla-T4-Discovered")
    board = of("discovered.example.org/fpga-u55c")
    assert slice_.kubernetes is not None
    assert "A100 Discovered" in slice_.title
    assert slice_.kubernetes.node_labels == {"nvidia.com/gpu.product": ("NVIDIA-A100-Discovered",)}
    assert [taint.key for taint in slice_.kubernetes.tolerations] == ["kwok.x-k8s.io/node"]
    assert (slice_.per_node, str(slice_.share)[:6]) == (21, "0.1428")
    assert (whole.per_node, whole.memory) == (2, 15360 * 2**20)
    assert board.kubernetes is not None
    assert (board.per_node, board.kubernetes.tolerations) == (3, ())
    assert f"# cordoned: 1 node: {hardware}-t4\n" in done.stdout
    assert f"# allocatable on 1 node: {hardware}-a100\n" in done.stdout

    dra = [card.kubernetes.dra for card in cards if card.kubernetes and card.kubernetes.dra]
    mine = {one.device_class: one.selectors for one in dra if one.device_class.startswith(hardware)}
    assert set(mine) == {f"{hardware}.gpu.nvidia.com", f"{hardware}.mig.nvidia.com"}
    (selector,) = mine[f"{hardware}.gpu.nvidia.com"]
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "found"},
        "spec": {
            "devices": {
                "requests": [
                    {
                        "name": "one",
                        "exactly": {
                            "deviceClassName": f"{hardware}.gpu.nvidia.com",
                            "selectors": [{"cel": {"expression": selector}}],
                        },
                    }
                ]
            }
        },
    }
    with cluster.namespace("disc") as namespace:
        cluster.apply({**claim, "metadata": {"name": "found", "namespace": namespace}})  # the API server compiles it


def test_the_whole_catalogue_passes_the_check(cluster: Cluster, hardware: str, tmp_path: Path) -> None:
    (tmp_path / "found.yaml").write_text(armillary(cluster, "discover", "cluster", "--complete").stdout)
    checked = armillary(cluster, "check", str(tmp_path / "found.yaml"))
    assert (checked.stdout, checked.returncode) == ("no problems\n", 0)


def test_without_the_right_the_missing_one_is_named(cluster: Cluster) -> None:
    nobody = cluster.kubeconfig_for("disc-nobody", ["disc-nothing"])
    done = armillary(cluster, "discover", "cluster", kubeconfig=nobody)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("These credentials may not list nodes in the whole cluster ")
    assert "Traceback" not in done.stderr


def test_with_nodes_only_the_rest_is_said_to_be_out_of_sight(cluster: Cluster, hardware: str) -> None:
    name = f"{hardware}-nodes"
    some = cluster.kubeconfig_for(name, [name])
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    with applied(cluster, role, binding):
        done = armillary(cluster, "discover", "cluster", kubeconfig=some)
    assert done.returncode == 0
    assert (
        "# Left out: These credentials may not list resourceslices of resource.k8s.io in the whole cluster"
        in done.stdout
    )
    assert "T4 Discovered" in done.stdout


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("", "cannot be used"),
        ("not: [a kubeconfig", "cannot be used"),
        ("server: https://127.0.0.1:1", "does not answer"),
    ],
    ids=["empty", "no-yaml", "nobody-there"],
)
def test_no_api_is_a_sentence(cluster: Cluster, tmp_path: Path, broken: str, says: str) -> None:
    text = cluster.kubeconfig.read_text().replace("https://10.88.0.1:6443", "https://127.0.0.1:1")
    (tmp_path / "config").write_text(text if broken.startswith("server") else broken)
    done = armillary(cluster, "discover", "cluster", kubeconfig=tmp_path / "config")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
