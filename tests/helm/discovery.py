"""What Prometheus' discovery of targets in Kubernetes finds, as files for one that is built without it, as Debian's is.

Labels as https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config has them, those
that the Prometheus Operator's relabelings ask for.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

__all__ = ["ROLES", "followed", "pods", "services"]

Object = Mapping[str, Any]
ROLES = ("endpointslice", "pod")
_AGAIN_S = 1.0


def services(found: Sequence[Object], slices: Sequence[Object]) -> list[dict[str, Any]]:
    """Return the targets of the role `endpointslice`, ready or not; `found` are the Services."""
    labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in found}
    return [
        _group(
            address,
            port["port"],
            {
                "namespace": one["metadata"]["namespace"],
                "service_name": str(name),
                "endpointslice_port_name": port.get("name") or "",
                "pod_name": (endpoint.get("targetRef") or {}).get("name") or "",
                **_labels("service", labels[name]),
            },
        )
        for one in slices
        if (name := (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name")) in labels
        for endpoint in one["endpoints"] or ()
        for address in endpoint["addresses"]
        for port in one["ports"] or ()
    ]


def pods(found: Sequence[Object]) -> list[dict[str, Any]]:
    """Return the targets of the role `pod`: every port that a container of a pod with an address declares."""
    return [
        _group(
            one["status"]["podIP"],
            port["containerPort"],
            {
                "namespace": one["metadata"]["namespace"],
                "pod_name": one["metadata"]["name"],
                "pod_phase": one["status"]["phase"],
                "pod_container_port_name": port.get("name") or "",
                **_labels("pod", one["metadata"].get("labels") or {}),
            },
        )
        for one in found
        if one["status"].get("podIP")
        for container in one["spec"]["containers"]
        for port in container.get("ports") or ()
    ]


def _labels(kind: str, said: Mapping[str, str]) -> dict[str, str]:
    return {f"{kind}_label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value for name, value in said.items()}


def _group(address: str, port: int, labels: Mapping[str, str]) -> dict[str, Any]:
    said = {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
    return {"targets": [f"{address}:{port}"], "labels": said}


@contextlib.contextmanager
def followed(kubeconfig: Path, namespace: str, folder: Path) -> Iterator[Path]:
    """Keep a file of the targets of a namespace for each role, while the block runs.

    Yields:
        The folder; each file is called after its role: `pod.json`.
    """
    ended = threading.Event()
    written = threading.Event()

    def follow() -> None:
        while not ended.is_set():
            # An API server that does not answer is asked again; targets stay what they were.
            with contextlib.suppress(client.ApiException, urllib3.exceptions.HTTPError):
                _write(folder, _asked(kubeconfig, namespace))
                written.set()
            ended.wait(_AGAIN_S)

    folder.mkdir(parents=True, exist_ok=True)
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        assert written.wait(60), "the API server does not say what there is to watch"
        yield folder
    finally:
        ended.set()
        thread.join(60)


def _asked(kubeconfig: Path, namespace: str) -> dict[str, list[dict[str, Any]]]:
    with config.new_client_from_config(str(kubeconfig)) as api:
        core = client.CoreV1Api(api)

        def items(list_all: Any) -> list[Any]:
            answer = list_all(namespace, _preload_content=False, _request_timeout=10)
            return list(json.loads(answer.data)["items"])

        slices = items(client.DiscoveryV1Api(api).list_namespaced_endpoint_slice)
        return {
            "endpointslice": services(items(core.list_namespaced_service), slices),
            "pod": pods(items(core.list_namespaced_pod)),
        }


def _write(folder: Path, targets: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for role, groups in targets.items():
        file, text = folder / f"{role}.json", json.dumps(groups, indent=1)
        if file.exists() and file.read_text() == text:
            continue
        partial = folder / f"{role}.new"
        partial.write_text(text)
        partial.rename(file)
