"""Whether the service says how it is, to probes and to Prometheus, and how it keeps its controller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import hub.web.health as health_module
from hub.controller.status import Status
from hub.web.background import Background
from tests.hub.site import wait_for
from tests.hub.web_world import FakeHub, World, problem

pytestmark = pytest.mark.hub


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.person("ann", "ann")
        made.person("prom", "prometheus", scopes=("read:metrics",))
        yield made


@pytest.fixture
def status() -> Status:
    return Status(10.0)


@pytest.fixture
def world(tmp_path: Path, hub: FakeHub, status: Status) -> Iterator[World]:
    with World(tmp_path, hub, controller=status).running() as running:
        wait_for(lambda: running.app.state.live.reading, "the first counts")
        yield running


def test_it_is_well_without_a_login(world: World, status: Status) -> None:
    said = world.get("/health").json()
    assert said["status"] == "ok"
    assert said["counts"] == {"fresh": True, "as_of": "2026-11-21T15:00:07Z", "sequence": 0}
    assert said["controller"]["here"] is True
    assert said["controller"]["leading"] is False
    status.renewed(1)
    assert world.get("/health").json()["controller"]["leading"] is True


def test_a_controller_in_trouble_is_said_and_is_no_failure_of_the_service(world: World, status: Status) -> None:
    status.problem = "password authentication failed for user 'x' at db.internal"
    status.blind_because = "the API server at 10.0.0.1 is away"
    answer = world.get("/health")
    assert answer.status_code == 200
    assert answer.json()["controller"]["troubled"] is True
    assert answer.json()["controller"]["blind"] is True
    assert "internal" not in answer.text, "it is for everybody"
    assert "10.0.0.1" not in answer.text


def test_a_database_that_is_away_makes_it_unwell_until_it_is_back(world: World) -> None:
    away = world.file.with_name("away")
    world.database.dispose()
    for name in ("armillary.sqlite", "armillary.sqlite-wal", "armillary.sqlite-shm"):
        file = world.file.with_name(name)
        if file.exists():
            file.rename(away.with_name(f"away{name.removeprefix('armillary.sqlite')}"))
    world.file.mkdir()
    try:
        said = problem(world.get("/health"), 503, "not-well")
        assert said["reasons"] == ["its database cannot be read (the log tells why)"]
        assert str(world.file) not in str(said)
        assert said["controller"]["here"] is True
        wait_for(lambda: world.get("/api/capacity", "ann").json()["sequence"] is None, "the sequence to be unknown")
    finally:
        world.file.rmdir()
        for name in ("away", "away-wal", "away-shm"):
            file = world.file.with_name(name)
            if file.exists():
                file.rename(world.file.with_name(f"armillary.sqlite{name.removeprefix('away')}"))
    wait_for(lambda: world.get("/health").status_code == 200, "the service to be well again")


async def test_a_database_that_hangs_is_asked_once_by_all_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "_ANSWERS_WITHIN_S", 0.05)
    where, release, asked = health_module.WhereTheCountsAre(world.database), threading.Event(), []

    def hangs() -> int:
        asked.append(1)
        release.wait(30)
        return 7

    monkeypatch.setattr(where, "_read", hangs)
    for _ in range(5):
        with pytest.raises(OSError):  # noqa: PT011  # a timeout is one
            await where.sequence()
    assert len(asked) == 1
    release.set()
    monkeypatch.setattr(health_module, "_ANSWERS_WITHIN_S", 20)
    assert await where.sequence() == 7


def test_a_service_that_ends_says_so(world: World) -> None:
    world.app.state.live.closing = True
    said = problem(world.get("/health"), 503, "not-well")
    assert said["reasons"] == ["it is ending"]


# Metrics ------------------------------------------------------------------------------------------------------------


def test_metrics_need_a_token_with_the_scope(world: World) -> None:
    problem(world.get("/metrics"), 401, "login-needed")
    said = problem(world.get("/metrics", "ann"), 403, "not-allowed")
    assert "read:metrics" in said["detail"]
    assert world.get("/metrics", "prom").status_code == 200


def test_metrics_are_open_where_the_settings_say_so(tmp_path: Path, hub: FakeHub) -> None:
    with World(tmp_path, hub, metrics_need_token=False).running() as world:
        assert world.get("/metrics").status_code == 200


def figures(world: World) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    answer = world.get("/metrics", "prom")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_is_measured(world: World, status: Status) -> None:
    world.get("/api/capacity", "ann")
    world.get("/nothing/of/ours/12345")
    status.renewed(1)
    status.published()
    found = figures(world)
    assert found["armillary_service_answers_total", "GET", "/api/capacity", "200"] == 1
    assert found["armillary_service_answers_total", "GET", "(none)", "404"] == 1
    assert not any("12345" in part for key in found for part in key), "no series for what somebody types"
    assert found["armillary_service_seconds_count", "/api/capacity"] == 1
    assert found[("armillary_service_live_pages",)] == 0
    assert found[("armillary_service_live_pages_limit",)] == 2000
    assert found[("armillary_service_hub_away",)] == 0
    assert found[("armillary_capacity_fresh",)] == 1
    assert found[("armillary_capacity_age_seconds",)] != 0
    assert found[("armillary_reservations",)] == 1
    assert found["armillary_accelerators", "t4", "free"] == 1
    assert found["armillary_accelerators", "t4", "used_by_us"] == 1
    assert found[("armillary_controller_leading",)] == 1
    assert found[("armillary_controller_blind",)] == 0
    assert found[("armillary_controller_publish_age_seconds",)] >= 0
    assert ("process_open_fds",) in found


def test_free_is_not_measured_while_nobody_knows_it(world: World) -> None:
    world.desk.fault = OSError("away")
    wait_for(lambda: figures(world)[("armillary_capacity_fresh",)] == 0, "the counts to be old")
    found = figures(world)
    assert ("armillary_accelerators", "t4", "free") not in found
    assert found["armillary_accelerators", "t4", "total"] == 2


# The controller in the service's process ----------------------------------------------------------------------------


def test_a_crash_of_the_controller_is_said_and_it_is_begun_again(status: Status, caplog: Any) -> None:
    runs = threading.Semaphore(0)

    async def crashes(stop: asyncio.Event) -> None:
        runs.release()
        if background.health().crashes < 2:
            raise RuntimeError("a mistake")
        status.renewed(1)
        await stop.wait()

    background = Background(crashes, status, first_pause_s=0.01)
    background.start()
    for _ in range(3):
        assert runs.acquire(timeout=20)
    wait_for(lambda: background.health().leading, "the third to lead")
    assert background.health().crashes == 2
    assert background.health().working
    assert caplog.text.count("The controller has crashed; it is begun again") == 2
    assert background.stop(20)
    assert not background.health().working
    assert not background.health().leading
    assert background.stop(1), "twice is no harm"


def test_a_controller_that_ends_by_itself_is_begun_again(status: Status) -> None:
    runs = threading.Semaphore(0)

    async def ends(stop: asyncio.Event) -> None:
        runs.release()

    background = Background(ends, status, first_pause_s=0.01)
    background.start()
    for _ in range(3):
        assert runs.acquire(timeout=20)
    assert background.stop(20)


def test_a_controller_that_does_not_end_keeps_nobody(status: Status) -> None:
    begun, release = threading.Event(), threading.Event()

    async def hangs(stop: asyncio.Event) -> None:
        begun.set()
        release.wait(30)

    background = Background(hangs, status)
    background.start()
    assert begun.wait(20)
    assert not background.stop(0.1)
    release.set()
    assert background.stop(20)


def test_one_that_was_never_begun_has_ended(status: Status) -> None:
    async def never(stop: asyncio.Event) -> None:
        raise AssertionError("not begun")

    assert Background(never, status).stop(1)
