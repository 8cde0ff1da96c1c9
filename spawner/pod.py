"""Pure steps from one pod to the next: security, token, home.

Every step takes a V1Pod and returns a new one that shares nothing with the old: KubeSpawner's manifest shares
objects with its traits (`pod.spec.node_selector is spawner.node_selector`), so that editing the one edits the other.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kubernetes_asyncio.client import models
from kubespawner.utils import get_k8s_model

__all__ = [
    "NOTEBOOK",
    "SPAWN_ID",
    "Home",
    "Pod",
    "annotated",
    "detached",
    "field_of",
    "mounted",
    "name_of",
    "never_restarted",
    "notebook",
    "restricted",
    "with_amounts",
    "with_home",
    "with_scratch",
    "with_secret_environment",
]

Pod: TypeAlias = Any
"""A kubernetes_asyncio V1Pod; the library is untyped."""

NOTEBOOK = "notebook"
"""KubeSpawner's name for the container that runs the session."""

SPAWN_ID = "armillary/spawn-id"
"""Annotation with the identity of one start: tells our own pod from one that an earlier start left behind."""

_PLAIN = frozenset({str, int, float, bool})

_SCRATCH = "/tmp"  # noqa: S108  # a path in the pod


@dataclass(frozen=True)
class Home:
    """Where the home is mounted, and from which claim; without a claim it lives as long as the pod."""

    path: str
    claim: str | None


def detached(pod: Pod) -> Pod:
    """Return a deep copy.

    Each step makes one, and Python's own way takes 2 ms for a pod, in which a hub does nothing else: it keeps a record
    of every text and number, and copies the client's configuration that each part of the model refers to.
    """
    return _copied(pod)


def _copied(value: Any) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if type(value) is list:
        return [_copied(one) for one in value]
    if type(value) is dict:
        return {name: _copied(one) for name, one in value.items()}
    if not hasattr(type(value), "openapi_types"):  # whatever a deployer's hook has put there
        return copy.deepcopy(value)
    model = object.__new__(type(value))
    model.__dict__.update(
        {name: one if name == "local_vars_configuration" else _copied(one) for name, one in value.__dict__.items()}
    )
    return model


