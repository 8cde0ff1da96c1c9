"""Whom a token belongs to: asked of the hub once at a time, remembered briefly, and gone by for a while without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from hub.web import hub_access
from hub.web.hub_access import HubAccess, HubAway, Identity, LoginRefused
from profiles.access import Person
from tests.hub.web_world import SECRET, FakeHub

pytestmark = pytest.mark.hub


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.person("tok-ann", "ann", "lab", admin=False)
        yield made


@pytest.fixture
async def access(hub: FakeHub, clock: Clock) -> AsyncIterator[HubAccess]:
    made = HubAccess(hub.api_url, SECRET, clock=clock, limit=30, timeout_s=5)
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_hub_says_who_it_is(access: HubAccess) -> None:
    ann = await access.identify("tok-ann")
    assert ann is not None
    assert ann.person == Person("ann", frozenset({"lab"}))
    assert ann.may("access:services")
    assert not ann.may("read:metrics")
    assert await access.identify("tok-other") is None


async def test_a_program_is_nobody_in_particular(hub: FakeHub, access: HubAccess) -> None:
    hub.tokens["prog"] = {"kind": "service", "name": "ann", "scopes": ["access:services"]}
    program = await access.identify("prog")
    assert program is not None
    assert program.may("access:services")
    assert program.person == Person("")


async def test_a_thousand_at_once_are_one_question(hub: FakeHub, access: HubAccess) -> None:
    hub.released.clear()
    asked = [asyncio.create_task(access.identify("tok-ann")) for _ in range(1000)]
    while not hub.requests:
        await asyncio.sleep(0.01)
    asked[0].cancel()  # one that goes away does not take the answer from the others
    hub.released.set()
    found = await asyncio.gather(*asked[1:])
    assert {one.name for one in found if one} == {"ann"}
    assert hub.requests == ["/user"]


async def test_answers_are_kept_for_half_a_minute_and_wrong_tokens_for_some_seconds(
    hub: FakeHub, access: HubAccess, clock: Clock
) -> None:
    for _ in range(2):
        await access.identify("tok-ann")
        await access.identify("wrong")
    assert len(hub.requests) == 2
    clock.now += 6
    hub.person("wrong", "ben")
    assert (await access.identify("wrong")) is not None
    await access.identify("tok-ann")
    assert len(hub.requests) == 3
    clock.now += 31
    del hub.tokens["tok-ann"]
    assert await access.identify("tok-ann") is None


async def test_a_log_out_at_the_hub_is_seen_at_once(hub: FakeHub, access: HubAccess) -> None:
    """Log-out changes the browser's session cookie, and takes the session's tokens back."""
    assert await access.identify("tok-ann", "session-1")
    del hub.tokens["tok-ann"]
    assert await access.identify("tok-ann", "") is None


@pytest.mark.parametrize(
    "fault",
    [(500, b"{}"), (503, b"<html>"), (429, b"{}"), (200, b"no json"), (200, b"[]")],
    ids=["500", "503", "429", "no json", "a list"],
)
async def test_while_the_hub_is_away_people_go_on_for_a_while(
    hub: FakeHub, access: HubAccess, clock: Clock, fault: tuple[int, bytes]
) -> None:
    await access.identify("tok-ann")
    hub.fault = fault
    clock.now += 60
    ann = await access.identify("tok-ann")
    assert ann is not None
    assert ann.name == "ann"
    assert access.away
    asked = len(hub.requests)
    with pytest.raises(HubAway):
        await access.identify("tok-new")  # nothing is known of that one, and the hub was asked a moment ago
    assert len(hub.requests) == asked
    clock.now += 700
    with pytest.raises(HubAway):
        await access.identify("tok-ann")
    hub.fault = None
    clock.now += 2
    assert await access.identify("tok-ann")
    assert not access.away


async def test_a_token_that_is_taken_back_while_known_is_forgotten(
    hub: FakeHub, access: HubAccess, clock: Clock
) -> None:
    await access.identify("tok-ann")
    del hub.tokens["tok-ann"]
    clock.now += 31
    assert await access.identify("tok-ann") is None
    hub.fault = (503, b"{}")
    clock.now += 31
    with pytest.raises(HubAway):
        await access.identify("tok-ann")


async def test_a_hub_that_is_not_there_at_all() -> None:
    access = HubAccess("http://127.0.0.1:9/hub/api", SECRET)
    with pytest.raises(HubAway):
        await access.identify("tok-ann")
    with pytest.raises(HubAway):
        await access.token_for("code", "verifier", "/cb")
    await access.close()


async def test_what_is_remembered_is_bounded_and_guessing_pushes_nobody_out(hub: FakeHub, access: HubAccess) -> None:
    await access.identify("tok-ann")
    for number in range(100):
        await access.identify(f"guess-{number}")
    assert len(access._wrong._entries) == 3
    asked = len(hub.requests)
    await access.identify("tok-ann")
    assert len(hub.requests) == asked
    for number in range(100):
        hub.person(f"tok-{number}", f"user-{number}")
        await access.identify(f"tok-{number}")
    assert len(access._known._entries) == 30


@pytest.mark.parametrize(
    "said", [{}, {"name": ""}, {"name": 1}, {"name": "x", "groups": "lab"}, {"name": "x", "scopes": 1}]
)
async def test_a_model_that_no_hub_sends_is_nobody(hub: FakeHub, access: HubAccess, said: dict[str, object]) -> None:
    hub.tokens["odd"] = {"odd": 1, **said}
    assert await access.identify("odd") is None


async def test_a_code_becomes_a_token_once(hub: FakeHub, access: HubAccess) -> None:
    hub.codes["c"] = "tok-ann"
    granted = await access.token_for("c", "verifier", "/services/armillary/oauth_callback")
    assert (granted.token, granted.expires_in_s) == ("tok-ann", 1000)
    assert hub.forms[0] == {
        "client_id": "service-armillary",
        "client_secret": SECRET,
        "grant_type": "authorization_code",
        "code": "c",
        "code_verifier": "verifier",
        "redirect_uri": "/services/armillary/oauth_callback",
    }
    with pytest.raises(LoginRefused, match="invalid_grant") as caught:
        await access.token_for("c", "verifier", "/services/armillary/oauth_callback")
    assert SECRET not in str(caught.value)


async def test_of_many_who_come_at_once_the_hub_is_asked_about_a_few_at_a_time(hub: FakeHub, access: HubAccess) -> None:
    tokens = [hub.person(f"tok-{number}", f"person{number}") for number in range(40)]
    hub.released.clear()
    asked = [asyncio.create_task(access.identify(token)) for token in tokens]
    async with asyncio.timeout(20):
        while len(hub.requests) < 8:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert len(hub.requests) == 8
    hub.released.set()
    found = await asyncio.gather(*asked)
    assert [one.name for one in found if one] == [f"person{number}" for number in range(40)]


async def test_who_waits_for_a_turn_goes_on_by_what_was_known_of_them(hub: FakeHub, clock: Clock) -> None:
    access = HubAccess(hub.api_url, SECRET, clock=clock, timeout_s=1)
    others: list[asyncio.Task[Identity | None]] = []
    try:
        assert await access.identify(hub.person("tok-ann", "ann"))
        clock.now += 31
        hub.released.clear()
        others = [asyncio.create_task(access.identify(f"tok-{number}")) for number in range(100)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            ann = await access.identify("tok-ann")
            assert ann is not None
        assert ann.name == "ann"
        assert not any(other.done() and other.exception() is None for other in others)
    finally:
        hub.released.set()
        await asyncio.gather(*others, return_exceptions=True)
        await access.close()


async def test_one_question_that_fails_is_nobody_elses_failure(hub: FakeHub, access: HubAccess) -> None:
    tokens = [hub.person(f"tok-{number}", f"person{number}") for number in range(40)]
    hub.broken.add("tok-0")
    found = await asyncio.gather(*map(access.identify, tokens), return_exceptions=True)
    assert isinstance(found[0], HubAway)
    assert [one.name for one in found[1:] if isinstance(one, Identity)] == [f"person{n}" for n in range(1, 40)]


async def test_about_very_many_who_only_look_on_the_hub_is_asked_less_often(
    hub: FakeHub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_access, "_LOOKS_PER_S", 1.0)
    tokens = [hub.person(f"tok-{number}", f"person{number}") for number in range(70)]
    access = HubAccess(hub.api_url, SECRET, clock=clock)
    try:
        await asyncio.gather(*map(access.look_again, tokens))
        assert len(hub.requests) == 70
        numbers = []
        for _ in range(20):  # ten minutes
            clock.now += 31
            before = len(hub.requests)
            assert all(await asyncio.gather(*map(access.look_again, tokens)))
            numbers.append(len(hub.requests) - before)
        assert max(numbers) <= 60, "each is looked at, but not all at the same time"
        assert 2 * 70 <= sum(numbers) <= 20 * 40
        clock.now += 301
        del hub.tokens["tok-1"]
        assert await access.look_again("tok-1") is None
    finally:
        await access.close()


async def test_a_few_who_look_on_are_looked_at_every_half_minute(hub: FakeHub, access: HubAccess, clock: Clock) -> None:
    tokens = [hub.person(f"tok-{number}", f"person{number}") for number in range(20)]
    for _ in range(5):
        before = len(hub.requests)
        assert all(await asyncio.gather(*map(access.look_again, tokens)))
        assert len(hub.requests) - before == 20
        clock.now += 31
    del hub.tokens["tok-1"]
    assert await access.look_again("tok-1") is None
