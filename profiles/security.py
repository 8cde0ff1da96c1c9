"""Which overrides would weaken a pod below Pod Security "restricted", or hand a session more rights than a session has.

The measure is Kubernetes' "Pod Security Standards"; names are compared without case and underscores, since
KubeSpawner takes `hostNetwork` and `host_network` alike. `REASONS` is the documented list.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from profiles.kubespawner_settings import canonical

__all__ = ["REASONS", "Path", "weaker_security"]

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]

REASONS: Mapping[str, str] = {
    "privileged": "gives the container every right on its node",
    "allow_privilege_escalation": "lets a process gain more rights than its parent (setuid programs)",
    "root": "runs the session as root",
    "non_root": "switches the check off that a session is not root",
    "capabilities": "adds Linux capabilities, or keeps those that are dropped",
    "seccomp": "runs without the filter for system calls",
    "apparmor": "runs without AppArmor's confinement",
    "selinux": "changes the SELinux context",
    "proc_mount": "shows parts of /proc that are masked",
    "sysctls": "changes kernel parameters",
    "host_namespace": "shares the node's network, processes or IPC",
    "host_port": "opens a port of the node",
    "host_process": "runs as a process of the node",
    "host_path": "mounts a path of the node",
    "volume_type": 'is a kind of volume that Pod Security "restricted" does not allow',
    "service_account": "gives the session a service account's rights in the cluster",
    "token": "mounts a token for the cluster's API",
    "namespace": "moves the session to another namespace, out of reach of the policies of this one",
    "node_name": "goes past the scheduler and its rules",
    "security_context": "replaces the security settings as a whole",
    "removes": "takes a security setting away",
    "hub_rights": "changes what the session may do at the hub",
    "hub_environment": "copies variables of the hub's environment, secrets among them, into the session",
    "hub_connection": "changes how the hub speaks to the cluster's API, for everybody",
}
"""Every reason for which an override is refused unless `allow_weaker_security` is set."""

_VOLUMES = frozenset(
    {"configmap", "csi", "downwardapi", "emptydir", "ephemeral", "persistentvolumeclaim", "projected", "secret"}
)
"""Kinds of volume in Pod Security "restricted"."""


def weaker_security(override: Mapping[str, Any]) -> tuple[tuple[Path, str], ...]:
    """What in the override weakens security: where it lies in the override, and why."""
    found: list[tuple[Path, str]] = []
    for name, value in override.items():
        today = next(iter(canonical({name: None})))
        look = _LOOKS.get(today)
        if look is not None:
            found.extend(look(value, (name,)))
    return tuple(found)


def _plain(name: object) -> str:
    return str(name).replace("_", "").lower()


def _items(value: object) -> Iterator[tuple[str | int, Any]]:
    """What a list or mapping holds, by index or key; nothing for anything else."""
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _always(reason: str) -> Callable[[Any, Path], Found]:
    def look(value: Any, path: Path) -> Found:
        yield path, REASONS[reason]

    return look


def _unless(harmless: tuple[Any, ...], reason: str) -> Callable[[Any, Path], Found]:
    """Anything but the harmless values, compared with their type: 0 is not False."""

    def look(value: Any, path: Path) -> Found:
        if not any(value is fine or (type(value) is type(fine) and value == fine) for fine in harmless):
            yield path, REASONS[reason]

    return look


def _root_user(value: Any, path: Path) -> Found:
    if str(value).strip().lstrip("+-0") == "" and value is not None and str(value).strip():
        yield path, REASONS["root"]


def _unconfined(reason: str) -> Callable[[Any, Path], Found]:
    def look(value: Any, path: Path) -> Found:
        for key, inner in _items(value):
            if _plain(key) == "type" and str(inner).lower() == "unconfined":
                yield (*path, key), REASONS[reason]

    return look


def _capabilities(value: Any, path: Path) -> Found:
    for key, names in _items(value):
        listed = {str(name).upper() for _, name in _items(names)}
        added = _plain(key) == "add" and listed - {"NET_BIND_SERVICE"}
        kept = _plain(key) == "drop" and "ALL" not in listed
        if added or kept:
            yield (*path, key), REASONS["capabilities"]


def _windows(value: Any, path: Path) -> Found:
    for key, inner in _items(value):
        if _plain(key) == "hostprocess" and inner:
            yield (*path, key), REASONS["host_process"]


def _filled(reason: str) -> Callable[[Any, Path], Found]:
    def look(value: Any, path: Path) -> Found:
        if value:
            yield path, REASONS[reason]

    return look


_CONTEXT: Mapping[str, Callable[[Any, Path], Found]] = {
    "privileged": _unless((False,), "privileged"),
    "allowprivilegeescalation": _unless((False,), "allow_privilege_escalation"),
    "runasnonroot": _unless((True,), "non_root"),
    "runasuser": _root_user,
    "capabilities": _capabilities,
    "seccompprofile": _unconfined("seccomp"),
    "apparmorprofile": _unconfined("apparmor"),
    "selinuxoptions": _filled("selinux"),
    "procmount": _unless(("Default",), "proc_mount"),
    "sysctls": _filled("sysctls"),
    "windowsoptions": _windows,
}


def _context(value: Any, path: Path) -> Found:
    """A securityContext of a pod or container."""
    if value is None:
        yield path, REASONS["removes"]
    for key, inner in _items(value):
        if inner is None:
            yield (*path, key), REASONS["removes"]
        else:
            look = _CONTEXT.get(_plain(key))
            yield from look(inner, (*path, key)) if look else ()


def _ports(value: Any, path: Path) -> Found:
    for index, port in _items(value):
        for key, inner in _items(port):
            if _plain(key) == "hostport" and inner:
                yield (*path, index, key), REASONS["host_port"]


def _containers(value: Any, path: Path) -> Found:
    """Further containers, as list or by name."""
    for index, container in _items(value):
        for key, inner in _items(container):
            if _plain(key) == "securitycontext" and inner is not None:
                yield from _context(inner, (*path, index, key))
            elif _plain(key) == "ports":
                yield from _ports(inner, (*path, index, key))


def _volumes(value: Any, path: Path) -> Found:
    for index, volume in _items(value):
        for key, source in _items(volume):
            kind = _plain(key)
            if kind == "name" or source is None:
                continue
            if kind == "hostpath":
                yield (*path, index, key), REASONS["host_path"]
            elif kind not in _VOLUMES:
                yield (*path, index, key), REASONS["volume_type"]
            elif kind == "projected":
                yield from _projected(source, (*path, index, key))


def _projected(value: Any, path: Path) -> Found:
    sources = value.get("sources") if isinstance(value, Mapping) else None
    for index, source in _items(sources):
        for key, _ in _items(source):
            if _plain(key) == "serviceaccounttoken":
                yield (*path, "sources", index, key), REASONS["token"]


def _annotations(value: Any, path: Path) -> Found:
    """The annotations by which AppArmor and seccomp were set before they had fields."""
    for key, inner in _items(value):
        if str(inner).lower() == "unconfined" and "apparmor" in str(key).lower():
            yield (*path, key), REASONS["apparmor"]
        elif str(inner).lower() == "unconfined" and "seccomp" in str(key).lower():
            yield (*path, key), REASONS["seccomp"]


def _within(looks: Mapping[str, Callable[[Any, Path], Found]]) -> Callable[[Any, Path], Found]:
    def look(value: Any, path: Path) -> Found:
        for key, inner in _items(value):
            inside = looks.get(_plain(key))
            yield from inside(inner, (*path, key)) if inside else ()

    return look


_CONTAINER_CONFIG = _within({"securitycontext": _always("security_context"), "ports": _ports})

_POD_CONFIG = _within(
    {
        "hostnetwork": _unless((False, None), "host_namespace"),
        "hostpid": _unless((False, None), "host_namespace"),
        "hostipc": _unless((False, None), "host_namespace"),
        "securitycontext": _always("security_context"),
        "serviceaccount": _filled("service_account"),
        "serviceaccountname": _filled("service_account"),
        "automountserviceaccounttoken": _unless((False,), "token"),
        "nodename": _filled("node_name"),
        "containers": _always("security_context"),
        "initcontainers": _containers,
        "ephemeralcontainers": _containers,
        "volumes": _volumes,
    }
)

_LOOKS: Mapping[str, Callable[[Any, Path], Found]] = {
    "privileged": _unless((False, None), "privileged"),
    "allow_privilege_escalation": _unless((False,), "allow_privilege_escalation"),
    "uid": _root_user,
    "container_security_context": _context,
    "pod_security_context": _context,
    "service_account": _filled("service_account"),
    "automount_service_account_token": _unless((False,), "token"),
    "volumes": _volumes,
    "init_containers": _containers,
    "extra_containers": _containers,
    "extra_container_config": _CONTAINER_CONFIG,
    "extra_pod_config": _POD_CONFIG,
    "extra_annotations": _annotations,
    "namespace": _always("namespace"),
    "enable_user_namespaces": _always("namespace"),
    "user_namespace_template": _always("namespace"),
    "oauth_client_allowed_scopes": _always("hub_rights"),
    "oauth_roles": _always("hub_rights"),
    "server_token_scopes": _always("hub_rights"),
    "env_keep": _filled("hub_environment"),
    "k8s_api_host": _always("hub_connection"),
    "k8s_api_ssl_ca_cert": _always("hub_connection"),
    "k8s_api_verify_ssl": _always("hub_connection"),
}
