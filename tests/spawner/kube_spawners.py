"""A kubernetes spawner without JupyterHub and without a cluster, for what happens before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.objects import Hub
from kubernetes_asyncio.client import ApiClient
from traitlets.config import Config

from spawner.kube import ArmillarySpawner
from tests.spawner.catalogues import catalogue


def make(monkeypatch: pytest.MonkeyPatch, *, name: str = "ann", server: str = "", groups: tuple[str, ...] = (),
         catalogue_changes: dict[str, Any] | None = None, **config: Any) -> ArmillarySpawner:  # fmt: skip
    """Return a spawner for this user; call it in a running event loop."""
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    settings = Config()
    for key, value in {"catalogue": catalogue(**(catalogue_changes or {})), "namespace": "hub", **config}.items():
        settings.ArmillarySpawner[key] = value
    user = SimpleNamespace(
        name=name, id=7, url=f"/user/{name}/", escaped_name=name, admin=False, settings={}, db=None,
        groups=[SimpleNamespace(name=group) for group in groups], server=None,
    )  # fmt: skip
    hub = Hub(ip="10.0.0.1", port=8081, base_url="/hub/")
    orm_spawner = SimpleNamespace(name=server, user_options=None, last_activity=None, state=None, server=None)
    spawner = ArmillarySpawner(config=settings, user=user, hub=hub, orm_spawner=orm_spawner)
    spawner.api_token = "a-secret-token"
    return spawner


async def manifest(spawner: ArmillarySpawner, **options: Any) -> dict[str, Any]:
    """Return the pod for these options as it would be sent, without what changes with versions of others."""
    spawner.user_options = options
    await spawner.decide()
    await spawner.load_user_options()
    async with ApiClient() as client:
        pod: dict[str, Any] = client.sanitize_for_serialization(await spawner.get_pod_manifest())
    for key in ("hub.jupyter.org/kubespawner-version", "hub.jupyter.org/jupyterhub-version"):
        del pod["metadata"]["annotations"][key]
    return pod
