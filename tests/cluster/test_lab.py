"""The lab itself: what other tests of this folder rely on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jupyterhub
import pytest

from tests.lab import kubernetes, processes
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("lab") as name:
        yield name


def restricted_pod(namespace: str, name: str, image: str, command: list[str], **spec: Any) -> dict[str, Any]:
    """A pod that Pod Security "restricted" accepts, on a read-only root with /tmp and the home to write to."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        "securityContext": security,
        "volumeMounts": [{"name": "home", "mountPath": "/home/user"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    ids = spec.pop("ids", {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000})
    home = spec.pop("home", {"emptyDir": {}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **ids},
            "containers": [container],
            "volumes": [{"name": "home", **home}, {"name": "tmp", "emptyDir": {}}],
            **spec,
        },
    }


def run_to_end(cluster: Cluster, pod: dict[str, Any]) -> str:
    """Runs the pod until it has succeeded and returns what it printed."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    cluster.apply(pod)
    try:
        cluster.kubectl(
            "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "-n", namespace, "--timeout=90s"
        )
    except LabError as error:
        described = cluster.kubectl("describe", "pod", name, "-n", namespace)
        raise AssertionError(f"{error}\n{described}") from error
    return cluster.kubectl("logs", name, "-n", namespace)


def claim(namespace: str, name: str, storage_class: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def test_up_again_starts_nothing(cluster: Cluster) -> None:
    before = {name: processes.running(name) for name in kubernetes.DAEMONS}

    again = kubernetes.up()

    assert again == cluster
    assert {name: processes.running(name) for name in kubernetes.DAEMONS} == before


def test_base_image_runs_restricted_and_knows_the_cluster_by_name(cluster: Cluster, namespace: str) -> None:
    command = ["sh", "-c", "jupyterhub-singleuser --version && getent hosts kubernetes.default.svc.cluster.local && id"]

    said = run_to_end(cluster, restricted_pod(namespace, "names", cluster.image("base"), command))

    version, address, ids = said.strip().splitlines()
    assert version == jupyterhub.__version__
    assert address.split() == ["10.96.0.1", "kubernetes.default.svc.cluster.local"]
    assert "uid=1000" in ids
    assert "gid=1000" in ids


@pytest.mark.parametrize("ids", [{"uid": 54321, "gid": 54321}, {"uid": 70000, "gid": 0}], ids=["stranger", "group-0"])
def test_jupyterlab_answers_under_any_uid(cluster: Cluster, namespace: str, ids: dict[str, int]) -> None:
    image = cluster.image("base")
    # The server without a hub: the same programs, settings and folders. A broken package in the home stops it not.
    script = (
        "site=~/.local/lib/python3.11/site-packages; mkdir -p $site; echo 'raise SystemExit(9)' > $site/tornado.py; "
        "jupyter lab --no-browser --ip=127.0.0.1 --ServerApp.token=t >/tmp/log 2>&1 & "
        'for n in $(seq 300); do python3 -c "import urllib.request as u; '
        "print(u.urlopen('http://127.0.0.1:8888/api/status?token=t').read().decode())\" 2>/dev/null && break; sleep .2; "
        "done || cat /tmp/log; echo kept > ~/file; python -c 'import IPython, sys; print(6 * 7, sys.flags.no_user_site)'; "
        "touch /opt/no 2>&1; pip config get install.user"
    )
    pod = restricted_pod(
        namespace,
        "any",
        image,
        ["sh", "-c", script],
        ids={"runAsUser": ids["uid"], "runAsGroup": ids["gid"], "fsGroup": ids["gid"]},
    )

    lines = run_to_end(cluster, pod).strip().splitlines()

    assert json.loads(lines[0])["kernels"] == 0
    assert lines[1] == "42 0"
    assert "Read-only file system" in lines[2]
    assert lines[3] == "true"


def test_base_image_has_the_jupyterlab_extension(cluster: Cluster, namespace: str) -> None:
    command = [
        "sh",
        "-c",
        "jupyter server extension list 2>&1; jupyter labextension list 2>&1; python -c 'import pynvml'",
    ]

    said = run_to_end(cluster, restricted_pod(namespace, "extension", cluster.image("base"), command))

    plain = re.sub(r"\x1b\[\d*m", "", said)
    assert re.search(r"^\s*armillary_lab\s+enabled$", plain, re.MULTILINE), said
    assert re.search(r"^\s*armillary-lab v\d\S* enabled OK", plain, re.MULTILINE), said
    assert "Error" not in said


def test_home_outlives_its_pod(cluster: Cluster, namespace: str) -> None:
    image = cluster.image("base")
    home = {"persistentVolumeClaim": {"claimName": "home"}}
    cluster.apply(claim(namespace, "home", cluster.storage_class))

    write = restricted_pod(namespace, "first", image, ["sh", "-c", "echo 42 > ~/answer"], home=home)
    run_to_end(cluster, write)
    cluster.kubectl("delete", "pod", "first", "-n", namespace)
    read = restricted_pod(namespace, "second", image, ["cat", "/home/user/answer"], home=home)

    assert run_to_end(cluster, read).strip() == "42"


def test_deleted_claim_takes_its_volume_along(cluster: Cluster, namespace: str) -> None:
    cluster.apply(claim(namespace, "short", cluster.storage_class))
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/short", "-n", namespace, "--timeout=30s")
    volume = cluster.kubectl("get", "pvc", "short", "-n", namespace, "-o", "jsonpath={.spec.volumeName}")

    cluster.kubectl("delete", "pvc", "short", "-n", namespace)

    cluster.kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=30s")


def test_plain_pod_is_refused_where_restricted_is_enforced(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(LabError, match='violates PodSecurity "restricted:latest"'):
        cluster.kubectl("run", "plain", f"--image={cluster.image('base')}", "-n", namespace)


def test_simulated_node_runs_a_pod_that_asks_for_its_accelerator(cluster: Cluster, namespace: str) -> None:
    name = f"sim-{namespace}"
    cluster.add_simulated_node(name, {"nvidia.com/mig-1g.5gb": "7"}, labels={"lab.test/node": name})
    try:
        pod = restricted_pod(
            namespace,
            "gpu",
            "localhost/none:1",
            ["true"],
            nodeSelector={"lab.test/node": name},
            tolerations=[{"operator": "Exists"}],
        )
        pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/mig-1g.5gb": "2"}}
        cluster.apply(pod)
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/gpu", "-n", namespace, "--timeout=60s")
    finally:
        cluster.remove_node(name)


def test_service_leads_to_a_pod(cluster: Cluster, namespace: str) -> None:
    server = restricted_pod(
        namespace,
        "server",
        cluster.image("base"),
        ["python3", "-m", "http.server", "8000", "--directory", "/opt/jupyter/etc"],
    )
    server["metadata"]["labels"] = {"app": "server"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    cluster.apply(server, service)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/server", "-n", namespace, "--timeout=60s")
    ask = (
        "for n in $(seq 100); do python3 -c \"import urllib.request as u; print(u.urlopen('http://web/').status)\" "
        "2>/dev/null && exit 0; sleep .1; done; exit 1"
    )

    assert run_to_end(cluster, restricted_pod(namespace, "client", cluster.image("base"), ["sh", "-c", ask])) == "200\n"


def test_another_user_of_the_cluster_may_nothing(cluster: Cluster) -> None:
    kubeconfig = cluster.kubeconfig_for("nobody-special", ["nothing-special"])
    with pytest.raises(LabError, match="nobody-special"):
        cluster.kubectl(f"--kubeconfig={kubeconfig}", "get", "pods", "--all-namespaces")
