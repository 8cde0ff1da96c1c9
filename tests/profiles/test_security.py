"""Overrides that weaken a pod: each is found, at its place, with its reason; what is harmless is let through."""

from typing import Any

import pytest

from profiles.overrides import weaker_security
from profiles.security import REASONS

WEAK: list[tuple[str, dict[str, Any], tuple[str | int, ...]]] = [
    ("privileged", {"privileged": True}, ("privileged",)),
    ("privileged", {"singleuser_privileged": True}, ("singleuser_privileged",)),
    ("privileged", {"privileged": "yes"}, ("privileged",)),
    ("allow_privilege_escalation", {"allow_privilege_escalation": True}, ("allow_privilege_escalation",)),
    ("allow_privilege_escalation", {"allow_privilege_escalation": None}, ("allow_privilege_escalation",)),
    ("root", {"uid": 0}, ("uid",)),
    ("root", {"uid": "0"}, ("uid",)),
    (
        "root",
        {"container_security_context": {"runAsUser": 0}},
        ("container_security_context", "runAsUser"),
    ),
    ("root", {"pod_security_context": {"run_as_user": 0}}, ("pod_security_context", "run_as_user")),
    ("non_root", {"pod_security_context": {"runAsNonRoot": False}}, ("pod_security_context", "runAsNonRoot")),
    (
        "capabilities",
        {"container_security_context": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        ("container_security_context", "capabilities", "add"),
    ),
    (
        "capabilities",
        {"container_security_context": {"capabilities": {"drop": ["CHOWN"]}}},
        ("container_security_context", "capabilities", "drop"),
    ),
    ("removes", {"container_security_context": {"capabilities": None}}, ("container_security_context", "capabilities")),
    ("removes", {"container_security_context": None}, ("container_security_context",)),
    (
        "seccomp",
        {"pod_security_context": {"seccompProfile": {"type": "Unconfined"}}},
        ("pod_security_context", "seccompProfile", "type"),
    ),
    (
        "apparmor",
        {"container_security_context": {"appArmorProfile": {"type": "Unconfined"}}},
        ("container_security_context", "appArmorProfile", "type"),
    ),
    (
        "seccomp",
        {"extra_annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
        ("extra_annotations", "seccomp.security.alpha.kubernetes.io/pod"),
    ),
    (
        "apparmor",
        {"extra_annotations": {"container.apparmor.security.beta.kubernetes.io/notebook": "unconfined"}},
        ("extra_annotations", "container.apparmor.security.beta.kubernetes.io/notebook"),
    ),
    (
        "selinux",
        {"container_security_context": {"seLinuxOptions": {"type": "spc_t"}}},
        ("container_security_context", "seLinuxOptions"),
    ),
    (
        "proc_mount",
        {"container_security_context": {"procMount": "Unmasked"}},
        ("container_security_context", "procMount"),
    ),
    (
        "sysctls",
        {"pod_security_context": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        ("pod_security_context", "sysctls"),
    ),
    (
        "host_process",
        {"container_security_context": {"windowsOptions": {"hostProcess": True}}},
        ("container_security_context", "windowsOptions", "hostProcess"),
    ),
    ("host_namespace", {"extra_pod_config": {"hostNetwork": True}}, ("extra_pod_config", "hostNetwork")),
    ("host_namespace", {"extra_pod_config": {"host_pid": True}}, ("extra_pod_config", "host_pid")),
    ("host_namespace", {"extra_pod_config": {"hostIPC": True}}, ("extra_pod_config", "hostIPC")),
    ("node_name", {"extra_pod_config": {"nodeName": "node-1"}}, ("extra_pod_config", "nodeName")),
    ("security_context", {"extra_pod_config": {"securityContext": {}}}, ("extra_pod_config", "securityContext")),
    (
        "security_context",
        {"extra_container_config": {"security_context": {"runAsUser": 1000}}},
        ("extra_container_config", "security_context"),
    ),
    ("security_context", {"extra_pod_config": {"containers": []}}, ("extra_pod_config", "containers")),
    (
        "host_port",
        {"extra_container_config": {"ports": [{"containerPort": 80, "hostPort": 80}]}},
        ("extra_container_config", "ports", 0, "hostPort"),
    ),
    ("host_path", {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, ("volumes", 0, "hostPath")),
    ("host_path", {"volumes": {"a": {"name": "x", "host_path": {"path": "/"}}}}, ("volumes", "a", "host_path")),
    (
        "host_path",
        {"extra_pod_config": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}},
        ("extra_pod_config", "volumes", 0, "hostPath"),
    ),
    ("volume_type", {"volumes": [{"name": "x", "nfs": {"server": "s", "path": "/"}}]}, ("volumes", 0, "nfs")),
    (
        "token",
        {"volumes": [{"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        ("volumes", 0, "projected", "sources", 0, "serviceAccountToken"),
    ),
    ("token", {"automount_service_account_token": True}, ("automount_service_account_token",)),
    (
        "token",
        {"extra_pod_config": {"automountServiceAccountToken": True}},
        ("extra_pod_config", "automountServiceAccountToken"),
    ),
    ("service_account", {"service_account": "admin"}, ("service_account",)),
    (
        "service_account",
        {"extra_pod_config": {"serviceAccountName": "admin"}},
        ("extra_pod_config", "serviceAccountName"),
    ),
    (
        "privileged",
        {"init_containers": [{"name": "i", "securityContext": {"privileged": True}}]},
        ("init_containers", 0, "securityContext", "privileged"),
    ),
    (
        "root",
        {"extra_containers": {"side": {"name": "i", "securityContext": {"runAsUser": 0}}}},
        ("extra_containers", "side", "securityContext", "runAsUser"),
    ),
    (
        "root",
        {"extra_pod_config": {"initContainers": [{"name": "i", "securityContext": {"runAsUser": 0}}]}},
        ("extra_pod_config", "initContainers", 0, "securityContext", "runAsUser"),
    ),
    (
        "host_port",
        {"extra_containers": [{"name": "i", "ports": [{"hostPort": 22}]}]},
        ("extra_containers", 0, "ports", 0, "hostPort"),
    ),
    ("namespace", {"namespace": "kube-system"}, ("namespace",)),
    ("namespace", {"enable_user_namespaces": True}, ("enable_user_namespaces",)),
    ("hub_rights", {"server_token_scopes": ["admin:users"]}, ("server_token_scopes",)),
    ("hub_rights", {"oauth_roles": ["admin"]}, ("oauth_roles",)),
    ("hub_environment", {"env_keep": ["AWS_SECRET_ACCESS_KEY"]}, ("env_keep",)),
    ("hub_connection", {"k8s_api_verify_ssl": False}, ("k8s_api_verify_ssl",)),
]


@pytest.mark.parametrize(("reason", "override", "path"), WEAK, ids=[f"{row[0]}-{n}" for n, row in enumerate(WEAK)])
def test_what_weakens_security_is_found(reason: str, override: dict[str, Any], path: tuple[str | int, ...]) -> None:
    assert weaker_security(override) == ((path, REASONS[reason]),)


def test_every_reason_has_its_example() -> None:
    assert {row[0] for row in WEAK} == set(REASONS)


@pytest.mark.parametrize(
    "override",
    [
        {},
        {"image": "x", "cpu_limit": 2, "node_selector": {"a": "b"}, "tolerations": [{"key": "x"}]},
        {"uid": 1000, "gid": 0, "fs_gid": 100, "supplemental_gids": [5]},
        {"privileged": False, "allow_privilege_escalation": False, "automount_service_account_token": False},
        {"container_security_context": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}},
        {"container_security_context": {"runAsUser": 1000, "runAsNonRoot": True, "procMount": "Default"}},
        {"pod_security_context": {"seccompProfile": {"type": "RuntimeDefault"}}},
        {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}}]},
        {"volumes": {"a": None, "b": {"name": "b", "configMap": {"name": "c"}, "hostPath": None}}},
        {"init_containers": [{"name": "i", "image": "x", "securityContext": {"runAsNonRoot": True}}]},
        {"extra_pod_config": {"hostNetwork": False, "priority": 1, "runtimeClassName": "nvidia"}},
        {"extra_container_config": {"ports": [{"containerPort": 8888}], "envFrom": []}},
        {"extra_annotations": {"a": "unconfined"}},
        {"extra_resource_limits": {"nvidia.com/gpu": "1"}},
    ],
)
def test_what_is_harmless_is_let_through(override: dict[str, Any]) -> None:
    assert weaker_security(override) == ()


@pytest.mark.parametrize("odd", [None, 5, "text", [], [[]], {}, {"a": None}, [None], {"a": [{}]}])
@pytest.mark.parametrize(
    "name",
    [
        "volumes",
        "init_containers",
        "extra_pod_config",
        "extra_container_config",
        "extra_annotations",
        "pod_security_context",
    ],
)
def test_odd_values_break_nothing(name: str, odd: Any) -> None:
    for path, reason in weaker_security({name: odd}):
        assert path[0] == name
        assert reason in REASONS.values()
