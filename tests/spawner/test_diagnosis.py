"""Each thing that can be wrong with a pod, and the words that its user reads."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from spawner.diagnosis import diagnose, exit_code

_ADVICE = "Ask your administrators if it happens again."


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    container = {"name": "notebook", "image": "example.org/lab:1", "resources": {"limits": {"memory": "2Gi"}}}
    return {
        "metadata": {"name": "jupyter-ann", "uid": "u1", **metadata},
        "spec": {"containers": [container]},
        "status": status,
    }


def waiting(reason: str, message: str = "", image: str = "example.org/lab:1") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod({"phase": "Pending", "containerStatuses": [{"name": "notebook", "image": image, "state": state}]})


def terminated(exit_code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}
    phase = "Failed" if exit_code else "Succeeded"
    return pod({"phase": phase, "containerStatuses": [{"name": "notebook", "state": state}]})


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod({"phase": "Pending", "conditions": [condition]})


def failed_pull(message: str, count: int = 1) -> dict[str, Any]:
    return {"type": "Warning", "reason": "Failed", "message": f"Failed to pull image: {message}", "count": count}


FINAL = [
    pytest.param(
        waiting("ErrImagePull", "rpc error: code = NotFound desc = failed to resolve reference: not found"), [],
        "image-missing", f"The image “example.org/lab:1” does not exist. Choose another image. {_ADVICE}",
        id="image-does-not-exist",
    ),
    pytest.param(
        waiting("ImagePullBackOff", "Back-off pulling image"), [failed_pull("manifest unknown")],
        "image-missing", f"The image “example.org/lab:1” does not exist. Choose another image. {_ADVICE}",
        id="image-does-not-exist-said-by-the-event",
    ),
    pytest.param(
        waiting("ErrImagePull", "unauthorized: authentication required"), [],
        "image-denied", f"The image “example.org/lab:1” may not be pulled: its registry refused. {_ADVICE}",
        id="registry-refuses",
    ),
    pytest.param(
        waiting("ImagePullBackOff", "Back-off"), [failed_pull("dial tcp: i/o timeout", 3)],
        "image-pull",
        "The image “example.org/lab:1” could not be pulled: its registry did not answer as expected. "
        f"Try again later. {_ADVICE}",
        id="registry-down-three-times",
    ),
    pytest.param(
        waiting("InvalidImageName", "couldn't parse", "Example.org/LAB"), [],
        "image-name", f"The image name “Example.org/LAB” is not valid. {_ADVICE}", id="image-name",
    ),
    pytest.param(
        waiting("ErrImageNeverPull"), [],
        "image-missing",
        f"The image “example.org/lab:1” is not on the node, and the profile forbids to pull it. {_ADVICE}",
        id="never-pull",
    ),
    pytest.param(
        waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"), [],
        "image-root", "The image wants to run as root, which is not allowed here. Choose another image.", id="root",
    ),
    pytest.param(
        waiting("CreateContainerConfigError", 'secret "x" not found'),
        [{"reason": "Failed", "message": 'Error: secret "x" not found', "count": 3}],
        "container", f"The node could not make your server's container: “secret \"x\" not found”. {_ADVICE}",
        id="secret-missing-three-times",
    ),
    pytest.param(
        terminated(1, message="loading\nModuleNotFoundError: No module named 'jupyterhub'\n"), [],
        "crashed",
        "Your server has crashed (exit code 1). Its last words: “ModuleNotFoundError: No module named 'jupyterhub'”. "
        + _ADVICE,
        id="crash-with-last-words",
    ),
    pytest.param(terminated(3), [], "crashed", f"Your server has crashed (exit code 3). {_ADVICE}", id="crash-silent"),
    pytest.param(
        terminated(128, "StartError", 'exec: "jupyterhub-singleuser": executable file not found in $PATH'), [],
        "cannot-start",
        "The image has no server to start: “exec: \"jupyterhub-singleuser\": executable file not found in $PATH”. "
        f"Choose another image. {_ADVICE}",
        id="no-program",
    ),
    pytest.param(
        terminated(0, "Completed"), [],
        "ended", "Your server has ended by itself (exit code 0). Start it again.", id="ended-by-itself",
    ),
    pytest.param(
        terminated(137, "OOMKilled"), [],
        "out-of-memory",
        "Your server was ended because it had used all of its 2 GiB of memory. "
        "Start it again with more memory, or use less at once.",
        id="out-of-memory",
    ),
    pytest.param(
        terminated(137), [],
        "killed", "Your server was killed (exit code 137), often for want of memory. Start it again, with more memory.",
        id="killed",
    ),
    pytest.param(
        pod({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}), [],
        "evicted",
        "Your server was ended because its node had run out of memory. Your home is unchanged. "
        "Start it again, with more memory if it needs more.",
        id="evicted-for-memory",
    ),
    pytest.param(
        pod({"phase": "Failed", "reason": "Evicted", "message": 'Usage of EmptyDir volume "x" exceeds the limit "1Gi". ephemeral'}),
        [],
        "evicted",
        "Your server was ended because it had filled the temporary disk space (/tmp and everything outside of your home). "
        "Your home is unchanged. Start it again and write large files to your home.",
        id="evicted-for-scratch",
    ),
    pytest.param(
        pod({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "reason": "PreemptionByScheduler"}]}), [],
        "preempted",
        "Your server was ended to make room for something more urgent. Your home is unchanged. Start it again.",
        id="preempted",
    ),
    pytest.param(
        pod({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "reason": "DeletionByTaintManager"}]},
            deletionTimestamp="2026-01-01T00:00:00Z"), [],
        "node-lost",
        "Your server was ended because its node does not work any more. Your home is unchanged. Start it again.",
        id="node-lost",
    ),
    pytest.param(
        pod({"phase": "Running"}, deletionTimestamp="2026-01-01T00:00:00Z"), [],
        "deleted", "Your server was deleted in the cluster by somebody else.", id="deleted",
    ),
    pytest.param(
        pod({"phase": "Failed", "containerStatuses": [
            {"name": "notebook", "state": {"terminated": {"exitCode": 143, "reason": "Error"}}}]},
            deletionTimestamp="2026-01-01T00:00:00Z"), [],
        "deleted", "Your server was deleted in the cluster by somebody else.", id="ended-as-it-was-deleted",
    ),
    pytest.param(
        pod({"phase": "Failed", "reason": "OutOfnvidia.com/gpu"}), [],
        "node-refused", f"The node was full when your server arrived there. Start it again. {_ADVICE}", id="node-full",
    ),
    pytest.param(
        pod({"phase": "Failed", "reason": "UnexpectedAdmissionError"}), [],
        "node-refused",
        "Your server was refused by its node, which could not hand out the hardware. Your home is unchanged. Start it again.",
        id="device-plugin",
    ),
    pytest.param(
        pod({"phase": "Failed", "initContainerStatuses": [
            {"name": "fetch", "state": {"terminated": {"exitCode": 2, "message": "fatal: no such branch"}}}]}), [],
        "init-failed",
        "The preparation of your server failed (step fetch, exit code 2). Its last words: “fatal: no such branch”. "
        + _ADVICE,
        id="init-container",
    ),
    pytest.param(
        unschedulable(
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. "
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."), [],
        "unschedulable",
        f"No node of the cluster has the hardware that this profile asks for. Choose something else. {_ADVICE}",
        id="no-such-hardware",
    ),
    pytest.param(
        unschedulable(
            "0/2 nodes are available: 2 Insufficient memory. "
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."), [],
        "does-not-fit",
        "No node of the cluster is large enough: not enough memory, even if it were empty. "
        f"Choose something else. {_ADVICE}",
        id="larger-than-every-node",
    ),
    pytest.param(
        pod({"phase": "Pending"}), [{"reason": "FailedMount", "message": 'configmap "x" not found', "count": 5}],
        "volume", f"A volume of your server could not be mounted: “configmap \"x\" not found”. {_ADVICE}", id="mount",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "events", "code", "text"), FINAL)
def test_what_waiting_cannot_heal_is_final_and_says_what_to_do(
    found: dict[str, Any], events: list[dict[str, Any]], code: str, text: str
) -> None:
    reason = diagnose(found, events)
    assert reason is not None
    assert (reason.code, reason.text, reason.final) == (code, text, True)


PASSING = [
    pytest.param(
        waiting("ErrImagePull", "dial tcp: i/o timeout"), [failed_pull("i/o timeout")],
        "image-pull", "The image “example.org/lab:1” could not be pulled: its registry did not answer as expected.",
        id="registry-down-once",
    ),
    pytest.param(
        unschedulable(
            "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. "
            "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, "
            "2 Preemption is not helpful for scheduling."), [],
        "no-room", "No node has enough free nvidia.com/gpu at the moment; it is free again when somebody else stops.",
        id="all-in-use",
    ),
    pytest.param(
        unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. "
                      "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."), [],
        "no-room",
        "No node that takes sessions at the moment has what this one asks for; "
        "nodes that are away, for example for maintenance, may have it.",
        id="node-not-ready",
    ),
    pytest.param(
        unschedulable('0/1 nodes are available: persistentvolumeclaim "claim-ann" not found.'), [],
        "no-room", "The volume of your home is not known to the scheduler yet.", id="claim-not-seen-yet",
    ),
    pytest.param(
        pod({"phase": "Pending"}),
        [{"reason": "FailedResourceClaimCreation", "count": 10,  # as Kubernetes 1.34 says it
          "message": 'PodResourceClaim c: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found'}],
        "claim-failed",
        "The cluster could not make the claim for your accelerator: “PodResourceClaim c: resource claim template \"t\": "
        f"resourceclaimtemplate.resource.k8s.io \"t\" not found”. {_ADVICE}",
        id="claim-cannot-be-made",
    ),
    pytest.param(
        pod({"phase": "Pending"}), [{"reason": "FailedAttachVolume", "message": "Multi-Attach error for volume"}],
        "home-in-use", "Your home is still in use on another node. Stop your other servers, or wait a minute.",
        id="home-in-use",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "events", "code", "text"), PASSING)
def test_what_may_heal_is_told_but_not_final(
    found: dict[str, Any], events: list[dict[str, Any]], code: str, text: str
) -> None:
    reason = diagnose(found, events)
    assert reason is not None
    assert (reason.code, reason.text, reason.final) == (code, text, False)


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending"},
        {"phase": "Running", "containerStatuses": [{"name": "notebook", "state": {"running": {}}}]},
        {
            "phase": "Pending",
            "containerStatuses": [{"name": "notebook", "state": {"waiting": {"reason": "ContainerCreating"}}}],
        },
        {"phase": "Unknown", "reason": "NodeStatusUnknown"},
    ],
)
def test_a_pod_that_is_well_or_unknown_has_no_reason(status: dict[str, Any]) -> None:
    assert diagnose(pod(status)) is None
    assert exit_code(pod(status)) is None


def test_texts_of_the_cluster_are_shortened() -> None:
    reason = diagnose(terminated(1, message="x" * 5000))
    assert reason is not None
    assert len(reason.text) < 450


def test_a_diagnosis_changes_nothing() -> None:
    found = terminated(137, "OOMKilled")
    before = copy.deepcopy(found)
    diagnose(found)
    assert found == before


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (terminated(0), 0),
        (terminated(3), 3),
        (pod({"phase": "Failed", "reason": "Evicted"}), 1),
        (pod({"phase": "Running"}), None),
    ],
)
def test_exit_codes(found: dict[str, Any], code: int | None) -> None:
    assert exit_code(found) == code
