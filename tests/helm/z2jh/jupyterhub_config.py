"""Stand-in for the configuration that Zero to JupyterHub 4 mounts into its hub's pod.

It does what the chart's does, in the same order, as far as it matters to an image and to what a site's
`hub.extraConfig` finds: what it imports, where proxy and hub are, the database, names and labels, homes, the init
container against clouds' metadata, services and roles, the culler, secrets, `hub.config`, and last the lines of
`hub.extraConfig`, sorted by their keys. Left out: the user scheduler, placement by the purpose of nodes, files of
sessions and pull secrets.
"""

import os
import re
import sys
from pathlib import Path

from jupyterhub.utils import url_path_join
from kubernetes_asyncio import client
from tornado.httpclient import AsyncHTTPClient

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # JupyterHub puts it there

sys.path.insert(0, str(Path(__file__).resolve().parent))

import z2jh  # type: ignore[import-not-found]  # noqa: E402  # lies beside this file where it is mounted


def _set(parent, section, names):  # type: ignore[no-untyped-def]
    """Set traits from values; a value without a name of its own has the trait's, in camelCase."""
    for trait, name in names.items():
        own = name or re.sub("_(.)", lambda found: found[1].upper(), trait)
        z2jh.set_config_if_not_none(parent, trait, f"{section}.{own}")


# An image without curl's Python module does not come past this line.
AsyncHTTPClient.configure("tornado.curl_httpclient.CurlAsyncHTTPClient")

# --- proxy, database, hub
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
port = z2jh.get_name_env("proxy-api", "_SERVICE_PORT")
c.ConfigurableHTTPProxy.api_url = f"http://{z2jh.get_name('proxy-api')}:{port}"
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.cleanup_servers = False
c.JupyterHub.last_activity_interval = 60
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
if z2jh.get_config("hub.db.type") == "sqlite-pvc":
    c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"  # of the working directory
else:
    z2jh.set_config_if_not_none(c.JupyterHub, "db_url", "hub.db.url")
hub = ("concurrent_spawn_limit", "active_server_limit", "base_url", "allow_named_servers", "authenticate_prometheus")
hub += ("named_server_limit_per_user", "redirect_to_server", "shutdown_on_logout", "template_paths", "template_vars")
_set(c.JupyterHub, "hub", dict.fromkeys(hub))
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = f"http://{z2jh.get_name('hub')}:{z2jh.get_name_env('hub', '_SERVICE_PORT')}"

# --- sessions
labels = c.KubeSpawner.common_labels = {}
labels["app.kubernetes.io/name"] = labels["app"] = z2jh.get_config("Chart.Name", "jupyterhub")
labels["app.kubernetes.io/instance"] = labels["release"] = z2jh.get_config("Release.Name")
labels["app.kubernetes.io/managed-by"] = "kubespawner"
c.KubeSpawner.namespace = os.environ["POD_NAMESPACE"]
z2jh.set_config_if_not_none(c.Spawner, "consecutive_failure_limit", "hub.consecutiveFailureLimit")
session = {
    "image_pull_policy": "image.pullPolicy",
    "events_enabled": "events",
    "service_account": "serviceAccountName",
    "mem_limit": "memory.limit",
    "mem_guarantee": "memory.guarantee",
    "cpu_limit": "cpu.limit",
    "cpu_guarantee": "cpu.guarantee",
    "environment": "extraEnv",
}
same = ("start_timeout", "extra_labels", "extra_annotations", "uid", "fs_gid", "node_selector", "lifecycle_hooks")
same += ("init_containers", "extra_containers", "profile_list", "extra_pod_config")
_set(c.KubeSpawner, "singleuser", {**session, **dict.fromkeys(same)})
c.KubeSpawner.allow_privilege_escalation = z2jh.get_config("singleuser.allowPrivilegeEscalation")
c.KubeSpawner.image = f"{z2jh.get_config('singleuser.image.name')}:{z2jh.get_config('singleuser.image.tag')}"
if tolerations := z2jh.get_config("scheduling.userPods.tolerations"):
    c.KubeSpawner.tolerations = tolerations
if z2jh.get_config("singleuser.storage.type") == "dynamic":
    volume = z2jh.get_config("singleuser.storage.dynamic.volumeNameTemplate")
    c.KubeSpawner.storage_pvc_ensure = True
    _set(c.KubeSpawner, "singleuser.storage.dynamic", {"storage_class": None, "storage_access_modes": None})
    z2jh.set_config_if_not_none(c.KubeSpawner, "storage_capacity", "singleuser.storage.capacity")
    c.KubeSpawner.volumes = [{"name": volume, "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]
    c.KubeSpawner.volume_mounts = [{"mountPath": z2jh.get_config("singleuser.storage.homeMountPath"), "name": volume}]
c.KubeSpawner.volumes.extend(z2jh.get_config("singleuser.storage.extraVolumes", []))
c.KubeSpawner.volume_mounts.extend(z2jh.get_config("singleuser.storage.extraVolumeMounts", []))

# --- services and roles
c.JupyterHub.services = []
c.JupyterHub.load_roles = []
if z2jh.get_config("cull.enabled", False):
    culler = "jupyterhub-idle-culler"
    api = "http://localhost:8081" + url_path_join(c.JupyterHub.get("base_url", "/"), "hub/api")
    timeout = z2jh.get_config("cull.timeout")
    command = ["python3", "-m", "jupyterhub_idle_culler", f"--url={api}", f"--timeout={timeout}"]
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    c.JupyterHub.services.append({"name": culler, "command": command})
    c.JupyterHub.load_roles.append({"name": culler, "scopes": scopes, "services": [culler]})
for key, service in z2jh.get_config("hub.services", {}).items():
    service.setdefault("name", key)
    service.pop("apiToken", None)
    service["api_token"] = z2jh.get_secret_value(f"hub.services.{key}.apiToken")
    c.JupyterHub.services.append(service)
for key, role in z2jh.get_config("hub.loadRoles", {}).items():
    role.setdefault("name", key)
    c.JupyterHub.load_roles.append(role)
z2jh.set_config_if_not_none(c.Spawner, "default_url", "singleuser.defaultUrl")
if z2jh.get_config("singleuser.cloudMetadata.blockWithIptables"):
    tools = z2jh.get_config("singleuser.networkTools.image")
    block = ["iptables", "-A", "OUTPUT", "-d", z2jh.get_config("singleuser.cloudMetadata.ip"), "-j", "DROP"]
    root = client.V1SecurityContext(
        privileged=True, run_as_user=0, capabilities=client.V1Capabilities(add=["NET_ADMIN"])
    )
    image = f"{tools['name']}:{tools['tag']}"
    c.KubeSpawner.init_containers.append(
        client.V1Container(name="block-cloud-metadata", image=image, command=block, security_context=root)
    )

# --- secrets, and what the site says itself
c.JupyterHub.cookie_secret = z2jh.get_secret_value("hub.config.JupyterHub.cookie_secret")
c.CryptKeeper.keys = z2jh.get_secret_value("hub.config.CryptKeeper.keys").split(";")
for name, traits in z2jh.get_config("hub.config", {}).items():
    made = {"JupyterHub": {"cookie_secret", "services"}, "CryptKeeper": {"keys"}}.get(name, set())
    c[name].update({trait: value for trait, value in traits.items() if trait not in made})
for _, lines in sorted(z2jh.get_config("hub.extraConfig", {}).items()):
    exec(lines)
