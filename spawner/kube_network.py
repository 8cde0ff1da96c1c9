"""How a server's pod is reached: its port, a Service and certificates where they are configured."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.utils import make_ssl_context, maybe_future
from kubespawner.objects import make_owner_reference

from spawner.api_refusals import explain
from spawner.kube_access import KubeAccess
from spawner.kube_api import ApiFailure

__all__ = ["KubeNetwork"]


class KubeNetwork(KubeAccess):
    """What stands between the hub and the pod."""

    async def surround(self, pod: dict[str, Any]) -> None:
        """Make the TLS Secret and the Service where they are configured, and run the deployer's hook.

        Raises
        ------
        Refusal
            With the cause in plain words.
        """
        owner = make_owner_reference(self.pod_name, pod["metadata"]["uid"])
        kube = self.kube()
        try:
            if self.internal_ssl:
                manifest = await asyncio.to_thread(self.get_secret_manifest, owner)  # reads files
                await kube.renew("secret", self.namespace, self.secret_name, manifest)
            if self.internal_ssl or self.services_enabled:
                manifest = self.get_service_manifest(owner, self._get_pod_port(pod))
                await kube.renew("service", self.namespace, self.pod_name, manifest)
        except ApiFailure as failure:
            raise explain(failure, "the network name of your server") from failure
        if self.after_pod_created_hook:
            await maybe_future(self.after_pod_created_hook(self, pod))

    def ssl_options(self) -> Any:
        """Return with what to speak to the server; None without `internal_ssl`."""
        if not self.internal_ssl:
            return None
        files = (self.user.settings.get(f"internal_ssl_{name}") for name in ("key", "cert"))
        return make_ssl_context(*files, cafile=self.user.settings.get("internal_ssl_ca"))

    def _get_pod_port(self, pod: dict[str, Any]) -> int:
        """Return the session's port; upstream's fails on a sidecar without ports."""
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or ():
                if port.get("name") == "notebook-port":
                    return int(port["containerPort"])
        return int(self.port)
