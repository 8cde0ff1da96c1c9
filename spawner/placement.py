"""Where a session runs and which hardware it gets: request and catalogue in, changes of the pod out. Pure.

What was picked is what is got, or nothing: resource names and counts are exact, node labels are *required*. A node
affinity that merely prefers gives a T4 to whom an A100 was promised.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio.client import models
from kubespawner.utils import get_k8s_model

from profiles.accelerators import KubernetesDevice, Toleration
from profiles.model import Catalogue
from spawner.claims import ClaimTemplate, claim_template
from spawner.pod import Pod, detached, field_of, mounted, name_of, notebook
from spawner.request import Request

__all__ = ["CLAIM", "Contradiction", "Placement", "place", "placed"]

CLAIM = "armillary-accelerator"
"""Name, within the pod, of the claim for a device of Dynamic Resource Allocation."""

_SHM = "/dev/shm"  # noqa: S108  # a path in the pod
_PREFERENCE = 100  # the largest weight there is: nothing else that a pod may prefer is as dear as an idle card

_NVIDIA = "NVIDIA_VISIBLE_DEVICES"
_HIDING = {_NVIDIA: "void", "AMD_VISIBLE_DEVICES": "void"}
"""Variables by which the container runtimes of NVIDIA and AMD hand out cards on a node where they are the default.

Images set them to "all", and a pod's own value wins. "void" is NVIDIA's word for none; AMD's runtime takes whatever
is no number for none. Devices that a device plugin or a DRA driver hands out come by other ways, device nodes and
CDI: NVIDIA's DRA driver itself sets "void" (k8s-dra-driver-gpu, cmd/gpu-kubelet-plugin/cdi.go). The exception is
NVIDIA's device plugin, which names the cards in this very variable. Intel's GPUs have no such runtime.
"""

_PRESENCE = {"nvidia.com": "nvidia.com/gpu.present"}
"""Label, by a resource's domain, of nodes that have cards: set by NVIDIA's GPU feature discovery and operator."""

_SAY_NOTHING = ("kubernetes.io", "k8s.io")  # labels of every node, cards or not


class Contradiction(Exception):
    """A profile's own settings ask for other hardware than what was picked."""


