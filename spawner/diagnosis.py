"""What is wrong with a pod, for its user: pod and events in, one frozen Reason out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from profiles.quantities import QuantityError, parse_quantity, say_memory
from spawner.no_node import Known, no_node
from spawner.pod import NOTEBOOK
from spawner.reason import ADVICE, Reason

__all__ = ["Reason", "container_status", "diagnose", "exit_code", "process_runs", "why_gone"]

PodDict = Mapping[str, Any]
Event = Mapping[str, Any]

_MANY = 3
# How often something that may heal (a registry that is down, a Secret that is late) fails before we give up.

_LONGEST = 300

# Words of container runtimes and registries for an image that is not there, as opposed to a registry that is down.
_NO_IMAGE = re.compile(r"not found|manifest unknown|does not exist|no such image|repository .* unknown", re.I)
_NO_ACCESS = re.compile(r"unauthori[sz]ed|authentication required|access denied|denied|forbidden|no basic auth", re.I)

# Why the control plane or a kubelet ended a pod: its status.reason, or the reason of condition DisruptionTarget.
_ENDED_BY: Mapping[str, tuple[str, str]] = {
    "Preempting": ("preempted", "was ended to make room for something more urgent"),
    "PreemptionByScheduler": ("preempted", "was ended to make room for something more urgent"),
    "EvictionByEvictionAPI": ("drained", "was ended because its node is being emptied for maintenance"),
    "DeletionByTaintManager": ("node-lost", "was ended because its node does not work any more"),
    "DeletionByPodGC": ("node-lost", "was ended because its node is gone"),
    "NodeLost": ("node-lost", "was ended because its node cannot be reached any more"),
    "NodeShutdown": ("node-shutdown", "was ended because its node is being shut down"),
    "Terminated": ("node-shutdown", "was ended because its node is being shut down"),
    "DeadlineExceeded": ("time-limit", "was ended because it reached the time limit of the cluster"),
    "UnexpectedAdmissionError": ("node-refused", "was refused by its node, which could not hand out the hardware"),
    "NodeAffinity": ("node-refused", "was refused by its node, which lost the labels that the profile asks for"),
}


def diagnose(pod: PodDict, events: Sequence[Event] = (), known: Known | None = None) -> Reason | None:
    """Return what keeps this pod from running; None while all is well.

    Parameters
    ----------
    pod
        As the API returns it.
    events
        Events about this very pod, in any order.
    known
        What was asked for and what is free, to say who has what is missing; None where nobody knows.
    """
    status = pod.get("status") or {}
    return (
        _ended(pod, status)
        or _disrupted(pod, status)
        or _container_waits(pod, status, events)
        or _no_volume(events, status)
        or _not_placed(status, events, known)
    )


def why_gone(pod: PodDict) -> Reason | None:
    """Return why a pod that is gone now had to go, by what it last said; None if somebody just deleted it."""
    status = pod.get("status") or {}
    return _by_whom(status) if _being_deleted(pod) else _ended(pod, status)


def exit_code(pod: PodDict) -> int | None:
    """Return with which code the session ended; None while it has not."""
    status = pod.get("status") or {}
    terminated = ((container_status(pod) or {}).get("state") or {}).get("terminated")
    if terminated:
        return int(terminated.get("exitCode", 1))
    phase = status.get("phase")
    if phase == "Failed":
        return 1
    return 0 if phase == "Succeeded" else None


def container_status(pod: PodDict) -> Mapping[str, Any] | None:
    """Return the status of the container that runs the session; None before a node has taken the pod."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status.get("name") == NOTEBOOK:
            return dict(status)
    return None


def process_runs(pod: PodDict) -> bool:
    """Return whether the session's container has a running process."""
    return ((container_status(pod) or {}).get("state") or {}).get("running") is not None


# --- it has ended ---------------------------------------------------------------------------------------------


