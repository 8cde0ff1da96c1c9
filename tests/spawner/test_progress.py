"""The feed of progress messages."""

import asyncio

from spawner.progress import Feed, Step


async def collect(feed: Feed) -> list[Step]:
    return [step async for step in feed.follow()]


async def test_whoever_comes_late_sees_everything() -> None:
    feed = Feed()
    feed.say("one", 10)
    early = asyncio.ensure_future(collect(feed))
    await asyncio.sleep(0)
    feed.say("two", 20)
    await asyncio.sleep(0)
    feed.close()
    assert await early == await collect(feed) == [Step("one", 10), Step("two", 20)]


async def test_the_percentage_never_goes_back_nor_reaches_a_hundred() -> None:
    feed = Feed()
    for percent in (50, 20, 100):
        feed.say(f"at {percent}", percent)
    assert [step.percent for step in feed.steps] == [50, 50, 99]


async def test_a_message_that_repeats_the_last_is_dropped() -> None:
    feed = Feed()
    for _ in range(3):
        feed.say("waiting", 10)
    assert feed.steps == (Step("waiting", 10),)


async def test_a_feed_is_bounded() -> None:
    feed = Feed()
    for number in range(10_000):
        feed.say(str(number))
    assert len(feed.steps) == 200


async def test_nothing_is_said_after_the_end() -> None:
    feed = Feed()
    feed.close()
    feed.say("late")
    assert await collect(feed) == []
