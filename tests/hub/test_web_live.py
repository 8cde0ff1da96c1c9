"""Pages that stay up to date: told what changed for them, and let go when they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hub.web.live as live_module
from hub.web.capacity import Reading
from hub.web.door import Visitor
from hub.web.hub_access import Identity
from hub.web.live import EventStream, Live
from tests.hub.site import wait_for
from tests.hub.web_world import AT, FakeDesk, FakeHub, LivePage, World, problem

pytestmark = pytest.mark.hub
ANN = Visitor(Identity("user", "ann"), "tok", "", False)


def open_page(world: World, token: str, query: str = "") -> LivePage:
    return LivePage(f"{world.url}/api/capacity/events{query}", {"Authorization": f"token {token}"})


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.person("ann", "ann")
        made.person("ben", "ben")
        yield made


@pytest.fixture
def world(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(live_module, "BEAT_S", 0.3)
    with World(tmp_path, hub, live_limit=3).running() as running:
        yield running


def test_each_is_told_what_changed_for_them_and_nothing_twice(world: World) -> None:
    ann, ben = open_page(world, "ann"), open_page(world, "ben", "?accelerator=t4")
    try:
        wait_for(lambda: ann.counts() and ben.counts(), "the first counts")
        assert ann.heard[0][1]["accelerators"]["t4"]["mine"] == 1
        assert ben.heard[0][1]["accelerators"]["t4"]["others"] == 1
        assert set(ben.heard[0][1]["accelerators"]) == {"t4"}
        world.desk.set_free(0)
        wait_for(lambda: ann.counts()[-1] == 0 and ben.counts()[-1] == 0, "the change")
        wait_for(lambda: any(name == "beat" for name, _ in ann.heard), "a beat")
        assert (ann.counts(), ben.counts()) == ([1, 0], [1, 0])
    finally:
        ann.close()
        ben.close()
    wait_for(lambda: world.app.state.live.open == 0, "the places to be free again")


def test_counts_that_grow_old_are_said_though_nothing_else_changed(world: World) -> None:
    page = open_page(world, "ann")
    try:
        wait_for(page.counts, "the first counts")
        world.desk.fault = OSError("the database is away")
        wait_for(lambda: page.counts()[-1] is None, "the page to hear that nobody knows")
        assert page.heard[-1][1]["fresh"] is False
        world.desk.fault = None
        wait_for(lambda: page.counts()[-1] == 1, "the counts to come back")
    finally:
        page.close()


def test_the_desk_is_asked_once_a_second_however_many_look(world: World) -> None:
    pages = [open_page(world, token) for token in ("ann", "ben", "ann")]
    try:
        wait_for(lambda: all(page.counts() for page in pages), "the first counts")
        asked, beats = world.desk.asked, [len(page.heard) for page in pages]
        wait_for(lambda: all(len(page.heard) > old + 9 for page, old in zip(pages, beats, strict=True)), "ten beats")
        assert world.desk.asked - asked < 10, "30 beats, and no page asks for itself"
    finally:
        for page in pages:
            page.close()


def test_further_pages_are_told_to_come_back(world: World) -> None:
    pages = [open_page(world, "ann") for _ in range(3)]
    try:
        wait_for(lambda: all(page.counts() for page in pages), "the first counts")
        answer = world.get("/api/capacity/events", "ben")
        problem(answer, 503, "full")
        assert 30 <= int(answer.headers["retry-after"]) <= 90
        assert world.get("/api/capacity", "ben").status_code == 200
        pages.pop().close()
        wait_for(lambda: world.app.state.live.open == 2, "the place to be free again")
        pages.append(open_page(world, "ben"))
        wait_for(pages[-1].counts, "the counts for whoever came back")
    finally:
        for page in pages:
            page.close()


def test_one_person_cannot_take_every_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "PER_PERSON", 1)
    page = open_page(world, "ann")
    try:
        wait_for(page.counts, "the first counts")
        problem(world.get("/api/capacity/events", "ann"), 429, "too-many-pages")
        other = open_page(world, "ben")
        wait_for(other.counts, "somebody else's counts")
        other.close()
    finally:
        page.close()


def test_a_page_ends_with_its_login(world: World, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "LOOK_AGAIN_S", 0.2)
    page = open_page(world, "ann")
    wait_for(page.counts, "the first counts")
    hub.fault = (503, b"")
    later = world.access._clock() + 100
    world.access._clock = lambda: later
    asked = len(hub.requests)
    wait_for(lambda: len(hub.requests) > asked, "the hub to be asked again")
    assert not page.ended.is_set(), "a hub that is away ends no page"
    hub.fault = None
    world.access._not_before = 0.0
    del hub.tokens["ann"]
    assert page.ended.wait(20)
    assert page.heard[-1] == ("login-ended", {})
    page.close()
    problem(world.get("/api/capacity/events", "ann"), 401, "login-needed")


def test_at_the_services_end_all_pages_end_at_once(world: World) -> None:
    page = open_page(world, "ann")
    wait_for(page.counts, "the first counts")
    live: Live = world.app.state.live
    live._task.get_loop().call_soon_threadsafe(live.close)  # type: ignore[union-attr]  # it runs
    assert page.ended.wait(4), "without waiting for the next beat"
    page.close()
    problem(world.get("/api/capacity/events", "ann"), 503, "full")


# Without a server: what a network does ------------------------------------------------------------------------------


class Connection:
    """One ASGI connection; `stuck` makes it take nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        self.sent.append(message.get("body", b""))

    def events(self, name: str) -> int:
        return b"".join(self.sent).count(b"event: " + name.encode() + b"\n")


