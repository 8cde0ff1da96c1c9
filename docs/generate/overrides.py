"""The tables of `kubespawner_override`: what weakens a pod's security, what the local engine understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from docs.generate.markdown import code, table
from profiles.overrides import LOCAL_KEYS, weaker_security
from profiles.security import REASONS

__all__ = ["EXAMPLES", "page"]

# One override for each reason; a test proves that it is refused for that very reason.
EXAMPLES: Mapping[str, dict[str, Any]] = {
    "privileged": {"privileged": True},
    "allow_privilege_escalation": {"allow_privilege_escalation": True},
    "root": {"uid": 0},
    "non_root": {"container_security_context": {"runAsNonRoot": False}},
    "capabilities": {"container_security_context": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    "seccomp": {"container_security_context": {"seccompProfile": {"type": "Unconfined"}}},
    "apparmor": {"container_security_context": {"appArmorProfile": {"type": "Unconfined"}}},
    "selinux": {"pod_security_context": {"seLinuxOptions": {"type": "spc_t"}}},
    "proc_mount": {"container_security_context": {"procMount": "Unmasked"}},
    "sysctls": {"pod_security_context": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}},
    "host_namespace": {"extra_pod_config": {"hostNetwork": True}},
    "host_port": {"extra_container_config": {"ports": [{"containerPort": 8888, "hostPort": 80}]}},
    "host_process": {"container_security_context": {"windowsOptions": {"hostProcess": True}}},
    "host_path": {"volumes": [{"name": "data", "hostPath": {"path": "/srv"}}]},
    "volume_type": {"volumes": [{"name": "data", "nfs": {"server": "nfs.example.org", "path": "/"}}]},
    "service_account": {"service_account": "builder"},
    "token": {"automount_service_account_token": True},
    "namespace": {"namespace": "kube-system"},
    "node_name": {"extra_pod_config": {"nodeName": "node-7"}},
    "security_context": {"extra_pod_config": {"securityContext": {"runAsUser": 1234}}},
    "removes": {"pod_security_context": None},
    "hub_rights": {"server_token_scopes": ["admin:users"]},
    "hub_environment": {"env_keep": ["DATABASE_PASSWORD"]},
    "hub_connection": {"k8s_api_verify_ssl": False},
}

_INTRODUCTION = """\
# Overrides

`kubespawner_override` of a profile or choice changes settings of KubeSpawner for that session. A name that KubeSpawner
does not have is refused when the catalogue is loaded, with the nearest name that it has.

## On the local engine

A session on one machine understands these settings. A profile or choice whose override has any other is shown greyed,
with the reason, where `engine` is `local`; so is one whose `environment` takes values from Secrets or ConfigMaps.
"""

_WEAKER = """\
## What weakens security

These are refused unless [allow_weaker_security](#setting-allow-weaker-security) is set. The measure is Pod Security
"restricted" of Kubernetes; names are compared without case and underscores.
"""


def page() -> str:
    """The page."""
    rows = [(_example(REASONS[name], override), f"It {_verb(REASONS[name])}.") for name, override in EXAMPLES.items()]
    keys = "\n".join(f"- {code(key)}" for key in sorted(LOCAL_KEYS))
    return "\n".join([_INTRODUCTION, keys + "\n", _WEAKER, table(("Such as", "Why"), rows)])


def _verb(reason: str) -> str:
    return reason.rstrip(".")


def _example(reason: str, override: dict[str, Any]) -> str:
    """The override in one line, once it is proven that it is refused for this reason."""
    if reason not in {found for _, found in weaker_security(override)}:
        raise ValueError(f"{override} is no longer refused because it {reason}")
    return code(yaml.safe_dump(override, default_flow_style=True, width=10_000).strip()[1:-1])
