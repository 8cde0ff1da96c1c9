"""Counting while the API server fails in every way: right again soon after, and nothing is free while it is not seen."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.controller.kubernetes import run as control
from hub.controller.lease import StaleEpoch
from hub.controller.status import Status
from hub.settings import Settings
from spawner.capacity.dra import NOT_SERVED
from spawner.capacity.feed import Feed
from spawner.capacity.model import Snapshot
from spawner.reservation import Reservation
from tests.faults import virtual_time
from tests.faults.cluster_double import Double
from tests.spawner.brute_force import counted, expected
from tests.spawner.capacity_objects import (
    DEVICES,
    DRA,
    MIG,
    NAMESPACE,
    catalogue,
    claim,
    device_class,
    mine,
    node,
    pod,
    resource_slice,
)

SOON_S = 10.0
"""Within which the counts are right again after the API's return."""

BLIND_S = 15.0
"""Within which a connection that has gone silent is noticed."""


class Desk:
    """In the place of `hub.controller.loop.Publisher`: keeps what is published, and the reservations."""

    def __init__(self) -> None:
        self.status = Status(10)
        self.published: list[tuple[float, Snapshot]] = []
        self.held: dict[str, Reservation] = {}
        self.error: Exception | None = None
        self.failures = 0

    async def reservations(self) -> tuple[Reservation, ...]:
        return tuple(self.held.values())

    async def publish(
        self, snapshot: Snapshot, *, seen: Iterable[str] = (), gone: Iterable[str] = (), ran: Iterable[str] = ()
    ) -> None:
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        self.published.append((asyncio.get_running_loop().time(), snapshot))
        for one in seen:
            self.held[one] = replace(self.held[one], seen=True)
        for one in gone:
            del self.held[one]

    def failed(self, error: Exception) -> None:
        self.failures += 1
        self.status.report(str(error), logging.getLogger(__name__))

    def hold(self, spawn_id: str, *, seen: bool = False) -> None:
        self.held[spawn_id] = Reservation(spawn_id, "ann", "", "gpu", "slice", 1, seen=seen)


