"""The proxy as the hub knows it: traefik with its routes in a file, asked often whether it has a new one."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

__all__ = ["ArmillaryProxy", "RouteNotSeen"]


class RouteNotSeen(TimeoutError):
    """The proxy did not take a route over in time."""


class ArmillaryProxy(TraefikFileProviderProxy):  # type: ignore[misc]  # upstream is untyped
    """Upstream's `traefik_file`, and configured by the same `c.TraefikFileProviderProxy` lines.

    Upstream asks with random pauses that grow from 0.2 s, while somebody waits for the server behind the route;
    traefik has read its file after a few hundredths of a second (jupyterhub-traefik-proxy 2.1, traefik 3.7).
    """

    every_s: ClassVar[float] = 0.02
    """Pause between two looks, in seconds."""

    async def _wait_for_route(self, routespec: str) -> None:
        """Return when traefik has the route.

        Raises
        ------
        RouteNotSeen
            It has not after `check_route_timeout` seconds.
        """
        try:
            async with asyncio.timeout(self.check_route_timeout):
                for kind in ("service", "router"):
                    while not await self._check_for_traefik_service(routespec, kind):  # noqa: ASYNC110  # traefik has no events
                        await asyncio.sleep(self.every_s)
        except TimeoutError:
            text = f"The proxy has no route for {routespec} after {self.check_route_timeout} s; see its log."
            raise RouteNotSeen(text) from None
