"""The controller's loop over running sessions, on both databases, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from hub import notices
from hub.admission import reservations
from hub.admission.hub_api import Answer
from hub.controller.lease import StaleEpoch
from hub.db.tables import lease
from hub.db.upgrade import upgrade
from hub.idle import sessions
from hub.idle.activity import Accelerated, Measures
from tests.database_clock import DatabaseClock, connect_with
from tests.hub.idle_world import BUSY, HOUR, QUIET, KnownUse, Sessions

MONDAY = 1_763_942_400.0  # 2025-11-24 00:00 UTC


@pytest.fixture
def clock() -> DatabaseClock:
    return DatabaseClock(MONDAY + 10 * HOUR)


@pytest.fixture
def site(database_url: str, clock: DatabaseClock) -> Iterator[Sessions]:
    engine = connect_with(clock, database_url)
    upgrade(engine)
    yield Sessions(engine, clock)
    engine.dispose()


async def test_an_idle_session_is_warned_stopped_and_told_why(site: Sessions) -> None:
    began = site.clock.now
    site.start("s1", "ann")
    await site.pass_(1.7 * HOUR)
    assert site.notices("ann") == []
    await site.pass_(0.2 * HOUR)
    [warning] = site.notices("ann")
    assert (warning.kind, warning.level, warning.spawn_id) == ("idle", "warning", "s1")
    assert "Your session with T4 (simulated) has done nothing for 1 hour 4" in warning.text
    assert "It will be stopped at 12:01 (UTC)" in warning.text
    assert "Keep my session" in warning.text
    assert site.known("s1").stop_because == "idle"
    await site.pass_(0.2 * HOUR)
    assert site.hub.stopped == [("ann", "")]
    assert site.ended_as("s1") == "idle"
    [told] = site.notices("ann")
    assert told.kind == "stopped"
    assert told.text.startswith("Your session with T4 (simulated) was stopped at 12:0")
    assert "it had done nothing for 2 hours" in told.text
    [announced] = site.audited("session.announce")
    [stopped] = site.audited("session.stop")
    assert announced.after is not None
    assert announced.after["because"] == "idle"
    assert (stopped.actor, stopped.subject) == ("controller", "session:s1")
    # A step until it is seen to run, and one at most until the end of its time is seen.
    assert 2 * HOUR - 1 < stopped.at - began < 2 * HOUR + 121
    await site.pass_(60)
    assert site.read(lambda found: sessions.of(found, "s1")) is None
    assert len(site.notices("ann")) == 1  # it is found next time


async def test_one_without_an_accelerator_has_its_own_limit(site: Sessions) -> None:
    site.start("s1", "ann", accelerator=None)
    await site.pass_(11.5 * HOUR, step=300)
    assert site.notices("ann") == []
    await site.pass_(0.8 * HOUR)
    assert site.ended_as("s1") == "idle"


async def test_a_busy_kernel_is_never_idle_and_its_end_is_what_counts(site: Sessions) -> None:
    site.start("s1", "ann")
    site.measures["s1"] = BUSY
    await site.pass_(30 * HOUR, step=600)
    assert site.notices("ann") == []
    site.measures["s1"] = QUIET
    await site.pass_(1.9 * HOUR)
    assert site.hub.stopped == []
    await site.pass_(0.2 * HOUR)
    assert site.hub.stopped == [("ann", "")]


async def test_keeping_a_session_is_good_for_its_whole_limit_and_not_for_ever(site: Sessions) -> None:
    site.start("s1", "ann")
    allowed = site.settings.idle.keeps
    assert site.write(lambda found: sessions.keep(found, "ann", "", allowed)).outcome == "no-session"
    await site.pass_(HOUR)
    assert site.write(lambda found: sessions.keep(found, "ann", "", allowed)).outcome == "not-needed"
    for number in range(allowed):
        await site.pass_(3 * HOUR, until=lambda: site.known("s1").stop_because == "idle")
        kept = site.write(lambda found: sessions.keep(found, "ann", "", allowed))
        assert kept.outcome == "kept"
        assert kept.known is not None
        assert (kept.known.keeps, kept.known.stop_at) == (number + 1, None)
    await site.pass_(3 * HOUR, until=lambda: site.known("s1").stop_because == "idle")
    assert "Run something to go on" in site.texts("ann", "idle")[0]
    assert site.write(lambda found: sessions.keep(found, "ann", "", allowed)).outcome == "used-up"
    await site.pass_(0.5 * HOUR)
    assert site.hub.stopped == [("ann", "")]


async def test_work_after_the_warning_takes_warning_and_stop_back(site: Sessions) -> None:
    site.start("s1", "ann")
    await site.pass_(1.9 * HOUR)
    assert site.texts("ann", "idle")
    site.measures["s1"] = Measures(cpu=0.01, quiet_s=12.0)
    await site.pass_(60)
    assert site.notices("ann") == []
    assert site.known("s1").stop_because == ""
    assert [one.before["because"] for one in site.audited("session.spare")] == ["idle"]


async def test_the_warning_of_a_session_that_its_owner_ends_goes_with_it(site: Sessions) -> None:
    site.start("s1", "ann")
    await site.pass_(1.9 * HOUR)
    assert site.texts("ann", "idle")
    site.write(lambda found: reservations.delete(found, ["s1"]))
    await site.pass_(60)
    assert site.notices("ann") == []
    assert site.hub.stopped == []


async def test_a_session_that_falls_silent_is_not_stopped_because_of_that(site: Sessions) -> None:
    site.start("s1", "ann")
    site.measures["s1"] = BUSY
    await site.pass_(600)
    site.measures["s1"] = None
    await site.pass_(20 * HOUR, step=600)
    assert site.hub.stopped == []
    site.hub.unused["ann", ""] = 600.0  # the hub has seen it used
    await site.pass_(10 * HOUR, step=600)
    assert site.hub.stopped == []
    site.hub.unused["ann", ""] = 30 * HOUR
    await site.pass_(HOUR)
    assert site.hub.stopped == [("ann", "")]


async def test_one_that_cannot_measure_is_idle_when_the_hub_says_so(site: Sessions) -> None:
    site.start("s1", "ann")
    site.measures["s1"] = None
    await site.pass_(5 * HOUR, step=300)
    assert site.hub.stopped == []  # the hub did not say anything
    assert 5 < len(site.hub.asked) < 100
    asked = len(site.hub.asked)
    await site.pass_(120, step=5)  # while it does not answer it is asked no more often
    assert len(site.hub.asked) - asked <= 3
    site.hub.unused["ann", ""] = 2.5 * HOUR
    await site.pass_(0.5 * HOUR)
    assert site.hub.stopped == [("ann", "")]


async def test_who_worked_by_the_hubs_word_is_told_since_when_that_is_not_so(site: Sessions) -> None:
    site.start("s1", "ann")
    site.measures["s1"] = None
    await site.pass_(5 * HOUR, step=300)
    site.hub.unused["ann", ""] = 1.8 * HOUR
    await site.pass_(90, step=5)
    [warning] = site.notices("ann")
    assert "has done nothing for 1 hour 48 minutes." in warning.text


async def test_on_a_shared_card_the_neighbours_work_keeps_nobody(site: Sessions) -> None:
    site.start("s1", "ann", share=0.25)
    site.start("s2", "ben")
    for id in ("s1", "s2"):
        site.measures[id] = QUIET.model_copy(update={"devices": [Accelerated(utilisation=0.9)]})
    await site.pass_(3 * HOUR, step=120)
    assert site.hub.stopped == [("ann", "")]


async def test_what_prometheus_sees_at_work_is_left_alone(site: Sessions) -> None:
    site.start("s1", "ann")
    site.start("s2", "ben")
    site.measures.update(s1=None, s2=None)
    for who in ("ann", "ben"):
        site.hub.unused[who, ""] = 9 * HOUR
    site.keeper = site.another_keeper(
        prometheus=KnownUse({"pod-1": 0.8, "pod-2": 0.01}), pods=lambda: {"s1": "pod-1", "s2": "pod-2"}
    )
    await site.pass_(2.1 * HOUR)
    assert site.hub.stopped == [("ben", "")]


async def test_the_length_of_a_session_ends_it_although_it_works(site: Sessions) -> None:
    site.start("s1", "ann", session_s=HOUR)
    site.measures["s1"] = BUSY
    await site.pass_(0.5 * HOUR)
    known = site.known("s1")
    assert known.ends_at is not None
    assert known.ends_at == pytest.approx(known.ready_at or 0.0, abs=HOUR + 1)
    assert site.read(sessions.ends) == {"s1": known.ends_at}
    await site.pass_(0.4 * HOUR)
    assert "reaches the end of its time" in site.texts("ann", "limit")[0]
    await site.pass_(0.2 * HOUR)
    assert site.ended_as("s1") == "limit"


async def test_a_budget_warns_and_then_ends_the_sessions_that_use_it(site: Sessions) -> None:
    site.limit("group:cms", "hours:week:t4", 10)
    site.start("s1", "ann", account="group:cms")
    site.start("s2", "ben", account="group:cms")
    site.start("s3", "cid")  # charges another account
    site.start("s4", "dot", account="group:cms", accelerator=None)  # uses no hours
    for id in ("s1", "s2", "s3", "s4"):
        site.measures[id] = BUSY
    await site.pass_(3.9 * HOUR)
    assert site.texts("ann", "budget") == []
    await site.pass_(0.2 * HOUR)
    for who in ("ann", "ben"):
        [warning] = site.notices(who)
        assert (warning.kind, warning.level) == ("budget", "warning")
        assert warning.text.startswith("Group cms has used 8")
        assert "its 10 T4 (simulated)-hours a week: 80% and more. It renews on Monday 1 December" in warning.text
        assert warning.until == MONDAY + 7 * 24 * HOUR
    await site.pass_(0.7 * HOUR)
    assert [one.level for one in site.notices("ann")] == ["danger", "warning"]
    await site.pass_(0.3 * HOUR)
    assert "Your session with T4 (simulated) will be stopped at" in site.texts("ann", "budget")[0]
    assert site.hub.stopped == []
    await site.pass_(0.2 * HOUR)
    assert sorted(site.hub.stopped) == [("ann", ""), ("ben", "")]
    assert site.ended_as("s1") == site.ended_as("s2") == "budget"
    [told] = site.texts("ann", "stopped")
    assert "the budget that it was charged to is used up. Group cms has used all of its 10 T4" in told
    for who in ("cid", "dot"):
        assert site.notices(who) == []


async def test_after_more_budget_the_warning_goes_and_comes_again_when_it_is_true_again(site: Sessions) -> None:
    site.limit("user:ann", "hours:week", 1)
    site.start("s1", "ann")
    site.measures["s1"] = BUSY
    await site.pass_(0.97 * HOUR)
    assert [one.level for one in site.notices("ann")] == ["danger", "warning"]
    site.write(lambda found: [notices.dismiss(found, "ann", one.id) for one in notices.of_user(found, "ann")])
    site.limit("user:ann", "hours:week", 10)
    await site.pass_(120)
    assert site.notices("ann") == []
    await site.pass_(7.1 * HOUR, step=300)
    [warning] = site.notices("ann")
    assert "of your 10 card-hours a week: 80% and more" in warning.text


async def test_more_budget_takes_the_stop_back(site: Sessions) -> None:
    site.limit("user:ann", "hours:day", 1)
    site.start("s1", "ann")
    site.measures["s1"] = BUSY
    await site.pass_(1.05 * HOUR)
    assert site.known("s1").stop_because == "budget"
    assert "You have used all of your 1 card-hour a day." in site.texts("ann", "budget")[0]
    site.limit("user:ann", "hours:day", 100)
    await site.pass_(120)
    assert site.known("s1").stop_because == ""
    await site.pass_(HOUR)
    assert site.hub.stopped == []


async def test_a_new_day_renews_what_was_nearly_used_up(site: Sessions) -> None:
    site.limit("default", "hours:day", 13.9)
    site.start("s1", "ann")
    site.measures["s1"] = BUSY
    await site.pass_(13.9 * HOUR, step=300)
    assert site.texts("ann", "budget")
    await site.pass_(2 * HOUR, step=300)  # over midnight, within the grace
    assert site.hub.stopped == []
    assert site.texts("ann", "budget") == []


async def test_a_controller_that_dies_between_writing_and_asking_is_followed_by_one_that_asks(site: Sessions) -> None:
    site.start("s1", "ann")
    await site.pass_(1.9 * HOUR)
    site.hub.answer = Answer("away", text="status 502")
    await site.pass_(0.2 * HOUR)
    asked = len(site.hub.stopped)
    assert asked > 1
    site.measures["s1"] = BUSY  # too late: it is written down, and its owner told
    site.hub.answer = Answer("stopped")
    await site.look(site.another_keeper())
    assert len(site.hub.stopped) == asked + 1
    assert site.ended_as("s1") == "idle"
    assert len(site.audited("session.stop")) == 1
    assert len(site.texts("ann", "stopped")) == 1


async def test_a_stop_that_the_hub_could_not_carry_out_for_long_is_judged_anew(site: Sessions) -> None:
    site.hub.answer = Answer("away")
    site.start("s1", "ann")
    await site.pass_(2.05 * HOUR)
    site.measures["s1"] = BUSY
    await site.pass_(600)
    site.hub.answer = Answer("stopped")
    await site.pass_(HOUR)
    assert site.known("s1").stop_because == ""
    assert site.texts("ann", "stopped") == []


async def test_another_session_of_the_same_name_is_not_stopped(site: Sessions) -> None:
    site.start("s1", "ann")
    await site.pass_(1.9 * HOUR)
    site.clock.advance(0.2 * HOUR)
    site.measure()
    [ending] = await site.keeper.look()
    assert ending.spawn_id == "s1"
    # before the hub could be asked, the owner has stopped it and started another one
    site.write(lambda found: reservations.delete(found, ["s1"]))
    site.start("s2", "ann")
    await site.look()
    assert site.hub.stopped == []


async def test_whoever_does_not_lead_any_more_writes_nothing(site: Sessions) -> None:
    site.start("s1", "ann")
    await site.pass_(60)
    site.write(lambda found: found.execute(update(lease).values(epoch=99)))
    site.start("s2", "ben")
    with pytest.raises(StaleEpoch):
        await site.keeper.look()
    assert site.read(lambda found: sessions.of(found, "s2")) is None


async def test_a_clock_that_is_set_does_not_end_a_session_that_works(site: Sessions) -> None:
    site.start("s1", "ann")
    site.measures["s1"] = Measures(cpu=0.01, quiet_s=30.0)
    await site.pass_(HOUR)
    site.clock.advance(-HOUR)
    await site.pass_(0.2 * HOUR)
    site.clock.advance(5 * HOUR)
    await site.pass_(HOUR)
    assert site.notices("ann") == []


async def test_rules_hold_for_those_they_name(site: Sessions) -> None:
    site.settings = site.settings.model_validate(
        {
            "idle": {
                "limits": [
                    {"group": "cms", "accelerator": "t4", "idle_hours": 4},
                    {"profile": "lab", "session_hours": 5},
                ]
            }
        }
    )
    site.keeper = site.another_keeper()
    site.start("s1", "ann", account="group:cms")
    site.start("s2", "ben")
    await site.pass_(2.1 * HOUR)
    assert site.hub.stopped == [("ben", "")]
    await site.pass_(2 * HOUR)
    assert site.hub.stopped == [("ben", ""), ("ann", "")]
    assert site.ended_as("s1") == "idle"


# --- notices ---------------------------------------------------------------------------------------------------------


def test_a_notice_for_everybody_is_dismissed_by_each_reader_alone(site: Sessions) -> None:
    id = site.write(lambda found: notices.add(found, notices.EVERYBODY, "maintenance", "info", "Friday.", for_s=HOUR))
    assert id is not None
    assert site.texts("ann", "maintenance") == site.texts("ben", "maintenance") == ["Friday."]
    for _ in range(2):
        assert site.write(lambda found: notices.dismiss(found, "ann", id))
    assert site.notices("ann") == []
    assert site.texts("ben", "maintenance") == ["Friday."]
    site.clock.advance(HOUR + 1)
    assert site.notices("ben") == []


def test_nobody_dismisses_what_is_for_somebody_else(site: Sessions) -> None:
    id = site.write(lambda found: notices.add(found, "ann", "queue", "info", "Up."))
    assert id is not None
    assert not site.write(lambda found: notices.dismiss(found, "ben", id))
    assert not site.write(lambda found: notices.dismiss(found, "ben", "none"))
    assert site.texts("ann", "queue") == ["Up."]
    assert site.write(lambda found: notices.dismiss(found, "ann", id))
    assert site.notices("ann") == []


def test_what_is_about_one_cause_is_told_once_even_after_it_was_read(site: Sessions) -> None:
    made = [site.write(lambda found: notices.add(found, "ann", "budget", "info", "80 %", id="b/80")) for _ in range(2)]
    assert made == ["b/80", None]
    site.write(lambda found: notices.dismiss(found, "ann", "b/80"))
    assert site.write(lambda found: notices.add(found, "ann", "budget", "info", "80 %", id="b/80")) is None
    assert site.notices("ann") == []


def test_a_session_is_told_what_is_about_it_and_about_none(site: Sessions) -> None:
    site.write(lambda found: notices.add(found, "ann", "idle", "warning", "other", spawn_id="s2"))
    site.write(lambda found: notices.add(found, "ann", "idle", "warning", "mine", spawn_id="s1"))
    site.write(lambda found: notices.add(found, "ann", "stopped", "warning", "before", spawn_id="s0"))
    site.write(lambda found: notices.add(found, "ann", "budget", "warning", "any"))
    told = site.read(lambda found: notices.of_user(found, "ann", spawn_id="s1"))
    assert {one.text for one in told} == {"mine", "before", "any"}


def test_old_notices_are_swept_away(site: Sessions) -> None:
    site.write(lambda found: notices.add(found, "ann", "budget", "info", "old", id="old", for_s=60))
    site.write(lambda found: notices.add(found, "ann", "stopped", "info", "unread"))
    site.clock.advance(31 * 24 * HOUR)
    assert site.write(notices.sweep) == 1
    assert site.texts("ann", "stopped") == ["unread"]
    site.clock.advance(60 * 24 * HOUR)
    assert site.write(notices.sweep) == 1
    assert site.notices("ann") == []


def test_a_message_that_was_dismissed_stays_so_as_long_as_it_stands(site: Sessions) -> None:
    id = site.write(lambda found: notices.add(found, notices.EVERYBODY, "maintenance", "info", "For ever."))
    assert id is not None
    site.write(lambda found: notices.dismiss(found, "ann", id))
    for _ in range(6):
        site.clock.advance(31 * 24 * HOUR)
        assert site.write(notices.sweep) == 0
        assert site.notices("ann") == []
    site.write(lambda found: notices.withdraw(found, [id]))
    assert site.write(notices.sweep) == 1
