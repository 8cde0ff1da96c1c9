"""All that matters about one node, read at one time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hub.cluster_api import ApiProblem, ClusterApi, Forbidden, Json, NotFound
from hub.mig.layout import Layout, layouts_of
from hub.mig.names import CONFIG, STATE
from hub.mig.occupants import Occupant, occupants_of

__all__ = ["Manager", "View", "look", "node_path", "occupants_on", "pods_on"]

_APP = "nvidia-mig-manager"
_DEFAULT_CONFIG = "default-mig-parted-config"


@dataclass(frozen=True)
class Manager:
    """The pod of NVIDIA's MIG manager on the node. `reboots` is whether it may restart the node."""

    namespace: str
    name: str
    reboots: bool = False


@dataclass(frozen=True)
class View:
    """One node.

    Parameters
    ----------
    layouts
        Those that the manager knows; None: its configuration cannot be read, `unread` says why.
    config
        Where they are written: `namespace/name` of a ConfigMap.
    bystanders
        How many other pods run there.
    """

    node: Json
    manager: Manager | None
    layouts: Mapping[str, Layout] | None
    config: str
    unread: str
    occupants: tuple[Occupant, ...]
    bystanders: int

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.node["metadata"].get("labels") or {}

    @property
    def layout(self) -> str:
        """The layout that the node's label asks for; empty: it has no such label."""
        return self.labels.get(CONFIG, "")

    @property
    def state(self) -> str:
        """What the manager last said; empty: nothing."""
        return self.labels.get(STATE, "")


def node_path(name: str) -> str:
    """Return where a node is in the API."""
    return f"/api/v1/nodes/{quote(name, safe='')}"


def pods_on(api: ClusterApi, node: str) -> list[Json]:
    """Return the pods that are bound to a node."""
    return list(api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={node}"))


def look(api: ClusterApi, name: str) -> View:
    """Return what there is to know about a node.

    Raises
    ------
    NotFound
        There is no such node.
    ApiProblem
        It cannot be read.
    """
    try:
        node = api.get(node_path(name))
    except NotFound as error:
        raise NotFound(f"{api.name} has no node {name!r}; `kubectl get nodes` lists them.") from error
    pods = pods_on(api, name)
    manager = _manager(pods)
    occupants = occupants_on(api, pods, manager)
    layouts, config, unread = _configured(api, name, manager, pods)
    running = sum((pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") for pod in pods)
    return View(node, manager, layouts, config, unread, occupants, running - len(occupants))


def occupants_on(api: ClusterApi, pods: Iterable[Json], manager: Manager | None) -> tuple[Occupant, ...]:
    """Return who of these pods is a session or has cards."""
    return occupants_of(pods, lambda pod: _claims_nvidia(api, pod), manager.namespace if manager else "")


def _manager(pods: Iterable[Json]) -> Manager | None:
    for pod in pods:
        meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        containers = spec.get("containers") or ()
        known = (meta.get("labels") or {}).get("app") == _APP or str(meta.get("name", "")).startswith(_APP)
        if known or any("mig-manager" in str(one.get("image", "")) for one in containers):
            variables = [one for container in containers for one in container.get("env") or ()]
            reboots = any(one.get("name") == "WITH_REBOOT" and one.get("value") == "true" for one in variables)
            return Manager(str(meta["namespace"]), str(meta["name"]), reboots)
    return None


def _configured(
    api: ClusterApi, node: str, manager: Manager | None, pods: Iterable[Json]
) -> tuple[Mapping[str, Layout] | None, str, str]:
    """The layouts that the manager knows: those of a ConfigMap of the operator's user, else those that it generated
    for this node (GPU operator 26.3), else the operator's own.
    """
    if manager is None:
        return None, "", ""
    pod = next(pod for pod in pods if pod["metadata"]["name"] == manager.name)
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    mounted = [str(volume["configMap"]["name"]) for volume in volumes if (volume.get("configMap") or {}).get("name")]
    own = [name for name in mounted if name != _DEFAULT_CONFIG]
    unread = f"no ConfigMap with layouts is in namespace {manager.namespace}"
    for name in dict.fromkeys((*own, f"{node}-mig-config", _DEFAULT_CONFIG)):
        try:
            found = api.get(f"/api/v1/namespaces/{quote(manager.namespace, safe='')}/configmaps/{quote(name, safe='')}")
        except NotFound:
            continue
        except Forbidden as problem:
            unread = str(problem).rstrip(".")
            continue
        for text in (found.get("data") or {}).values():
            layouts = layouts_of(str(text))
            if layouts is not None:
                return layouts, f"{manager.namespace}/{name}", ""
    return None, "", unread


def _claims_nvidia(api: ClusterApi, pod: Mapping[str, Any]) -> bool:
    """Whether a pod's DRA claims gave it an NVIDIA device; a claim that cannot be read counts as one that did."""
    namespace = str(pod["metadata"]["namespace"])
    named = {
        str(one["name"]): one.get("resourceClaimName")
        for one in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    for one in (pod.get("spec") or {}).get("resourceClaims") or ():
        claim = one.get("resourceClaimName") or named.get(str(one.get("name")))
        if not claim:
            continue
        claims = f"/apis/resource.k8s.io/v1/namespaces/{quote(namespace, safe='')}/resourceclaims"
        try:
            found = api.get(f"{claims}/{quote(str(claim), safe='')}")
        except NotFound:
            continue
        except ApiProblem:
            return True
        allocation = (found.get("status") or {}).get("allocation") or {}
        results = (allocation.get("devices") or {}).get("results") or ()
        if any("nvidia" in str(result.get("driver", "")) for result in results):
            return True
    return False