@dataclass(frozen=True)
class Placement:
    """What the choice of an accelerator, or of none, changes in a pod.

    Parameters
    ----------
    limits
        Extended resources with their exact count.
    foreign
        Extended resources that must not be asked for beside them: those of the catalogue's other accelerators.
    node_labels
        Labels that the node must have, each with one of the values.
    avoided
        Labels of nodes with cards, which sessions without one leave to others where they can.
    environment
        Of the accelerator, from the catalogue; taken literally.
    claims
        Devices of Dynamic Resource Allocation; the template must exist before the pod is made.
    shm
        Size of /dev/shm in bytes; None: the container runtime's default of 64 MiB.
    """

    limits: Mapping[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    node_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    avoided: tuple[str, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[ClaimTemplate, ...] = ()
    shm: int | None = None


def place(request: Request, catalogue: Catalogue, *, memory: int | None = None, shm_share: float = 0) -> Placement:
    """Return where and with what a session of this request runs.

    Parameters
    ----------
    memory
        The session's memory in bytes, None where nobody limits it; /dev/shm gets `shm_share` of it.
    """
    shm = int(memory * shm_share) if memory and shm_share else None
    profile = catalogue.profiles[request.profile]
    accelerator = catalogue.accelerators[request.accelerator] if request.accelerator else None
    device = accelerator.kubernetes if accelerator is not None else None
    # A profile_list that was taken over brings its own resource names instead of accelerators.
    others = _resources(catalogue) if profile.options.accelerator is not None else frozenset()
    if accelerator is None or device is None or request.accelerator is None:
        return Placement(foreign=others, avoided=_labels_of_cards(catalogue), shm=shm)
    limits = {device.resource: str(request.count)} if device.resource is not None else {}
    return Placement(
        limits=limits,
        foreign=others - limits.keys(),
        node_labels={key: tuple(values) for key, values in device.node_labels.items()},
        tolerations=tuple(device.tolerations),
        runtime_class=device.runtime_class,
        environment=dict(accelerator.environment),
        claims=(claim_template(request.accelerator, device.dra, request.count),) if device.dra is not None else (),
        shm=shm,
    )


def _resources(catalogue: Catalogue) -> frozenset[str]:
    devices = (accelerator.kubernetes for accelerator in catalogue.accelerators.values())
    return frozenset(device.resource for device in devices if device is not None and device.resource is not None)


def _labels_of_cards(catalogue: Catalogue) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for accelerator in catalogue.accelerators.values():
        device = accelerator.kubernetes
        if device is None:
            continue
        found |= dict.fromkeys(key for key in device.node_labels if _says_something(key))
        presence = _PRESENCE.get(_vendor(device))
        if presence is not None:
            found[presence] = None
    return tuple(sorted(found))


def _vendor(device: KubernetesDevice) -> str:
    if device.resource is not None:
        return device.resource.partition("/")[0]
    return device.dra.device_class.partition(".")[2] if device.dra is not None else ""


def _says_something(label: str) -> bool:
    domain = label.partition("/")[0] if "/" in label else ""
    return not any(domain == common or domain.endswith(f".{common}") for common in _SAY_NOTHING)


# --- on a pod -------------------------------------------------------------------------------------------------


def placed(pod: Pod, placement: Placement) -> Pod:
    """Return the pod with this placement; done twice it is the same as once. The environment is left to `get_env`.

    Raises
    ------
    Contradiction
        The pod asks for another accelerator already.
    """
    pod = detached(pod)
    _ask(pod, placement)
    spec = pod.spec
    if placement.node_labels:
        _require(_node_affinity(spec), placement.node_labels)
    if placement.avoided:
        _prefer_nodes_without(_node_affinity(spec), placement.avoided)
    _tolerate(spec, placement.tolerations)
    if placement.runtime_class:
        spec.runtime_class_name = placement.runtime_class
    _hide_cards(pod)
    if placement.shm is not None:
        source = {"emptyDir": {"medium": "Memory", "sizeLimit": str(placement.shm)}}
        pod = mounted(pod, "shm", _SHM, source)
    return pod


def _ask(pod: Pod, placement: Placement) -> None:
    """Ask for exactly the devices; cpu, memory and whatever else was asked for stay as they are."""
    container = notebook(pod)
    resources = container.resources = _as_model(models.V1ResourceRequirements, container.resources)
    limits, requests = dict(resources.limits or {}), dict(resources.requests or {})
    contradicting = sorted(placement.foreign & {*limits, *requests})
    if contradicting:
        raise Contradiction(
            f"it asks for {', '.join(contradicting)} by itself, which is what an accelerator stands for: "
            "let people pick that accelerator instead"
        )
    for resource, count in placement.limits.items():
        limits[resource] = count
        requests.pop(resource, None)  # Kubernetes takes the limit; another value would be refused
    resources.limits, resources.requests = limits, requests
    if not placement.claims:
        return
    taken = [*(resources.claims or [])]
    declared = [*(pod.spec.resource_claims or [])]
    for claim in placement.claims:
        if not any(field_of(one, "name", "name") == CLAIM for one in declared):
            declared.append({"name": CLAIM, "resourceClaimTemplateName": claim.name})
            taken.append({"name": CLAIM})
    resources.claims, pod.spec.resource_claims = taken, declared


def _node_affinity(spec: Any) -> Any:
    """Return the node affinity to be changed, as models also where the deployer gave dictionaries."""
    spec.affinity = _as_model(models.V1Affinity, spec.affinity)
    spec.affinity.node_affinity = _as_model(models.V1NodeAffinity, spec.affinity.node_affinity)
    return spec.affinity.node_affinity


def _require(affinity: Any, labels: Mapping[str, Iterable[str]]) -> None:
    """Require the labels; terms are alternatives of each other, so that they join every one of them."""
    new = [
        models.V1NodeSelectorRequirement(key=key, operator="In", values=list(values)) for key, values in labels.items()
    ]
    present = affinity.required_during_scheduling_ignored_during_execution
    terms = (field_of(present, "node_selector_terms", "nodeSelectorTerms") if present is not None else None) or [None]
    joined = []
    for term in (_as_model(models.V1NodeSelectorTerm, one) for one in terms):
        expressions = [*(term.match_expressions or [])]
        term.match_expressions = [*expressions, *(one for one in new if one not in expressions)]
        joined.append(term)
    affinity.required_during_scheduling_ignored_during_execution = models.V1NodeSelector(node_selector_terms=joined)


def _prefer_nodes_without(affinity: Any, labels: Iterable[str]) -> None:
    absent = [models.V1NodeSelectorRequirement(key=label, operator="DoesNotExist") for label in labels]
    term = models.V1NodeSelectorTerm(match_expressions=absent)
    new = models.V1PreferredSchedulingTerm(weight=_PREFERENCE, preference=term)
    present = [*(affinity.preferred_during_scheduling_ignored_during_execution or [])]
    if new not in present:
        affinity.preferred_during_scheduling_ignored_during_execution = [*present, new]


def _tolerate(spec: Any, tolerations: Iterable[Toleration]) -> None:
    present = [*(spec.tolerations or [])]
    known = {_identity(one) for one in present}
    for one in tolerations:
        new = models.V1Toleration(key=one.key, operator=one.operator, value=one.value, effect=one.effect)
        if _identity(new) not in known:
            known.add(_identity(new))
            present.append(new)
    if present:
        spec.tolerations = present


def _identity(toleration: Any) -> tuple[Any, ...]:
    seconds = field_of(toleration, "toleration_seconds", "tolerationSeconds")
    parts = {name: field_of(toleration, name, name) or None for name in ("key", "operator", "value", "effect")}
    return parts["key"], parts["operator"] or "Equal", parts["value"], parts["effect"], seconds


def _hide_cards(pod: Pod) -> None:
    """See that no container gets cards by the variables of a container runtime, whatever its image says.

    A variable of that name is taken out where NVIDIA's device plugin sets it: a pod's own value would win over the
    plugin's, and show a session that has one slice all others of the node.
    """
    for container in [*pod.spec.containers, *(pod.spec.init_containers or [])]:
        resources = field_of(container, "resources", "resources")
        limits = (field_of(resources, "limits", "limits") if resources is not None else None) or {}
        by_plugin = any(name.startswith("nvidia.com/") for name in limits)
        variables = [one for one in field_of(container, "env", "env") or [] if name_of(one) not in _HIDING]
        hidden = [
            {"name": name, "value": value} for name, value in _HIDING.items() if not (name == _NVIDIA and by_plugin)
        ]
        if isinstance(container, dict):
            container["env"] = [*variables, *hidden]
        else:
            container.env = [*variables, *hidden]


def _as_model(kind: Any, value: Any) -> Any:
    return kind() if value is None else get_k8s_model(kind, copy.deepcopy(value))
