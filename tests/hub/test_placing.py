"""What the hub's own lines place is decided alike at the hub, at the service and in the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from hub.admission import placing
from hub.admission.desk import SqlDesk
from hub.admission.hub_api import HubServers
from hub.admission.promote import promote_next
from hub.controller.lease import Lease
from hub.controller.publish import publish
from hub.db.transaction import read, write
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess, Identity
from hub.web.place import Place
from profiles.model import Catalogue
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.kube import ArmillarySpawner
from spawner.protocols import PlacingDesk
from spawner.refusal import Refusal
from tests.hub.admission_world import until
from tests.hub.hub_double import TOKEN, HubDouble
from tests.hub.web_world import ACCESS, PREFIX
from tests.spawner import kube_spawners
from tests.spawner.catalogues import catalogue, contents

FAR = {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
SMALL = (Fit(0, 100, 2**24),)
COUNTS = {"none": Count(fits_now=SMALL, fits_empty=SMALL), "t4": Count(4, 0, 0, 0, 4, (("tainted (far)", 4),))}
"""No node that is counted has room for anybody, and all cards are on nodes with a taint."""

CPU = {"profile": "cpu"}
T4 = {"profile": "gpu", "accelerator": "t4"}
COUNTED = [(CPU, "does-not-fit"), (T4, "queued")]


def by_its_profile() -> Catalogue:
    profiles = contents()["profiles"]
    for profile in profiles.values():
        profile["kubespawner_override"] = {"tolerations": [FAR]}
    return catalogue(profiles=profiles)


class Everybody(HubAccess):
    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", TOKEN)

    async def identify(self, token: str, session: str = "", *, kept_s: float = 0.0) -> Identity | None:
        return Identity("user", token, frozenset(), False, frozenset({ACCESS}))


class Cluster:
    """A hub's desk and spawners, and the service with a desk of its own, on one database."""

    def __init__(self, database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.catalogue = catalogue()
        self._monkeypatch = monkeypatch
        self._hub: SqlDesk | None = None
        epoch = Lease(database, "test", 60).try_acquire() or 0
        publish(database, epoch, Snapshot("kubernetes", datetime.now(UTC), COUNTS))

    def desk(self) -> SqlDesk:
        return SqlDesk(self.database, engine_kind="kubernetes", catalogue=self.catalogue, stale_after_s=600)

    def restart_hub(self) -> None:
        self._hub = None

    def spawner(self, user: str, **own: Any) -> ArmillarySpawner:
        """A server's spawner in the hub, which these lines configure."""
        self._hub = self._hub or self.desk()
        return kube_spawners.make(self._monkeypatch, name=user, desk=self._hub, catalogue=self.catalogue, **own)

    async def at_the_hub(self, spawner: ArmillarySpawner, options: dict[str, str]) -> str:
        """Return the code of the refusal (also of one that queues); empty: it is held."""
        spawner.user_options = options
        try:
            request = await spawner.decide()
            await spawner.load_user_options()
            await spawner._hold(request, 60)
        except Refusal as refusal:
            return refusal.code
        return ""

    async def at_the_service(self, user: str, options: dict[str, str]) -> str:
        """Return the code of the refusal, or what became of the request."""
        desk = self.desk()
        async with _hub() as double:
            double.users.add(user)
            parts = ServiceParts(
                place=Place("/", "http://test"),
                hub=Everybody(),
                secret=TOKEN,
                desk=desk,
                database=self.database,
                catalogue=self.catalogue,
                engine="kubernetes",
                servers=HubServers(double.api_url, TOKEN, slow_start_s=1),
            )
            app = create_app(parts)
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url=f"http://test{PREFIX}", timeout=60) as client,
            ):
                body = {"options": options}
                answer = await client.post("/api/requests", json=body, headers={"Authorization": f"token {user}"})
        found = answer.json()
        return str(found["code"] if answer.is_error else found["state"])

    async def said(self, by_hand: bool) -> None:
        """Wait until the hub has said so."""
        await until(lambda: read(self.database, placing.said) == by_hand)


@asynccontextmanager
async def _hub() -> AsyncIterator[HubDouble]:
    double = HubDouble()
    await double.open()
    try:
        yield double
    finally:
        await double.close()


@pytest.fixture
async def cluster(database: Engine, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(database, monkeypatch)


@pytest.mark.parametrize(("options", "said"), COUNTED, ids=["none", "t4"])
async def test_what_is_counted_is_decided_by_the_counts_at_both_doors(
    cluster: Cluster, options: dict[str, str], said: str
) -> None:
    assert await cluster.at_the_hub(cluster.spawner("ann"), options) == said
    assert await cluster.at_the_service("bob", options) == said


@pytest.mark.parametrize("options", [CPU, T4], ids=["none", "t4"])
@pytest.mark.parametrize(
    "own",
    [{"tolerations": [FAR]}, {"extra_pod_config": {"tolerations": [FAR]}}, {"scheduler_name": "other"}],
    ids=["tolerations", "extra_pod_config", "scheduler_name"],
)
async def test_what_the_hubs_own_lines_place_is_left_to_the_scheduler_at_both_doors(
    cluster: Cluster, own: dict[str, Any], options: dict[str, str]
) -> None:
    spawner = cluster.spawner("ann", **own)
    await cluster.said(True)
    assert await cluster.at_the_service("bob", options) == "starting"
    assert await cluster.at_the_hub(spawner, options) == ""


@pytest.mark.parametrize("options", [CPU, T4], ids=["none", "t4"])
async def test_what_a_profiles_own_lines_place_is_left_to_the_scheduler_at_both_doors(
    cluster: Cluster, options: dict[str, str]
) -> None:
    cluster.catalogue = by_its_profile()
    assert await cluster.at_the_service("bob", options) == "starting"
    assert await cluster.at_the_hub(cluster.spawner("ann"), options) == ""


async def test_one_spawners_lines_count_for_its_start_at_once(cluster: Cluster) -> None:
    spawner = cluster.spawner("ann")
    spawner.tolerations = [FAR]  # by a hook of the deployer's
    assert await cluster.at_the_hub(spawner, CPU) == ""
    assert await cluster.at_the_service("bob", CPU) == "does-not-fit"


async def test_when_the_lines_are_gone_it_is_counted_again(cluster: Cluster) -> None:
    cluster.spawner("ann", tolerations=[FAR])
    await cluster.said(True)
    cluster.restart_hub()
    cluster.spawner("ann")
    await cluster.said(False)
    assert await cluster.at_the_service("bob", CPU) == "does-not-fit"


async def test_who_waits_comes_in_when_only_the_scheduler_can_tell(cluster: Cluster) -> None:
    assert await cluster.at_the_service("bob", T4) == "queued"
    store = cluster.desk().store
    assert write(cluster.database, lambda found: promote_next(found, store, 5)) == []
    cluster.spawner("ann", tolerations=[FAR])
    await cluster.said(True)
    (promoted,) = write(cluster.database, lambda found: promote_next(found, store, 5))
    assert (promoted.user, promoted.state) == ("bob", "starting")


async def test_what_cannot_be_said_now_is_said_by_the_next_spawner(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OSError("the database is away")

    assert isinstance(cluster.desk(), PlacingDesk)
    with monkeypatch.context() as broken:
        broken.setattr("hub.admission.desk.write", away)
        cluster.spawner("ann", tolerations=[FAR])
        await until(lambda: "could not be said" in caplog.text)
    assert not read(cluster.database, placing.said)
    cluster.spawner("bob", tolerations=[FAR])
    await cluster.said(True)