def _ended(pod: PodDict, status: Mapping[str, Any]) -> Reason | None:
    why = status.get("reason") or ""
    if why == "Evicted":
        return _evicted(status.get("message") or "")
    if why.startswith("OutOf"):
        return Reason(
            "node-refused", f"The node was full when your server arrived there. Start it again. {ADVICE}", True
        )
    terminated = ((container_status(pod) or {}).get("state") or {}).get("terminated")
    if terminated and terminated.get("reason") == "OOMKilled":
        return _out_of_memory(pod)
    if status.get("phase") == "Failed" or terminated:
        # With which code it ends while it is being deleted says nothing of its own.
        return _by_whom(status) or _of_init(status) or (None if _being_deleted(pod) else _crashed(pod, terminated))
    return None


def _evicted(message: str) -> Reason:
    if "ephemeral" in message:
        what = "it had filled the temporary disk space (/tmp and everything outside of your home)"
        advice = "Start it again and write large files to your home."
    elif "memory" in message:
        what, advice = "its node had run out of memory", "Start it again, with more memory if it needs more."
    elif "disk" in message or "inodes" in message:
        what, advice = "the disk of its node was full", "Start it again."
    else:
        what, advice = "its node was overloaded", "Start it again."
    return Reason("evicted", f"Your server was ended because {what}. Your home is unchanged. {advice}", True)


def _out_of_memory(pod: PodDict) -> Reason:
    limit = _memory_limit(pod)
    used = f"all of its {limit} of memory" if limit else "more memory than it was given"
    text = f"Your server was ended because it had used {used}. Start it again with more memory, or use less at once."
    return Reason("out-of-memory", text, True)


def _memory_limit(pod: PodDict) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if container.get("name") == NOTEBOOK:
            limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            try:
                return say_memory(int(parse_quantity(limit))) if limit else ""
            except QuantityError:
                return ""
    return ""


def _by_whom(status: Mapping[str, Any]) -> Reason | None:
    target = _condition(status, "DisruptionTarget") or {}
    for why in (target.get("reason"), status.get("reason")):
        if why is not None and why in _ENDED_BY:
            code, text = _ENDED_BY[why]
            return Reason(code, f"Your server {text}. Your home is unchanged. Start it again.", True)
    return None


def _of_init(status: Mapping[str, Any]) -> Reason | None:
    for container in status.get("initContainerStatuses") or ():
        terminated = (container.get("state") or {}).get("terminated")
        if terminated and terminated.get("exitCode"):
            text = (
                f"The preparation of your server failed (step {container['name']}, exit code {terminated['exitCode']})"
            )
            return Reason("init-failed", f"{text}. {_last_words(terminated)}{ADVICE}", True)
    return None


def _crashed(pod: PodDict, terminated: Mapping[str, Any] | None) -> Reason:
    if not terminated:
        return Reason("ended", f"Your server has ended without saying why. Start it again. {ADVICE}", True)
    code = int(terminated.get("exitCode", 1))
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        text = f"The image has no server to start: {_quote(terminated.get('message'))}. Choose another image. {ADVICE}"
        return Reason("cannot-start", text, True)
    if code == 0:
        return Reason("ended", "Your server has ended by itself (exit code 0). Start it again.", True)
    if code == 137:
        text = "Your server was killed (exit code 137), often for want of memory. Start it again, with more memory."
        return Reason("killed", text, True)
    return Reason("crashed", f"Your server has crashed (exit code {code}). {_last_words(terminated)}{ADVICE}", True)


def _last_words(terminated: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in str(terminated.get("message") or "").splitlines() if line.strip()]
    return f"Its last words: {_quote(lines[-1])}. " if lines else ""


# --- it is being ended ----------------------------------------------------------------------------------------


def _disrupted(pod: PodDict, status: Mapping[str, Any]) -> Reason | None:
    if not _being_deleted(pod):
        return None
    return _by_whom(status) or Reason("deleted", "Your server was deleted in the cluster by somebody else.", True)


