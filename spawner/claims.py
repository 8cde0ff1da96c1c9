"""Devices of Dynamic Resource Allocation: the claim that a session's pod brings along.

Claims are made by the cluster out of a ResourceClaimTemplate, not by the hub. A claim that is made out of a template
belongs to its pod from the beginning and is deleted with it, also when nobody is there to see to that: a hub that is
killed between two requests leaves no claim behind, and no device held. All that the hub makes is the template, one for
each device class, selectors and number; it holds nothing, is used by every session that asks for the same, and its name
is the hash of what it says, because what a template says cannot be changed.

https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubespawner.slugs import is_valid_label, safe_slug

from profiles.accelerators import DraDevice
from spawner.api_refusals import explain
from spawner.kube_api import ApiFailure, KubeApi
from spawner.refusal import Refusal, StartFailed

__all__ = ["ClaimTemplate", "claim_template", "ensure_template"]

API_VERSION = "resource.k8s.io/v1"
REQUEST = "devices"
"""Name of the one request within a claim."""

_LABELS = {"app": "armillary"}
_ACCELERATOR = "armillary/accelerator"
_LONGEST_KEY = 30  # characters of an accelerator's key in the template's name, to be recognised by people


@dataclass(frozen=True)
class ClaimTemplate:
    """What a claim asks for: so many devices of a class that meet all selectors (CEL expressions)."""

    name: str
    accelerator: str
    device_class: str
    selectors: tuple[str, ...]
    count: int

    def manifest(self) -> dict[str, Any]:
        """Return the ResourceClaimTemplate."""
        labels = _labels(self.accelerator)
        return {
            "apiVersion": API_VERSION,
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": self.name, "labels": labels},
            "spec": _spec(labels, self.device_class, self.selectors, self.count),
        }


def claim_template(accelerator: str, device: DraDevice, count: int) -> ClaimTemplate:
    """Return the template for so many devices; the same input has the same name, anything else another one."""
    spec = _spec(_labels(accelerator), device.device_class, device.selectors, count)
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    slug = safe_slug(accelerator, max_length=_LONGEST_KEY)
    return ClaimTemplate(f"armillary-{slug}-{digest}", accelerator, device.device_class, tuple(device.selectors), count)


def _labels(accelerator: str) -> dict[str, str]:
    return {**_LABELS, _ACCELERATOR: safe_slug(accelerator, is_valid=is_valid_label)}


def _spec(labels: Mapping[str, str], device_class: str, selectors: tuple[str, ...], count: int) -> dict[str, Any]:
    exactly: dict[str, Any] = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count}
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": selector}} for selector in selectors]
    devices = {"requests": [{"name": REQUEST, "exactly": exactly}]}
    return {"metadata": {"labels": dict(labels)}, "spec": {"devices": devices}}


async def ensure_template(api: KubeApi, namespace: str, template: ClaimTemplate) -> None:
    """See that the template is there, as pods refer to it by name.

    Read first: it is there in all starts but the very first. Two hubs may make it at once; the later one finds it.

    Raises
    ------
    Refusal
        With the cause in plain words.
    """
    wanted = template.manifest()
    try:
        found = await api.read_claim_template(namespace, template.name)
        if found is None:
            await api.create_claim_template(namespace, wanted)
            return
    except ApiFailure as failure:
        raise _explained(failure, template) from failure
    if not _holds(found.get("spec"), wanted["spec"]):
        text = (
            "The cluster holds another description of this accelerator under the name of ours. "
            "Choose another accelerator and tell your administrators; the hub's log names it."
        )
        log = f"ResourceClaimTemplate {namespace}/{template.name} was changed by somebody else: delete it"
        raise StartFailed("claim-template", text, log=log)


def _explained(failure: ApiFailure, template: ClaimTemplate) -> Refusal:
    if failure.status == 404 and "page not found" in failure.message:
        text = (
            "The cluster does not hand this accelerator out: Dynamic Resource Allocation is not switched on there. "
            "Choose another accelerator and tell your administrators."
        )
        log = f"no-claims: {API_VERSION} is not served, which {template.accelerator} needs (Kubernetes 1.34 or later)"
        return StartFailed("no-claims", text, log=log)
    return explain(failure, "the claim for your accelerator")


def _holds(found: Any, wanted: Any) -> bool:
    """Return whether everything that is wanted is there; the API server adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted)
