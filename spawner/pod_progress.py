"""How far a pod has come, in plain words: pod and events in, one step out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spawner.diagnosis import diagnose, process_runs
from spawner.no_node import Known
from spawner.progress import Step

__all__ = ["step"]

_PULLING = ("Pulling",)
_PULLED = ("Pulled",)


def step(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = (), known: Known | None = None) -> Step:
    """Return what is being waited for, with the percentage that it stands for; parameters as of `diagnose`."""
    status = pod.get("status") or {}
    trouble = diagnose(pod, events, known)
    if not _scheduled(status):
        autoscaled = any(event.get("reason") == "TriggeredScaleUp" for event in events)
        if autoscaled:
            return Step("A new node is being started for you; this takes some minutes", 15)
        return Step(_with("Waiting for a node", trouble.text if trouble else ""), 15)
    if trouble is not None:
        return Step(trouble.text, 40)
    if process_runs(pod):
        return Step("Starting JupyterLab", 75)
    reasons = [str(event.get("reason")) for event in events]
    if any(reason in reasons for reason in _PULLING) and not any(reason in reasons for reason in _PULLED):
        return Step(f"Pulling the image {_image(pod)}", 40)
    if any(reason in reasons for reason in _PULLED):
        return Step("Making the container", 60)
    if any(reason == "SuccessfulAttachVolume" for reason in reasons):
        return Step("Preparing the node", 35)
    return Step("A node was found; connecting your home", 30)


def _scheduled(status: Mapping[str, Any]) -> bool:
    return any(
        condition.get("type") == "PodScheduled" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )


def _image(pod: Mapping[str, Any]) -> str:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((str(container.get("image")) for container in containers if container.get("name") == "notebook"), "")


def _with(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text