def reading(desk: FakeDesk) -> Reading:
    return Reading(desk.now, 1, "local")


async def same(visitor: Visitor) -> Visitor | None:
    return visitor


async def until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


async def test_a_slow_page_holds_nobody_and_gets_only_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "EVERY_S", 0.01)
    desk = FakeDesk()

    async def read() -> Reading:
        return reading(desk)

    live = Live(read, same, 10)
    live.start()
    slow, quick = Connection(), Connection()
    tasks = [
        asyncio.create_task(EventStream(live, ANN, lambda _: {"t4": "T4"}, reading(desk))({}, one.receive, one.send))
        for one in (slow, quick)
    ]
    await until(lambda: slow.events("capacity") == 1)
    slow.writable.clear()
    for number in range(20):
        desk.set_free(number % 2)
        await until(lambda number=number: b'"free": %d' % (number % 2) in quick.sent[-1])
    assert quick.events("capacity") >= 20
    slow.writable.set()
    await until(lambda: slow.events("capacity") >= 2)
    assert slow.events("capacity") <= 3, "what it missed is not sent"
    for one in (slow, quick):
        one.gone.set()
    await asyncio.gather(*tasks)
    assert live.open == 0
    await live.stop()


async def test_a_page_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SLOW_S", 0.05)
    monkeypatch.setattr(live_module, "BEAT_S", 0.01)
    desk = FakeDesk()

    async def read() -> Reading:
        return reading(desk)

    live = Live(read, same, 1)
    stuck = Connection()
    page = asyncio.create_task(EventStream(live, ANN, lambda _: {}, reading(desk))({}, stuck.receive, stuck.send))
    await until(lambda: stuck.sent)
    stuck.writable.clear()
    await page
    assert live.open == 0


async def test_a_read_that_hangs_makes_the_counts_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "EVERY_S", 0.01)
    monkeypatch.setattr(live_module, "PATIENCE_S", 0.05)
    desk, hangs = FakeDesk(), asyncio.Event()

    async def read() -> Reading:
        if hangs.is_set():
            await asyncio.Event().wait()
        return reading(desk)

    live = Live(read, same, 1)
    live.start()
    await until(lambda: live.reading is not None and live.reading.availability.fresh)
    hangs.set()
    await until(lambda: live.reading is not None and not live.reading.availability.fresh)
    assert live.reading is not None
    assert live.reading.availability.as_of == AT
    hangs.clear()
    await until(lambda: live.reading is not None and live.reading.availability.fresh)
    await live.stop()
