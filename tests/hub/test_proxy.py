"""Waiting for a route: as soon as traefik has it, and with a clear word when it never does."""

from __future__ import annotations

import asyncio

import pytest

from hub.proxy import ArmillaryProxy, RouteNotSeen


class Traefik(ArmillaryProxy):
    """A proxy whose API knows the service after `delay` looks and the router after as many again."""

    delay = 3

    def __init__(self) -> None:
        super().__init__(should_start=True)
        self.looks: list[str] = []

    async def _check_for_traefik_service(self, routespec: str, kind: str) -> bool:
        self.looks.append(kind)
        return self.looks.count(kind) >= self.delay


async def test_returns_when_service_and_router_are_there() -> None:
    proxy = Traefik()

    await proxy._wait_for_route("/user/ada/")

    assert proxy.looks == ["service"] * 3 + ["router"] * 3


async def test_looks_often() -> None:
    # Upstream's pauses grow and are random; a person is waiting.
    proxy = Traefik()
    pauses: list[float] = []
    asleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        await proxy._wait_for_route("/user/ada/")

    assert pauses == [ArmillaryProxy.every_s] * 4


async def test_a_route_that_never_comes_is_said() -> None:
    proxy = Traefik()
    proxy.delay = 10**9
    proxy.check_route_timeout = 0

    with pytest.raises(RouteNotSeen, match="no route for /user/ada/ after 0 s"):
        await proxy._wait_for_route("/user/ada/")
