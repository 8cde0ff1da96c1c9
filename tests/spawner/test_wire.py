"""Of the API server's JSON only what somebody here uses is read, and everything that diagnosis needs is among it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spawner.diagnosis import diagnose
from spawner.pod_progress import step
from spawner.wire import Event, Pod, read_change, read_page

MANAGED = [{"manager": "kubelet", "fieldsV1": {f"f:{number}": {} for number in range(100)}}]


def pod(**status: Any) -> dict[str, Any]:
    """A pod as the API server sends it, with much that nobody here asks for."""
    container = {
        "name": "notebook",
        "image": "registry.example/base:1",
        "ports": [{"name": "notebook-port", "containerPort": 8888, "protocol": "TCP"}],
        "resources": {"limits": {"memory": "1G"}},
        "env": [{"name": "PATH", "value": "/bin"}],
        "volumeMounts": [{"name": "home", "mountPath": "/home/user"}],
    }
    metadata = {
        "name": "jupyter-ann",
        "namespace": "default",
        "uid": "u1",
        "resourceVersion": "7",
        "labels": {"component": "singleuser-server"},
        "annotations": {"armillary/spawn-id": "s1"},
        "managedFields": MANAGED,
    }
    spec = {"nodeName": "n1", "containers": [container], "volumes": [{"name": "home"}], "tolerations": []}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def line(kind: str, item: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode()


def test_of_a_pod_what_is_used_is_kept_and_the_rest_left_out() -> None:
    change = read_change(line("MODIFIED", pod(phase="Running", podIP="10.0.0.1")), Pod)

    assert change.type == "MODIFIED"
    kept = change.object
    assert kept["status"] == {"phase": "Running", "podIP": "10.0.0.1"}
    assert kept["metadata"]["annotations"] == {"armillary/spawn-id": "s1"}
    [container] = kept["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == 8888
    assert container.keys() == {"name", "image", "ports", "resources"}
    assert kept["spec"].keys() == {"nodeName", "containers"}
    assert "managedFields" not in kept["metadata"]


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        {
            "phase": "Failed",
            "containerStatuses": [
                {"name": "notebook", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
            ],
        },
        {"phase": "Running", "conditions": [{"type": "DisruptionTarget", "reason": "EvictionByEvictionAPI"}]},
        {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    ],
)
def test_what_is_kept_says_the_same_as_the_whole(status: dict[str, Any]) -> None:
    whole = pod(**status)
    whole["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z" if "conditions" in status else None
    event = {
        "metadata": {"name": "e1", "namespace": "default", "managedFields": MANAGED},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "jupyter-ann", "uid": "u1"},
        "type": "Normal",
        "reason": "Pulling",
        "message": "Pulling image",
        "source": {"component": "kubelet"},
    }
    kept = read_change(line("MODIFIED", whole), Pod).object
    heard = read_change(line("ADDED", event), Event).object

    assert diagnose(kept, [heard]) == diagnose(whole, [event])
    assert step(kept, [heard]) == step(whole, [event])
    assert "source" not in heard
    assert "managedFields" not in heard["metadata"]


@pytest.mark.parametrize("shape", [Pod, Event, Any])
def test_bookmarks_and_errors_are_read_in_every_shape(shape: Any) -> None:
    # As API servers send them: of a bookmark's pod, the containers are null.
    empty = {"metadata": {"resourceVersion": "12", "creationTimestamp": None}, "spec": {"containers": None}}
    bookmark = read_change(line("BOOKMARK", {"kind": "Pod", **empty, "status": {}}), shape)
    assert (bookmark.type, bookmark.object["metadata"]["resourceVersion"]) == ("BOOKMARK", "12")

    status = {"kind": "Status", "metadata": {}, "status": "Failure", "message": "too old", "reason": "Expired"}
    error = read_change(line("ERROR", {**status, "code": 410}), shape)
    assert (error.type, error.object["code"], error.object["message"]) == ("ERROR", 410, "too old")


def test_pages_of_a_list() -> None:
    first = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [pod(phase="Running")]}
    page = read_page(json.dumps(first).encode(), Pod)
    assert (page.metadata.resource_version, page.metadata.continue_) == ("5", "more")
    assert page.items is not None
    assert [item["status"]["phase"] for item in page.items] == ["Running"]

    last = read_page(b'{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": null}', Pod)
    assert (last.metadata.continue_, last.items) == (None, None)


@pytest.mark.parametrize("text", [b"", b"{", b'{"type": "ADDED"}', b"<html>"])
def test_what_is_no_line_of_a_watch_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_change(text, Pod)
