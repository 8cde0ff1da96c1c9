"""What both hubs of the storm have in common: sessions that are played, and somebody who may count them."""

from __future__ import annotations

import os
from typing import Any

from tests.bench.bare_spawner import BareSpawner

__all__ = ["BARE", "apply"]

BARE = "bare"
"""The hub whose servers are nothing but an address: what it costs is JupyterHub's own."""


def apply(c: Any) -> None:
    """Change a hub's configuration."""
    address, port = os.environ["BENCH_SERVERS"].rsplit(":", 1)
    c.KubeSpawner.pod_connect_ip = address
    c.Spawner.port = int(port)
    # A simulated node has no volumes, and pods of this benchmark have none.
    c.KubeSpawner.storage_pvc_ensure = False
    c.KubeSpawner.volumes = {}
    c.KubeSpawner.volume_mounts = {}
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.services.append({"name": "bench", "api_token": os.environ["BENCH_TOKEN"]})
    role = {"name": "bench", "scopes": ["list:users", "read:servers"], "services": ["bench"]}
    c.JupyterHub.load_roles.append(role)
    if os.environ["BENCH_HUB"] in ("plain", BARE):
        c.JupyterHub.concurrent_spawn_limit = 0
    if os.environ["BENCH_HUB"] == BARE:
        c.JupyterHub.spawner_class = BareSpawner
        c.Spawner.options_form = '<input name="profile" value="jupyterlab">'
