"""Estimates are rounded for people, never too short, and say "not known" with the reason where nobody can know."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.admission.decide import queue
from hub.admission.estimate import Estimate, say_duration
from hub.admission.standing import Bounds, Standing
from spawner.capacity.model import Fit
from tests.hub.queue_world import CATALOGUE, GIB, MINUTE, NOW, cluster, held, limits, machine, standing, ticket


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "about a minute"),
        (60, "about a minute"),
        (61, "about 2 minutes"),
        (600, "about 10 minutes"),
        (1450, "about 25 minutes"),
        (1500, "about 25 minutes"),
        (1501, "about 30 minutes"),
        (3300, "about 55 minutes"),
        (3301, "about an hour"),
        (3601, "about 1.5 hours"),
        (7200, "about 2 hours"),
        (34_200, "about 9.5 hours"),
        (34_201, "about 10 hours"),
        (129_600, "about 36 hours"),
        (129_601, "about 2 days"),
        (900_000, "about 11 days"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert say_duration(seconds) == text


_UNITS = {"minute": 60, "minutes": 60, "hour": 3600, "hours": 3600, "day": 86_400, "days": 86_400}


def seconds_of(text: str) -> float:
    found = re.fullmatch(r"about (an?|[0-9.]+) (\w+)", text)
    assert found is not None, text
    return (1.0 if found[1] in ("a", "an") else float(found[1])) * _UNITS[found[2]]


@given(st.floats(1, 60 * 86_400))
def test_what_is_said_is_never_too_short_and_not_much_too_long(seconds: float) -> None:
    said = seconds_of(say_duration(seconds))
    assert seconds <= said <= max(60.0, seconds + 60, seconds * 1.67)


@given(st.floats(1, 60 * 86_400), st.floats(1, 60 * 86_400))
def test_who_waits_longer_is_told_no_less(one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert seconds_of(say_duration(short)) <= seconds_of(say_duration(long))


def test_an_estimate_says_the_time_and_what_is_waited_for() -> None:
    assert Estimate(NOW + 1500, "when a session's time limit ends").text(NOW) == (
        "about 25 minutes, when a session's time limit ends"
    )
    assert Estimate(None, "nobody who holds one has a time limit").text(NOW) == (
        "not known: nobody who holds one has a time limit"
    )


def said(known: Standing, name: str = "t", engine: str = "local") -> str:
    return queue(known, CATALOGUE, "local" if engine == "local" else "kubernetes")[name].estimate.text(known.now)


FULL = [held("a"), held("b")]


def test_the_next_in_line_is_told_when_a_time_limit_ends() -> None:
    known = standing(machine(FULL), ticket("t"), ends={"a": NOW + 25 * MINUTE})
    assert said(known) == "about 25 minutes, when a session's time limit ends"


def test_who_is_second_waits_for_the_second_end_or_for_the_first_one_in_line_to_be_done() -> None:
    first = ticket("first", rank=NOW - 1, session_s=3600.0)
    known = standing(machine(FULL), first, ticket("t"), ends={"a": NOW + 20 * MINUTE})
    assert said(known) == "about 1.5 hours, when a session's time limit ends"
    known = standing(machine(FULL), first, ticket("t"), ends={"a": NOW + 20 * MINUTE, "b": NOW + 40 * MINUTE})
    assert said(known) == "about 40 minutes, when a session's time limit ends"


def test_where_nobody_has_a_time_limit_nothing_is_known() -> None:
    assert said(standing(machine(FULL), ticket("t"))) == "not known: nobody who holds one has a time limit"


def test_where_too_few_have_one_nothing_is_known() -> None:
    known = standing(machine(FULL), ticket("t", count=2), ends={"a": NOW + 60})
    assert said(known) == "not known: not enough of those who hold one, or come before you, have a time limit"


def test_what_programs_of_others_hold_ends_nobody_knows_when() -> None:
    known = standing(cluster([], total=2, others=2), ticket("t"))
    assert said(known, engine="kubernetes") == "not known: nobody knows when one can be used again"


def test_behind_somebody_whose_start_is_not_known_it_is_the_earliest() -> None:
    big = ticket("big", count=2, rank=NOW - 60)
    known = standing(machine(FULL), big, ticket("t"), ends={"a": NOW + 30 * MINUTE})
    assert said(known) == "about 30 minutes, at the earliest, when a session's time limit ends"


def test_behind_somebody_of_the_group_who_needs_what_is_left_of_its_limit_it_is_after_that_one() -> None:
    two = {(name, "group:cms"): Bounds(shared=limits("group:cms", servers=2)) for name in ("first", "t")}
    first = ticket("first", count=2, account="group:cms", rank=NOW - 60, session_s=10 * MINUTE)
    running = [held("mate", account="group:cms"), held("other")]
    known = standing(
        machine(running, devices={"t4": 3, "slice": 1}),
        *(first, ticket("t", "slice", account="group:cms")),
        bounds=two,
        ends={"other": NOW + 10 * MINUTE},
    )
    assert said(known) == "about 20 minutes, after somebody of your group who comes before you"


def test_several_cards_of_several_nodes_are_promised_at_the_earliest_only() -> None:
    known = standing(
        cluster(FULL, fits_empty=(Fit(1, 64_000, GIB), Fit(1, 32_000, 2 * GIB))),
        ticket("t", count=1),
        ends={"a": NOW + 60, "b": NOW + 60},
    )
    assert said(known, engine="kubernetes") == "about a minute, when a session's time limit ends"
    pair = standing(
        cluster([*FULL, held("c", count=2)], total=4, fits_empty=(Fit(2, 64_000, GIB),)),
        ticket("t", count=2),
        ends={"a": NOW + 60, "b": NOW + 60},
    )
    assert said(pair, engine="kubernetes") == "about a minute, at the earliest, when a session's time limit ends"


def test_a_session_that_is_late_ends_any_moment_and_one_that_is_very_late_nobody_knows_when() -> None:
    assert said(standing(machine(FULL), ticket("t"), ends={"a": NOW - 30})) == (
        "about a minute, when a session's time limit ends"
    )
    assert said(standing(machine(FULL), ticket("t"), ends={"a": NOW - 3600})).startswith("not known: ")


def test_old_counts_a_limit_and_a_login_are_no_times() -> None:
    assert said(standing(machine([], fresh=False), ticket("t"))) == (
        "not known: what is free cannot be counted at the moment"
    )
    assert said(standing(machine([]), ticket("t", needs_login=True))) == "not known: it waits until you log in"
    shared = Bounds(shared=limits("group:cms", accelerators=1))
    cms = ticket("t", account="group:cms")
    known = standing(machine([held("a", account="group:cms")]), cms, bounds={("t", "group:cms"): shared})
    assert said(known) == "not known: it depends on the sessions of group cms"


def test_a_start_that_failed_is_tried_again_at_a_known_moment() -> None:
    known = standing(machine([]), ticket("t", not_before=NOW + 30))
    assert said(known) == "about a minute, when it is tried again"
