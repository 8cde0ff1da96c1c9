"""KubeSpawner's settings by name, as of 7.1: which exist, which were renamed, which cannot be written in YAML.

Upstream sets whatever attribute a `kubespawner_override` names, so that a misspelt one is silently without effect
(`KubeSpawner._apply_overrides`); here it is refused with the name that was probably meant. A test compares the tables
with the installed KubeSpawner.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

__all__ = ["EXPANDED", "FUNCTIONS", "RENAMED", "SETTINGS", "canonical", "unusable"]

FUNCTIONS: frozenset[str] = frozenset(
    {
        "after_pod_created_hook",
        "auth_state_hook",
        "get_pod_url",
        "modify_pod_hook",
        "post_stop_hook",
        "pre_spawn_hook",
        "progress_ready_hook",
    }
)
"""Settings whose value is a Python function, which YAML cannot hold."""

_DATA = """
    additional_profile_form_template_paths allow_privilege_escalation apply_user_options args
    automount_service_account_token cmd common_labels component_label consecutive_failure_limit
    container_security_context cpu_guarantee cpu_limit debug default_url delete_grace_period delete_pvc
    delete_stopped_pods disable_user_config dns_name_template enable_user_namespaces env_keep environment
    events_enabled extra_annotations extra_container_config extra_containers extra_labels extra_pod_config
    extra_resource_guarantees extra_resource_limits fs_gid gid group_overrides handle_legacy_names http_timeout
    hub_connect_ip hub_connect_port hub_connect_url image image_pull_policy image_pull_secrets init_containers
    ip k8s_api_host k8s_api_request_retry_timeout k8s_api_request_timeout k8s_api_ssl_ca_cert
    k8s_api_threadpool_workers k8s_api_verify_ssl lifecycle_hooks mem_guarantee mem_limit namespace
    node_affinity_preferred node_affinity_required node_selector notebook_dir oauth_client_allowed_scopes
    oauth_roles options_form options_from_form pod_affinity_preferred pod_affinity_required
    pod_anti_affinity_preferred pod_anti_affinity_required pod_connect_ip pod_name_template pod_security_context
    poll_interval poll_jitter port priority_class_name privileged profile_form_template profile_list
    pvc_name_template remember_pvc_name scheduler_name secret_mount_path secret_name_template
    server_token_scopes service_account services_enabled slow_spawn_message slow_spawn_message_frequency
    slow_spawn_message_threshold slug_scheme ssl_alt_names ssl_alt_names_include_local start_timeout
    storage_access_modes storage_capacity storage_class storage_extra_annotations storage_extra_labels
    storage_pvc_ensure storage_selector supplemental_gids tolerations uid user_namespace_annotations
    user_namespace_labels user_namespace_template volume_mounts volumes working_dir
"""

SETTINGS: frozenset[str] = FUNCTIONS | frozenset(_DATA.split())
"""Every configurable setting of KubeSpawner and its bases."""

_SINGLEUSER = """
    working_dir service_account extra_labels extra_annotations image_pull_policy image_pull_secrets
    node_selector uid fs_gid supplemental_gids privileged extra_pod_config init_containers
    extra_container_config extra_containers
"""
_STORAGE = """
    storage_class storage_pvc_ensure storage_capacity storage_extra_labels storage_access_modes
"""

RENAMED: Mapping[str, str] = {
    "image_spec": "image",
    "singleuser_image_spec": "image_spec",
    **{f"singleuser_{name}": name for name in _SINGLEUSER.split()},
    **{f"user_{name}": name for name in _STORAGE.split()},
}
"""Old names that upstream still understands, and the newer name of each."""

_TEMPLATES = """
    dns_name_template environment extra_annotations extra_containers extra_labels extra_pod_config
    init_containers pod_name_template pvc_name_template secret_name_template service_account
    storage_extra_annotations storage_extra_labels storage_selector user_namespace_annotations
    user_namespace_labels user_namespace_template volume_mounts volumes default_url notebook_dir
"""

EXPANDED: frozenset[str] = frozenset(_TEMPLATES.split())
"""Settings in whose texts KubeSpawner or JupyterHub replaces
`{username}` and the like by `str.format`, so that a brace meant as a brace must be doubled."""


def canonical(override: Mapping[str, Any]) -> dict[str, Any]:
    """The override with today's names; where an old and a new name both occur, the later wins, as upstream."""
    renamed: dict[str, Any] = {}
    for old, value in override.items():
        name = old
        while name in RENAMED:
            name = RENAMED[name]
        renamed.pop(name, None)
        renamed[name] = value
    return renamed


def unusable(override: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Settings that can never take effect, each as path and reason."""
    for name in override:
        if name in FUNCTIONS:
            yield (name,), "its value is a Python function, which no catalogue can hold; set it in jupyterhub_config.py"
        elif name not in SETTINGS and name not in RENAMED:
            near = get_close_matches(name, SETTINGS, n=1)
            yield (name,), f"KubeSpawner 7.1 has no such setting{f' (did you mean {near[0]}?)' if near else ''}"
