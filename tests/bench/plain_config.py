"""What ours is measured against: JupyterHub and KubeSpawner as they come, set up as Zero to JupyterHub 4 sets them up.

Every line is either what the chart sets, what the cluster demands (Pod Security "restricted"), or an address.
"""

from __future__ import annotations

import os
from pathlib import Path

import bcrypt

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # JupyterHub puts it there

# Addresses. The hub is outside the cluster; pods reach it at the bridge's address.
c.JupyterHub.bind_url = os.environ["BENCH_URL"]
c.JupyterHub.hub_bind_url = os.environ["BENCH_HUB_URL"]
c.JupyterHub.hub_connect_url = os.environ["BENCH_HUB_URL"]
c.JupyterHub.db_url = f"sqlite:///{os.environ['BENCH_FOLDER']}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{os.environ['BENCH_FOLDER']}/cookie_secret"
c.ConfigurableHTTPProxy.should_start = False

# The same proxy as ours.
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.dynamic_config_file = f"{os.environ['BENCH_FOLDER']}/rules.toml"
c.TraefikFileProviderProxy.static_config_file = f"{os.environ['BENCH_FOLDER']}/traefik.toml"
c.TraefikFileProviderProxy.traefik_api_url = os.environ["BENCH_PROXY_API_URL"]
c.TraefikFileProviderProxy.traefik_api_username = "bench"
c.TraefikFileProviderProxy.traefik_api_password = os.environ["BENCH_PROXY_PASSWORD"]
if os.environ["BENCH_HUB"] == "quick-proxy":
    # As ours (hub/config.py). By default this proxy's password takes a quarter of a second of a core to check, three
    # times for each start; to tell that from what KubeSpawner costs, it is measured without it as well.
    c.TraefikFileProviderProxy.traefik_api_hashed_password = bcrypt.hashpw(
        os.environ["BENCH_PROXY_PASSWORD"].encode(), bcrypt.gensalt(rounds=4)
    ).decode()
c.TraefikFileProviderProxy.traefik_log_level = "WARN"

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True

# As the chart sets them: hub.concurrentSpawnLimit, singleuser.startTimeout, singleuser.defaultUrl, and the progress
# page at once (slow_spawn_timeout).
c.JupyterHub.concurrent_spawn_limit = 64
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.start_timeout = 300
c.KubeSpawner.namespace = os.environ["BENCH_NAMESPACE"]
c.KubeSpawner.default_url = "/lab"
c.KubeSpawner.image = os.environ["BENCH_IMAGE"]
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.cpu_guarantee = 0.5
c.KubeSpawner.mem_guarantee = "512M"
c.KubeSpawner.mem_limit = "1G"
c.KubeSpawner.cpu_limit = 2
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_class = os.environ["BENCH_STORAGE_CLASS"]
c.KubeSpawner.storage_capacity = "10Gi"
c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
c.KubeSpawner.pvc_name_template = "claim-{user_server}"
c.KubeSpawner.volumes = {"home": {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}}
c.KubeSpawner.volume_mounts = {"home": {"name": "home", "mountPath": "/home/user"}}
# One profile: people pick it in a form, as with ours.
c.KubeSpawner.profile_list = [{"display_name": "JupyterLab", "slug": "jupyterlab", "default": True}]

# What Pod Security "restricted" demands.
c.KubeSpawner.uid = 1000
c.KubeSpawner.gid = 1000
c.KubeSpawner.fs_gid = 1000
c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.container_security_context = {"capabilities": {"drop": ["ALL"]}}
c.KubeSpawner.pod_security_context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

if "BENCH_LOOP" in os.environ:
    from tests.bench import loop_watch

    loop_watch.install(Path(os.environ["BENCH_LOOP"]))

if "BENCH_SERVERS" in os.environ:
    from tests.bench import storm_config

    storm_config.apply(c)
