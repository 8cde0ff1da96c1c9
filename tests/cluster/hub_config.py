"""The hub of the cluster tests: everything by `hub.config.apply`, but people log in by name, and the tests have a token."""

from __future__ import annotations

import os
from pathlib import Path

from hub.config import apply
from hub.settings import load

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # JupyterHub puts it there

apply(c, load(Path(os.environ["HUB_FOLDER"], "armillary.yaml"), environ={}))

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"administrator"}
# A hub waits at its start for services it knows of: ours only where a test runs it.
ours = c.JupyterHub.services if "HUB_SERVICE" in os.environ else []
c.JupyterHub.services = [*ours, {"name": "tests", "api_token": os.environ["HUB_TOKEN"]}]
roles = [
    {"name": "tests", "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"], "services": ["tests"]}
]
if "HUB_SERVICE" in os.environ:
    c.JupyterHub.load_roles.extend(roles)
else:  # the role of our service would be one of nobody
    c.JupyterHub.load_roles = roles

if "HUB_SERVERS" in os.environ:  # every session is played by one server there, as simulated nodes run nothing
    address, port = os.environ["HUB_SERVERS"].rsplit(":", 1)
    c.KubeSpawner.pod_connect_ip = address
    c.Spawner.port = int(port)
    c.KubeSpawner.storage_pvc_ensure = False
    c.KubeSpawner.volumes = {}
    c.KubeSpawner.volume_mounts = {}