def annotated(pod: Pod, annotations: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Pod:
    """Return the pod with further annotations and labels; ours win over those of the same name."""
    pod = detached(pod)
    pod.metadata.annotations = {**(pod.metadata.annotations or {}), **annotations}
    pod.metadata.labels = {**(pod.metadata.labels or {}), **(labels or {})}
    return pod


def never_restarted(pod: Pod) -> Pod:
    """Return the pod as one that stays down once its server ends, and that keeps the last words of a crash.

    KubeSpawner's OnFailure starts a session that ran out of memory again in place, where it looks as if nothing
    had happened while all kernels are gone (kubespawner#223). The end of the log becomes the termination message,
    so that the cause of a crash can be told without a right to read logs.
    """
    pod = detached(pod)
    pod.spec.restart_policy = "Never"
    for container in pod.spec.containers:
        if container.termination_message_policy is None:
            container.termination_message_policy = "FallbackToLogsOnError"
    return pod


def restricted(pod: Pod) -> Pod:
    """Return the pod with whatever Pod Security "restricted" wants and nobody has set.

    Values that are set already are kept: weakening is the operator's right and the catalogue's loader guards it.
    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    pod = detached(pod)
    session = _as_dict(notebook(pod).security_context)
    # KubeSpawner gives uid and gid to the session's container only; its neighbours shall run under them as well.
    identity = {key: session[key] for key in ("runAsUser", "runAsGroup") if key in session}
    pod.spec.security_context = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **identity,
        **_as_dict(pod.spec.security_context),
    }
    if pod.spec.automount_service_account_token is None:
        pod.spec.automount_service_account_token = False
    pod.spec.enable_service_links = bool(pod.spec.enable_service_links)
    for container in [*pod.spec.containers, *(pod.spec.init_containers or [])]:
        container.security_context = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            **_as_dict(container.security_context),
        }
    return pod


def with_scratch(pod: Pod, size_limit: str | None) -> Pod:
    """Return the pod with a /tmp of its own, as its root file system is read-only; `size_limit` as "10Gi" or None."""
    return mounted(pod, "scratch", _SCRATCH, {"emptyDir": {"sizeLimit": size_limit} if size_limit else {}})


def with_home(pod: Pod, home: Home) -> Pod:
    """Return the pod with the home mounted, used as $HOME and as the folder to start in.

    A volume that the deployer mounts at that path already is left as it is.
    """
    source: dict[str, Any] = {"persistentVolumeClaim": {"claimName": home.claim}} if home.claim else {"emptyDir": {}}
    pod = mounted(pod, "home", home.path, source)
    container = notebook(pod)
    if container.working_dir is None:
        container.working_dir = home.path
    container.env = _with_variables(container.env, [{"name": "HOME", "value": home.path}])
    return pod


def with_secret_environment(pod: Pod, secret: str, names: Collection[str]) -> tuple[Pod, dict[str, str]]:
    """Return the pod with these variables taken from a Secret, and what the Secret must hold.

    A pod's specification can be read by whoever may read pods, and ends in logs and backups.
    """
    pod = detached(pod)
    container = notebook(pod)
    values = {
        name_of(variable): str(value)
        for variable in container.env or []
        if name_of(variable) in names and (value := field_of(variable, "value", "value")) is not None
    }
    references = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in sorted(values)
    ]
    container.env = _with_variables(container.env, references, replace=True)
    return pod, values


def with_amounts(pod: Pod, limits: Mapping[str, Any], requests: Mapping[str, Any]) -> Pod:
    """Return the pod with these limits and requests where it says nothing else.

    KubeSpawner's `extra_container_config` replaces `resources` as a whole, so that a deployer who adds one thing
    there takes the cpu and memory away that a person has picked.
    """
    pod = detached(pod)
    container = notebook(pod)
    resources = get_k8s_model(models.V1ResourceRequirements, container.resources or {})
    resources.limits = {**_set(limits), **(resources.limits or {})}
    resources.requests = {**_set(requests), **(resources.requests or {})}
    container.resources = resources
    return pod


def _set(amounts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: amount for name, amount in amounts.items() if amount}


def mounted(pod: Pod, name: str, path: str, source: Mapping[str, Any]) -> Pod:
    """Return the pod with a volume of this source at this path; what the deployer mounts there already stays."""
    pod = detached(pod)
    container = notebook(pod)
    mounts = container.volume_mounts or []
    if any(field_of(mount, "mount_path", "mountPath").rstrip("/") == path.rstrip("/") for mount in mounts):
        return pod
    pod.spec.volumes = [*(pod.spec.volumes or []), {"name": f"armillary-{name}", **copy.deepcopy(dict(source))}]
    container.volume_mounts = [*mounts, {"name": f"armillary-{name}", "mountPath": path}]
    return pod


def _with_variables(
    existing: Iterable[Any] | None, new: Iterable[dict[str, Any]], *, replace: bool = False
) -> list[Any]:
    """Add variables; one that exists is kept, or replaced in its place."""
    variables = list(existing or [])
    places = {name_of(variable): place for place, variable in enumerate(variables)}
    for variable in new:
        if variable["name"] not in places:
            variables.append(variable)
        elif replace:
            variables[places[variable["name"]]] = variable
    return variables


def notebook(pod: Pod) -> Any:
    """Return the container that runs the session."""
    for container in pod.spec.containers:
        if container.name == NOTEBOOK:
            return container
    raise ValueError(f"pod {pod.metadata.name} has no container named {NOTEBOOK!r}")


def name_of(variable: Any) -> str:
    """Return the name of an environment variable."""
    return str(field_of(variable, "name", "name"))


def field_of(value: Any, attribute: str, key: str) -> Any:
    """Return a part of an object: deployers' traits arrive as dictionaries in Kubernetes' spelling, KubeSpawner's own
    as models.
    """
    return value.get(key) if isinstance(value, dict) else getattr(value, attribute)


def _as_dict(context: Any) -> dict[str, Any]:
    if context is None:
        return {}
    if isinstance(context, dict):
        return context
    named: dict[str, str] = context.attribute_map
    return {key: getattr(context, name) for name, key in named.items() if getattr(context, name) is not None}