def _being_deleted(pod: PodDict) -> bool:
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


# --- it does not get to start ---------------------------------------------------------------------------------


def _container_waits(pod: PodDict, status: Mapping[str, Any], events: Sequence[Event]) -> Reason | None:
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        why, message = waiting.get("reason") or "", waiting.get("message") or ""
        image = container.get("image") or ""
        if why in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"):
            return _not_pulled(image, message, events)
        if why == "InvalidImageName":
            return Reason("image-name", f"The image name {_quote(image)} is not valid. {ADVICE}", True)
        if why == "ErrImageNeverPull":
            text = f"The image {_quote(image)} is not on the node, and the profile forbids to pull it. {ADVICE}"
            return Reason("image-missing", text, True)
        if why in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return _not_created(why, message, events)
    return None


def _not_pulled(image: str, message: str, events: Sequence[Event]) -> Reason:
    # The back-off's own message says nothing; the cause stands in the event of the failed pull.
    failures = [event for event in events if event.get("reason") == "Failed" and "pull" in _message(event)]
    said = " ".join([message, *map(_message, failures)])
    named = f"The image {_quote(image)}"
    if _NO_IMAGE.search(said):
        return Reason("image-missing", f"{named} does not exist. Choose another image. {ADVICE}", True)
    if _NO_ACCESS.search(said):
        return Reason("image-denied", f"{named} may not be pulled: its registry refused. {ADVICE}", True)
    text = f"{named} could not be pulled: its registry did not answer as expected."
    given_up = sum(map(_count, failures)) >= _MANY
    return Reason("image-pull", f"{text} Try again later. {ADVICE}" if given_up else text, given_up)


def _not_created(why: str, message: str, events: Sequence[Event]) -> Reason:
    if "runAsNonRoot" in message or "non-numeric user" in message:
        text = "The image wants to run as root, which is not allowed here. Choose another image."
        return Reason("image-root", text, True)
    failures = [event for event in events if event.get("reason") == "Failed" and _message(event)]
    given_up = why == "RunContainerError" or sum(map(_count, failures)) >= _MANY
    return Reason(
        "container", f"The node could not make your server's container: {_quote(message)}. {ADVICE}", given_up
    )


def _no_volume(events: Sequence[Event], status: Mapping[str, Any]) -> Reason | None:
    if status.get("phase") != "Pending":
        return None
    for event in events:
        if event.get("reason") == "FailedAttachVolume" and "Multi-Attach" in _message(event):
            text = "Your home is still in use on another node. Stop your other servers, or wait a minute."
            return Reason("home-in-use", text, False)
        if event.get("reason") in ("FailedMount", "FailedAttachVolume") and _count(event) >= _MANY:
            missing = "not found" in _message(event)
            text = "A volume of your server could not be mounted"
            return Reason("volume", f"{text}: {_quote(_message(event))}. {ADVICE}", missing)
    return None


def _not_placed(status: Mapping[str, Any], events: Sequence[Event], known: Known | None) -> Reason | None:
    scheduled = _condition(status, "PodScheduled") or {}
    if scheduled.get("status") == "True" or status.get("phase") not in (None, "Pending"):
        return None
    for event in events:
        if event.get("reason") == "FailedResourceClaimCreation" and _count(event) >= _MANY:
            text = f"The cluster could not make the claim for your accelerator: {_quote(_message(event))}. {ADVICE}"
            return Reason("claim-failed", text, False)
    # A scheduler that stumbles over a pod says so by another word, and may stumble over what passes.
    if scheduled.get("status") != "False" or scheduled.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None
    return no_node(scheduled.get("message") or "", known)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return None


def _message(event: Event) -> str:
    return str(event.get("message") or "")


def _count(event: Event) -> int:
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _quote(value: object) -> str:
    text = " ".join(str(value or "").split())
    return f"“{text[:_LONGEST]}…”" if len(text) > _LONGEST else f"“{text}”"
