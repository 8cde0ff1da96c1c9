"""Who uses a node: sessions of ours, and other pods that have a card. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.discover.finding import plain
from spawner.capacity.slim import SPAWN_ID

__all__ = ["Occupant", "occupants_of"]

_ACCELERATOR = "armillary/accelerator"
_USER, _SERVER = "hub.jupyter.org/username", "hub.jupyter.org/servername"
_DOMAIN = "nvidia.com/"


@dataclass(frozen=True)
class Occupant:
    """One pod.

    `devices` says which cards it has, such as `1 nvidia.com/gpu`; empty: none. `session` is whether it is one of
    Armillary's. `returns` names what would make it anew on the same node. `since` is as the API writes times.
    """

    namespace: str
    name: str
    uid: str
    since: str
    devices: str = ""
    session: bool = False
    user: str = ""
    server: str = ""
    accelerator: str = ""
    owner: str = ""
    returns: bool = False

    def __str__(self) -> str:
        where = f"pod {plain(self.namespace)}/{plain(self.name)}, since {plain(self.since)}"
        has = plain(self.devices) or "no card"
        if self.session:
            which = f"server {plain(self.server)!r}" if self.server else "the default server"
            with_what = plain(self.accelerator) or has
            return f"the session of {plain(self.user) or 'somebody'} ({which}, {with_what}; {where})"
        return f"{where} ({f'of {plain(self.owner)}, ' if self.owner else ''}{has})"


def occupants_of(
    pods: Iterable[Mapping[str, Any]], claims_nvidia: Callable[[Mapping[str, Any]], bool], operator: str = ""
) -> tuple[Occupant, ...]:
    """Return the pods of one node that are sessions or have cards and are not over, sessions first.

    Parameters
    ----------
    claims_nvidia
        Whether a pod with DRA claims has an NVIDIA device.
    operator
        Namespace of NVIDIA's own daemons, which the MIG manager ends and starts by itself.
    """
    found = []
    for pod in pods:
        meta, spec, status = (pod.get(part) or {} for part in ("metadata", "spec", "status"))
        if status.get("phase") in ("Succeeded", "Failed"):
            continue
        one = _occupant(meta, spec, status, dra=bool(spec.get("resourceClaims")) and claims_nvidia(pod))
        daemon = one.owner.startswith("DaemonSet ")
        if (one.session or one.devices) and not (daemon and operator and one.namespace == operator):
            found.append(one)
    return tuple(sorted(found, key=lambda one: (not one.session, one.namespace, one.name)))


def _occupant(meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any], *, dra: bool) -> Occupant:
    notes = meta.get("annotations") or {}
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), None)
    devices = _devices(spec)
    if dra:
        devices.append("devices by DRA")
    return Occupant(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        since=str(status.get("startTime") or meta.get("creationTimestamp") or "?"),
        devices=", ".join(devices),
        session=SPAWN_ID in notes,
        user=str(notes.get(_USER, "")),
        server=str(notes.get(_SERVER, "")),
        accelerator=str(notes.get(_ACCELERATOR, "")),
        owner=f"{owner.get('kind')} {owner.get('name')}" if owner else "",
        returns=bool(owner) and owner is not None and owner.get("kind") == "DaemonSet",
    )


def _devices(spec: Mapping[str, Any]) -> list[str]:
    found: dict[str, int] = {}
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            resources = container.get("resources") or {}
            for name, amount in {**(resources.get("requests") or {}), **(resources.get("limits") or {})}.items():
                if str(name).startswith(_DOMAIN) and str(amount).isdecimal() and int(amount):
                    found[str(name)] = found.get(str(name), 0) + int(amount)
    return [f"{count} {name}" for name, count in sorted(found.items())]