class World:
    """A controller that watches the double."""

    def __init__(self, double: Double, desk: Desk, stop: asyncio.Event) -> None:
        self.double, self.desk, self.stop = double, desk, stop

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def last(self) -> Snapshot:
        return self.desk.published[-1][1]

    def right(self) -> bool:
        """Whether the last snapshot is not blind and equals a brute-force count of what is there now."""
        if not self.desk.published or self.last.blind_since is not None:
            return False
        nodes, pods = (self.double.objects[kind].values() for kind in ("nodes", "pods"))
        return all(
            counted(self.last.accelerators[key]) == expected(device, nodes, pods, NAMESPACE)
            for key, device in DEVICES.items()
        )

    async def until(self, true: Callable[[], bool], within_s: float) -> None:
        """Wait until it is true; fails when it takes longer (on the virtual clock)."""
        async with asyncio.timeout(within_s):
            while not true():
                await asyncio.sleep(0.05)

    def some_change(self, rng: random.Random) -> None:
        """Change the cluster at random."""
        name = f"p{rng.randrange(20)}"
        match rng.randrange(6):
            case 0:
                self.double.remove("pods", f"other/{name}")
            case 1:
                cordoned = rng.random() < 0.3
                self.double.put("nodes", node(f"n{rng.randrange(4)}", {MIG: "7"}, cordoned=cordoned))
            case 2:
                self.double.remove("nodes", f"n{rng.randrange(4)}")
            case _:
                phase = rng.choice(["Pending", "Running", "Succeeded"])
                self.double.put("pods", pod(name, f"n{rng.randrange(4)}", {MIG: str(rng.randrange(3))}, phase=phase))


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a story in virtual time, beside a controller that watches a double of the cluster."""

    def play(story: Callable[[World], Awaitable[None]], devices: dict[str, Any] | None = None) -> None:
        async def both() -> None:
            double, desk, stop = Double(), Desk(), asyncio.Event()
            monkeypatch.setattr("spawner.capacity.watch.load_config", lambda: None)
            for place in ("spawner.capacity.watch", "kubespawner.reflector"):
                monkeypatch.setattr(f"{place}.shared_client", lambda group: double)
            for number in range(4):
                double.put("nodes", node(f"n{number}", {MIG: "7"}))
            settings = Settings.model_validate({"kubernetes": {"namespace": NAMESPACE}})
            acting = asyncio.create_task(control(settings, catalogue(devices), desk, stop))  # type: ignore[arg-type]
            telling = asyncio.ensure_future(story(World(double, desk, stop)))
            await asyncio.wait([acting, telling], return_when=asyncio.FIRST_COMPLETED)
            if not telling.done():
                telling.cancel()
            stop.set()
            async with asyncio.timeout(5):
                await acting
            await telling
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, "what it began ends with it"

        virtual_time.run(both())

    return play


def blind_between(desk: Desk, begin: float, end: float) -> None:
    """Assert that whatever was published between these moments says that it is blind."""
    seeing = [moment for moment, snapshot in desk.published if begin <= moment < end and snapshot.blind_since is None]
    assert not seeing, f"claimed to see at {seeing}, though nothing was to be seen from {begin} to {end}"


def test_a_watch_that_is_dropped_a_thousand_times_needs_no_second_list(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        rng = random.Random(1)
        await world.until(world.right, SOON_S)
        for number in range(1000):
            if rng.random() < 0.7:
                world.some_change(rng)
            world.double.drop(cut=number % 2 == 0)
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.3, 3.0]))
        await world.until(world.right, SOON_S)
        assert world.double.lists["pods"] == world.double.lists["nodes"] == 1
        assert world.double.watches > 500

    during(story)


def test_forgotten_versions_lead_to_one_new_list(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        for expected_lists in (2, 3, 4):
            world.double.put("pods", pod("p", "n1", {MIG: str(expected_lists)}))
            world.double.remove("nodes", "n0")
            world.double.forget()
            world.double.drop()
            await world.until(world.right, SOON_S)
            await asyncio.sleep(30)
            assert world.double.lists["pods"] == world.double.lists["nodes"] == expected_lists

    during(story)


@pytest.mark.parametrize("how", ["refused", "hung", "503"])
@pytest.mark.parametrize("compacted", [False, True])
def test_ten_minutes_without_api_server(during: Callable[..., None], how: Any, compacted: bool) -> None:
    async def story(world: World) -> None:
        rng = random.Random(2)
        world.double.put("pods", mine("a", "n1", {MIG: "1"}, "s1"))
        world.desk.hold("s1")
        await world.until(lambda: world.right() and world.desk.held["s1"].seen, SOON_S)
        before = datetime.now(UTC)
        world.double.become(how)
        began = world.now
        for _ in range(60):
            await asyncio.sleep(10)
            world.some_change(rng)
        world.double.remove("pods", f"{NAMESPACE}/a")
        if compacted:
            world.double.forget()
        blind_between(world.desk, began + (BLIND_S if how == "hung" else 1.0), world.now)
        assert world.last.blind_since is not None
        assert abs(world.last.blind_since - before) < timedelta(seconds=60), "virtual minutes are real milliseconds"
        assert world.desk.status.blind_because
        assert len(world.desk.published) > 100, "it goes on saying that it sees nothing"
        assert world.desk.held["s1"].seen, "nothing is given back while nothing is seen"
        world.double.become("up")
        await world.until(lambda: world.right() and not world.desk.status.blind_because, SOON_S)
        assert "s1" not in world.desk.held

    during(story)


def test_a_silent_connection_is_noticed_and_replaced(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        await asyncio.sleep(7)
        world.double.state = "hung"
        began = world.now
        world.double.put("pods", pod("p", "n1", {MIG: "7"}))
        await asyncio.sleep(60)
        blind_between(world.desk, began + BLIND_S, world.now)
        world.double.become("up")
        await world.until(world.right, SOON_S)

    during(story)


def test_a_quiet_cluster_is_no_blind_one(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        began = world.now
        await asyncio.sleep(600)
        snapshots = [snapshot for moment, snapshot in world.desk.published if moment > began]
        assert len(snapshots) >= 600 / 3.6, "at least every 3 s, so that they do not look stale"
        assert all(snapshot.blind_since is None for snapshot in snapshots)
        assert world.double.lists["pods"] == 1

    during(story)


def test_one_of_two_watches_is_enough_to_be_blind(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        answer = world.double._answer

        async def no_pods(kind: str, asked: Any) -> Any:
            return await answer(kind, asked) if kind != "pods" else await refuse()

        async def refuse() -> Any:
            raise ConnectionRefusedError

        world.double._answer = no_pods  # type: ignore[method-assign]
        world.double.drop(cut=True)
        await world.until(lambda: "pods: ConnectionRefusedError" in world.desk.status.blind_because, SOON_S)
        assert world.last.blind_since is not None
        # The nodes are seen again after a pause, which is random; the pods are not, however long it takes.
        await world.until(lambda: "nodes" not in world.desk.status.blind_because, SOON_S)
        began = world.now
        await asyncio.sleep(60)
        blind_between(world.desk, began, world.now)
        assert world.desk.status.blind_because.startswith("pods: ConnectionRefusedError")
        del world.double._answer
        await world.until(world.right, SOON_S)

    during(story)


def test_ten_thousand_pods_at_once(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        before = len(world.desk.published)
        for number in range(10_000):
            world.double.put(
                "pods", pod(f"p{number}", f"n{number % 4}", {"cpu": "1m", MIG: "1" if number < 20 else "0"})
            )
        await world.until(lambda: world.last.accelerators["slice"].used_by_others == 20, SOON_S)
        assert world.right()
        assert len(world.desk.published) - before < 10, "what comes together is published together"
        assert world.double.lists["pods"] == 1
        world.double.forget()
        world.double.drop()
        await asyncio.sleep(3)
        assert world.right(), "a list of 10,000, in pages"

    during(story)


def test_a_node_that_is_deleted_under_its_pods_counts_no_more(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        world.double.put("pods", mine("a", "n1", {MIG: "3"}, "s1"))
        world.desk.hold("s1")
        await world.until(lambda: world.right() and world.last.accelerators["slice"].used_by_us == 3, SOON_S)
        world.double.remove("nodes", "n1")
        await world.until(lambda: world.right() and world.last.accelerators["slice"].total == 21, SOON_S)
        assert world.desk.held, "the pod is there still: who has it decides when it is over"
        world.double.remove("pods", f"{NAMESPACE}/a")
        await world.until(lambda: not world.desk.held, SOON_S)

    during(story)


def test_garbage_ends_nothing(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        odd = node("n9", {MIG: "many", "cpu": "-3"})
        odd["status"]["conditions"] = "all is well"
        world.double.put("nodes", odd)
        for line in (b"no json", b'"text"', b"[]", b'{"type": "ADDED"}', b'{"type": "ADDED", "object": {"metadata": {}}}',
                     json.dumps({"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "5"}}}).encode(),
                     json.dumps({"type": "DELETED", "object": {"metadata": {"name": 3, "resourceVersion": "9"}}}).encode(),
                     b'{"type": "SOMETHING", "object": {"metadata": {"name": "x", "resourceVersion": "7"}}}',
                     b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}', b"\xff\xfe"):  # fmt: skip
            world.double.send("pods", line)
            world.double.put("pods", pod("p", "n1", {MIG: str(random.Random(line).randrange(5))}))
            # The history has the line still; a real server's watch begins after it.
            world.double.history["pods"] = [
                (version, told) for version, told in world.double.history["pods"] if told != line + b"\n"
            ]
            await asyncio.sleep(20)
            nodes = [item for name, item in world.double.objects["nodes"].items() if name != "n9"]
            pods = world.double.objects["pods"].values()
            assert world.last.blind_since is None
            assert counted(world.last.accelerators["slice"]) == expected(DEVICES["slice"], nodes, pods, NAMESPACE)

    during(story)


def test_a_clock_that_jumps_changes_nothing(during: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(datetime):
        offset = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + cls.offset

    monkeypatch.setattr("spawner.capacity.watch.datetime", Jumping)

    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        for offset in (timedelta(days=400), timedelta(days=-400), timedelta(seconds=-30)):
            Jumping.offset = offset
            world.double.put("pods", pod("p", "n1", {MIG: str(abs(offset.days) % 7)}))
            await world.until(world.right, SOON_S)
            began = world.now
            await asyncio.sleep(60)
            assert all(snapshot.blind_since is None for moment, snapshot in world.desk.published if moment > began)

    during(story)


def test_reservations_are_seen_with_their_pod_bound_and_given_back_with_its_end(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        for spawn_id in ("s1", "s2", "s3"):
            world.desk.hold(spawn_id)
        world.desk.hold("s4", seen=True)
        await world.until(lambda: "s4" not in world.desk.held, SOON_S)
        world.double.put("pods", mine("a", None, {MIG: "1"}, "s1", phase="Pending"))
        world.double.put("pods", mine("b", "n1", {MIG: "1"}, "s2", phase="Pending"))
        await world.until(lambda: world.desk.held["s2"].seen, SOON_S)
        assert not world.desk.held["s1"].seen, "it waits for a node: its card is in no count"
        assert not world.desk.held["s3"].seen, "its pod is on its way"
        world.double.put("pods", mine("a", "n2", {MIG: "1"}, "s1", phase="Failed"))
        world.double.remove("pods", f"{NAMESPACE}/b")
        await world.until(lambda: set(world.desk.held) == {"s3"}, SOON_S)

    during(story)


def test_what_is_called_seen_is_in_the_same_snapshot(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        rng = random.Random(3)
        publish = world.desk.publish

        async def checked(
            snapshot: Snapshot, *, seen: Iterable[str] = (), gone: Iterable[str] = (), ran: Iterable[str] = ()
        ) -> None:
            known = sum(one.seen for one in world.desk.held.values())
            await publish(snapshot, seen=seen, gone=gone, ran=ran)
            newly = sum(one.seen for one in world.desk.held.values())
            assert newly <= snapshot.accelerators["slice"].used_by_us, (known, newly)

        world.desk.publish = checked  # type: ignore[method-assign]
        for number in range(20):
            world.desk.hold(f"s{number}")
            await asyncio.sleep(rng.random())
            world.double.put("pods", mine(f"p{number}", f"n{number % 4}", {MIG: "1"}, f"s{number}"))
        await world.until(lambda: all(one.seen for one in world.desk.held.values()), SOON_S)

    during(story)


def test_a_database_that_is_away_is_waited_for_while_the_watch_goes_on(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        world.desk.error = OSError("the database is locked")
        world.double.put("pods", pod("p", "n1", {MIG: "5"}))
        await asyncio.sleep(120)
        assert world.desk.failures > 20
        assert world.desk.status.problem == "the database is locked"
        assert world.double.lists["pods"] == 1
        world.desk.error = None
        await world.until(world.right, SOON_S)

    during(story)


def test_who_leads_no_more_stops_at_once(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        await world.until(world.right, SOON_S)
        world.desk.error = StaleEpoch("another leads")
        await asyncio.sleep(600)
        raise AssertionError("it went on")

    with pytest.raises(StaleEpoch):
        during(story)


def test_a_watch_that_died_of_a_bug_is_begun_again(
    during: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: list[bool] = []
    keep_up = Feed._keep_up

    async def dies(feed: Feed) -> None:
        if feed.kind == "pods" and len(dead) < 2:
            dead.append(True)
            await asyncio.sleep(1)
            return
        await keep_up(feed)

    monkeypatch.setattr(Feed, "_keep_up", dies)

    async def story(world: World) -> None:
        await world.until(world.right, 30)
        assert len(dead) == 2

    during(story)


# --- DRA -----------------------------------------------------------------------------------------------------------

BOTH = {"slice": DEVICES["slice"], "l40s": DRA}


def test_without_sight_of_the_devices_only_they_are_unknown(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        double = world.double
        double.put("classes", device_class())
        double.put("slices", resource_slice(on="n1"))
        await world.until(lambda: bool(world.desk.published) and world.last.accelerators["l40s"].free == 1, SOON_S)
        assert set(world.last.versions) == {"nodes", "pods", "device classes", "resource slices", "resource claims"}
        answer = double._answer

        async def no_claims(kind: str, asked: Any) -> Any:
            if kind == "claims":
                raise ConnectionResetError
            return await answer(kind, asked)

        double._answer = no_claims  # type: ignore[method-assign]
        double.drop(cut=True)
        await asyncio.sleep(3)
        assert world.last.accelerators["l40s"].unknown == "the cluster's devices cannot be seen at the moment"
        assert world.last.blind_since is None
        assert world.last.accelerators["slice"].free == 28
        del double._answer
        double.put("claims", claim(devices=[("n1", "d0")]))
        await world.until(lambda: world.last.accelerators["l40s"].used_by_others == 1, SOON_S)

    during(story, BOTH)


def test_a_cluster_without_dra_says_so_and_is_asked_again(during: Callable[..., None]) -> None:
    async def story(world: World) -> None:
        world.double.serves_dra = False
        await world.until(lambda: bool(world.desk.published), SOON_S)
        assert world.last.accelerators["l40s"].unknown == NOT_SERVED
        assert world.last.accelerators["slice"].free == 28
        world.double.serves_dra = True
        world.double.put("classes", device_class())
        await world.until(lambda: world.last.accelerators["l40s"].unknown == "", 90)

    during(story, BOTH)
