"""Conservative backfill: the plan against a slow and simple one, who may pass whom, and that nobody starves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.admission.backfill import Planned, plan, plan_each
from hub.admission.order import line
from hub.admission.standing import Bounds, Standing
from hub.admission.tickets import Ticket
from hub.admission.timeline import Timeline, rounded_up
from spawner.capacity.model import Fit
from tests.hub.queue_site import Node, Site
from tests.hub.queue_world import CATALOGUE, GIB, MINUTE, NOW, asked, cluster, held, limits, machine, standing, ticket

HOUR = 60 * MINUTE


def planned(known: Standing, engine: Any = "local", **more: Any) -> dict[str, Planned]:
    return plan(line(known), known, CATALOGUE, engine, **more)


def starts(known: Standing, engine: Any = "local", **more: Any) -> dict[str, float | None]:
    """Return in how many minutes who starts."""
    found = planned(known, engine, **more)
    return {name: None if one.start is None else (one.start - NOW) / MINUTE for name, one in found.items()}


# --- against a model: one minute after the other -----------------------------------------------------------------

_HORIZON = 400
ENDS = st.one_of(st.none(), st.integers(1, 15))
"""Minutes, all within the hour that is planned to the minute."""


def brute_force(cards: int, running: Sequence[int | None], waiting: Sequence[tuple[int, int | None]]) -> list[Any]:
    """Plan minute by minute: the first one from which enough is free for the whole of the session."""
    free = [cards - sum(end is None or end > minute for end in running) for minute in range(_HORIZON)]
    found: list[int | None] = []
    for need, lasts in waiting:
        for start in range(_HORIZON // 2):
            until = _HORIZON if lasts is None else start + lasts
            if min(free[start:until]) >= need:
                free[start:until] = [number - need for number in free[start:until]]
                found.append(start)
                break
        else:
            found.append(None)
    return found


@given(
    st.integers(1, 4),
    st.lists(ENDS, max_size=4),
    st.lists(st.tuples(st.integers(1, 4), st.one_of(st.none(), st.integers(1, 8))), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_the_plan_is_that_of_the_simple_model(
    cards: int, ends: list[int | None], waiting: list[tuple[int, int | None]]
) -> None:
    running = ends[:cards]
    sessions = [held(f"h{number}") for number in range(len(running))]
    tickets = [
        ticket(f"q{place}", count=min(need, cards), rank=NOW - 10 + place, session_s=lasts and lasts * MINUTE)
        for place, (need, lasts) in enumerate(waiting)
    ]
    known = {f"h{number}": None if end is None else NOW + end * MINUTE for number, end in enumerate(running)}
    expected = brute_force(cards, running, [(min(need, cards), lasts) for need, lasts in waiting])
    for availability, engine in (
        (machine(sessions, devices={"t4": cards}), "local"),
        (cluster(sessions, total=cards), "kubernetes"),
    ):
        found = starts(standing(availability, *tickets, ends=known), engine)
        assert list(found.values()) == expected


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.floats(1, 40 * HOUR), st.integers(1, 2)), max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.floats(60, 30 * HOUR)), max_size=6),
)
@settings(deadline=None)
def test_what_is_planned_never_overlaps_beyond_what_is_free(free: int, releases: Any, asks: Any) -> None:
    """Also on the coarse grid of what is far away; ends are known to the second here."""
    moments = [(NOW + ahead, number) for ahead, number in releases]
    timeline = Timeline(NOW, free, moments)
    taken: list[tuple[float, float, int]] = []
    for need, lasts in asks:
        start = timeline.earliest(need, lasts)
        if start is not None:
            timeline.take(start, lasts, need)
            taken.append((start, start + lasts, need))
    for moment in [start for start, _, _ in taken]:
        used = sum(need for start, end, need in taken if start <= moment < end)
        assert used <= free + sum(number for at, number in moments if at <= moment)


@given(st.floats(0, 30 * HOUR), st.floats(0, 30 * HOUR), st.floats(0, HOUR))
def test_a_moment_is_rounded_up_in_order_and_never_to_a_later_one_as_it_comes_nearer(
    one: float, other: float, passed: float
) -> None:
    near, far = sorted((NOW + one, NOW + other))
    assert near <= rounded_up(near, NOW) <= rounded_up(far, NOW)
    assert rounded_up(far, NOW + passed) <= rounded_up(far, NOW)


# --- who passes whom ---------------------------------------------------------------------------------------------

BIG = ticket("big", count=2, rank=NOW - 60)
HALF = [held("a")]
"""One of two cards is in use."""


@pytest.mark.parametrize(
    ("lasts_s", "passes"), [(30 * MINUTE, True), (31 * MINUTE, False), (None, False)], ids=["short", "long", "endless"]
)
def test_a_small_one_passes_only_if_it_is_done_before_the_big_one_starts(lasts_s: float | None, passes: bool) -> None:
    small = ticket("small", session_s=lasts_s)
    found = planned(standing(machine(HALF), BIG, small, ends={"a": NOW + 30 * MINUTE}))
    assert found["big"].start == NOW + 30 * MINUTE
    assert found["small"].now is passes
    assert found["small"].cause == ("" if passes else "behind")


def test_the_example_of_the_documentation() -> None:
    """docs/explanation/queue.md: four cards, 14:00, sessions that end at 15:00 and at 16:00."""
    running = [held("ann"), held("ben")]
    carla = ticket("carla", count=4, rank=NOW - 3, session_s=2 * HOUR)
    deniz = ticket("deniz", rank=NOW - 2, session_s=90 * MINUTE)
    emil = ticket("emil", rank=NOW - 1, session_s=4 * HOUR)
    two = NOW - NOW % 3600  # an even hour
    known = standing(
        machine(running, devices={"t4": 4}),
        carla,
        deniz,
        emil,
        now=two,
        ends={"ann": two + HOUR, "ben": two + 2 * HOUR},
    )
    found = {name: one.start and (one.start - two) / HOUR for name, one in planned(known).items()}
    assert found == {"carla": 2, "deniz": 0, "emil": 4}
    shorter = replace(known, tickets=(carla, deniz, replace(emil, session_s=2 * HOUR)))
    assert planned(shorter)["emil"].now
    now = two + 40 * MINUTE
    later = standing(
        machine([held("deniz")], devices={"t4": 4}), carla, emil, now=now, ends={"deniz": two + 1.5 * HOUR}
    )
    assert planned(later)["carla"].start == two + 1.5 * HOUR


def test_a_small_one_passes_where_enough_is_left_for_the_big_one() -> None:
    known = standing(machine([held("a"), held("b")], devices={"t4": 4}), replace(BIG, count=3), ticket("small"))
    assert planned(replace(known, ends={"a": NOW + 600, "b": NOW + 600}))["small"].now


def test_a_start_that_cannot_be_foreseen_is_passed_at_first_and_then_everything_is_kept_for_it() -> None:
    for waited, passes in ((29 * MINUTE, True), (31 * MINUTE, False)):
        big = replace(BIG, rank=NOW - waited)
        found = planned(standing(machine(HALF), big, ticket("small")))
        assert found["big"] == (None, False, "full", False, None, False)
        assert found["small"].now is passes


def test_who_waits_for_room_on_one_node_is_passed_at_first() -> None:
    narrow = cluster([], total=4, fits_now=(Fit(1, 64_000, GIB),), fits_empty=(Fit(2, 64_000, GIB),))
    known = standing(narrow, BIG, ticket("small"))
    found = planned(known, "kubernetes")
    assert (found["big"].cause, found["small"].now) == ("room", True)


def test_the_kind_is_kept_for_who_waits_long_for_room_until_the_sessions_of_that_time_have_ended() -> None:
    old = held("old")
    narrow = cluster([old], total=4, fits_now=(Fit(1, 64_000, GIB),), fits_empty=(Fit(2, 64_000, GIB),))
    big = replace(BIG, rank=NOW - HOUR)
    for granted_at, kept in ((NOW - 2 * HOUR, True), (NOW - 10 * MINUTE, False)):
        found = planned(standing(narrow, big, ticket("small"), granted_at={"old": granted_at}), "kubernetes")
        assert found["small"].now is not kept
        assert found["small"].cause == ("behind" if kept else "")


@pytest.mark.parametrize("fields", [{"needs_login": True}, {"not_before": NOW + HOUR, "session_s": 600.0}])
def test_who_cannot_start_now_for_a_reason_of_its_own_is_passed(fields: dict[str, Any]) -> None:
    first = ticket("first", rank=NOW - HOUR, **fields)
    found = planned(standing(machine([], devices={"t4": 1}), first, ticket("second", session_s=HOUR)))
    assert (found["first"].now, found["second"].now) == (False, True)


def test_a_limit_of_a_group_keeps_back_that_group_only_and_holds_no_card_back() -> None:
    cms = Bounds(shared=limits("group:cms", accelerators=1))
    tickets = [
        ticket("c1", account="group:cms", rank=NOW - HOUR),
        ticket("c2", account="group:cms", rank=NOW - HOUR + 1),
        ticket("other"),
    ]
    known = standing(
        machine([held("a", account="group:cms")]),
        *tickets,
        bounds={(name, "group:cms"): cms for name in ("c1", "c2")},
        ends={"a": NOW + HOUR},
    )
    found = planned(known)
    assert [found[name].cause for name in ("c1", "c2", "other")] == ["limit", "limit", ""]
    free = planned(replace(known, availability=machine([])))
    assert [free[name].cause for name in ("c1", "c2", "other")] == ["", "limit", ""], "one of the group, not two"


def test_nobody_uses_up_a_groups_limit_that_somebody_of_the_group_in_front_is_planned_to_start_on() -> None:
    first = ticket("first", "t4", account="group:cms", rank=NOW - 60)
    second = ticket("second", "slice", account="group:cms", session_s=MINUTE)
    for most, cause in ((2, "group"), (3, "")):
        cms = Bounds(shared=limits("group:cms", servers=most))
        known = standing(
            machine([held("a", account="group:cms"), held("b")], devices={"t4": 2, "slice": 2}),
            first,
            second,
            bounds={("first", "group:cms"): cms, ("second", "group:cms"): cms},
            ends={"b": NOW + HOUR},
        )
        found = planned(known)
        assert found["first"].start == NOW + HOUR
        assert found["second"].cause == cause


def test_who_is_kept_back_for_one_of_the_group_is_planned_for_when_that_one_has_started() -> None:
    """Else it would hold nothing now, and get in front of those behind it as soon as somebody took the free card."""
    a = Bounds(shared=limits("group:a", servers=3))
    first = ticket("first", count=2, account="group:a", session_s=5 * MINUTE)
    second = ticket("second", account="group:a")
    third = ticket("third", count=2, account="group:a")
    running = [held("h0", account="group:a"), held("h1", account="group:a"), held("h2", account="group:b")]
    known = standing(
        machine(running, devices={"t4": 4}),
        bounds={(one.user, "group:a"): a for one in (first, second, third)},
        ends={"h0": NOW + MINUTE, "h1": None, "h2": NOW + MINUTE},
    )
    found = plan([first, second, third, ticket("other", account="group:b")], known, CATALOGUE, "local")
    assert {name: (one.start and (one.start - NOW) / MINUTE, one.cause) for name, one in found.items()} == {
        "first": (1, "full"),
        "second": (1, "group"),
        "third": (6, "full"),
        "other": (None, "behind"),
    }
    taken = replace(known, availability=machine([*running, held("late", session_s=MINUTE)], devices={"t4": 4}))
    taken = replace(taken, ends={**known.ends, "late": NOW + MINUTE})
    after = plan([first, second, third], taken, CATALOGUE, "local")
    assert [after[name].start for name in after] == [found[name].start for name in after]


def test_a_persons_own_limit_keeps_back_that_person_only() -> None:
    one = Bounds(own=limits(accelerators=1))
    mine = [ticket("m1", user="ann", rank=NOW - 60), ticket("m2", user="ann", rank=NOW - 50)]
    found = planned(standing(machine([]), *mine, ticket("x"), bounds={("ann", "user:ann"): one}))
    assert [found[name].cause for name in ("m1", "m2", "x")] == ["", "own-limit", ""]


def test_the_session_that_is_switched_from_does_not_count_against_its_owner() -> None:
    one = {("ann", "user:ann"): Bounds(own=limits(servers=1))}
    known = standing(machine([held("ann")], devices={"t4": 2}), ticket("t", user="ann"), bounds=one)
    assert planned(known)["t"].cause == "own-limit"
    assert planned(replace(known, tickets=(replace(known.tickets[0], replaces="ann"),)))["t"].now  # type: ignore[type-var]


def test_shared_devices_are_counted_in_places_and_a_session_gets_different_ones() -> None:
    full = [held(f"h{number}") for number in range(3)]
    known = standing(machine(full, replicas=2), ticket("pair", count=2, rank=NOW - 60), ticket("one"))
    found = planned(known)
    assert (found["pair"].now, found["one"].now) == (False, True), "one place is left on one of two devices"
    left = standing(
        machine([held("a", devices=("t4-0",)), held("b", devices=("t4-0",))], replicas=2), ticket("p", count=2)
    )
    assert planned(left)["p"].cause == "room", "two places are left, both on one device"


def test_a_broken_device_is_in_nobodys_plan() -> None:
    known = standing(machine([held("a", devices=("t4-1",))], broken=["t4-1"]), ticket("1"), ticket("2"))
    found = starts(replace(known, ends={"a": NOW + 600}))
    assert found == {"1": 0, "2": None}


def test_without_fresh_counts_nobody_in_the_queue_starts() -> None:
    for known, engine in ((machine([], fresh=False), "local"), (cluster([], fresh=False), "kubernetes")):
        assert planned(standing(known, ticket("t")), engine)["t"].cause == "unknown"


def test_sessions_without_accelerator_wait_for_nothing_on_one_machine() -> None:
    assert planned(standing(machine([], fresh=False), ticket("t", None)))["t"].now


def test_where_the_cluster_makes_nodes_nobody_waits_for_cards() -> None:
    full = standing(cluster([held("a"), held("b")]), ticket("t"))
    assert planned(full, "kubernetes", nodes_may_appear=True)["t"].now


def test_what_cannot_be_counted_is_left_to_the_scheduler() -> None:
    assert planned(standing(cluster([], unknown="parts of each other"), ticket("t")), "kubernetes")["t"].now


# --- whatever comes ----------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> Standing:
    """Machines in all states: known and unknown ends, groups with limits, waits of all lengths."""
    cards = draw(st.integers(1, 4))
    running = [
        held(f"h{number}", account=f"group:{draw(st.sampled_from('ab'))}")
        for number in range(draw(st.integers(0, cards)))
    ]
    ends = {one.id: draw(st.one_of(st.none(), st.integers(1, 40).map(lambda m: NOW + m * MINUTE))) for one in running}
    tickets: list[Ticket] = []
    for number in range(draw(st.integers(0, 6))):
        tickets.append(
            ticket(
                f"q{number}",
                draw(st.sampled_from(["t4", "t4", "slice"])),
                draw(st.integers(1, min(2, cards))),
                account=f"group:{draw(st.sampled_from('ab'))}",
                rank=NOW - draw(st.integers(0, 60)) * MINUTE,
                session_s=draw(st.sampled_from([None, 300.0, 1200.0, 3600.0])),
                priority=draw(st.integers(0, 1)),
            )
        )
    shared = {"group:a": draw(st.integers(1, 4)), "group:b": 4}
    bounds = {
        (one.user, one.account): Bounds(shared=limits(one.account, servers=shared[one.account])) for one in tickets
    }
    return standing(machine(running, devices={"t4": cards, "slice": 2}), *tickets, ends=ends, bounds=bounds)


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_whoever_starts_delays_nobody_in_front(known: Standing) -> None:
    """Let those whose turn it is start, one by one; nobody in front of them has a later start than before."""
    ordered = line(known)
    before = plan(ordered, known, CATALOGUE, "local")
    for index, one in enumerate(ordered):
        if not before[one.id].now:
            continue
        running = held(one.id, one.accelerator, one.count, account=one.account, session_s=one.session_s)
        held_now = machine([*known.held, running], devices={"t4": _devices(known, "t4"), "slice": 2})
        front = [other for other in ordered[:index] if not before[other.id].now]
        ends = {**known.ends, one.id: None if one.session_s is None else NOW + one.session_s}
        starting = [other for other in ordered[:index] if before[other.id].now]
        alone = plan([*starting, *front], replace(known, tickets=()), CATALOGUE, "local")
        after = plan(
            [*starting, *front], replace(known, tickets=(), availability=held_now, ends=ends), CATALOGUE, "local"
        )
        for other in (*starting, *front):
            soon, late = alone[other.id], after[other.id]
            if soon.start is not None and soon.cause not in ("limit", "group"):
                assert late.start is not None, f"{one.id} delays {other.id}"
                assert late.start <= soon.start, f"{one.id} delays {other.id}"


def _devices(known: Standing, kind: str) -> int:
    snapshot = known.availability.snapshot
    assert snapshot is not None
    return sum(device.accelerator == kind for device in snapshot.devices)


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_the_quick_plan_starts_the_same_ones(known: Standing) -> None:
    ordered = line(known)
    quick = plan_each(ordered, known, CATALOGUE, "local")
    assert {one.id: planned.now for one, planned in quick} == {
        name: one.now for name, one in plan(ordered, known, CATALOGUE, "local").items()
    }


# --- nobody starves ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(5, 90), min_size=20, max_size=40), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_big_one_starts_however_many_small_ones_come(lengths: list[int], known: bool) -> None:
    """Somebody small asks each minute; nobody knows when their sessions end, or everybody does."""
    site = Site(devices={"t4": 3})
    _run_with_a_stream(site, lengths, asked("big", count=3), known)


@given(st.lists(st.integers(5, 90), min_size=20, max_size=40))
@settings(max_examples=40, deadline=None)
def test_who_needs_room_on_one_node_starts_however_many_small_ones_come(lengths: list[int]) -> None:
    """Two cards of one node, or nearly all of its cpu, while small ones are spread over all nodes."""
    for big in (asked("big", count=2), asked("big", cpu_m=56_000)):
        site = Site(nodes=(Node({"t4": 2}), Node({"t4": 2}), Node({"t4": 2})))
        _run_with_a_stream(site, lengths, big, False, cpu_m=8000)


def _run_with_a_stream(site: Site, lengths: list[int], big: Any, known: bool, **more: Any) -> None:
    def small(number: int, minutes: int) -> None:
        wanted = asked(f"s{number}", session_s=minutes * MINUTE if known else None, **more)
        site.ask(wanted, lasts_s=minutes * MINUTE)

    for number in range(6):
        small(number, lengths[number])
    site.ask(big, lasts_s=10 * MINUTE)
    name = next(iter(name for name in (*site.tickets, *site.sessions) if name.startswith("big")))
    longest = max(lengths)
    for minute in range(int(site.patience_s / MINUTE) + 2 * longest + 5):
        if name in site.started:
            return
        small(6 + minute, lengths[minute % len(lengths)])
        site.pass_time(MINUTE)
        site.promote()
    pytest.fail(f"it still waits: {site.places()[name].why}")


def test_an_endless_session_is_no_end() -> None:
    timeline = Timeline(NOW, 1)
    timeline.take(NOW, inf, 1)
    assert timeline.earliest(1, 60.0) is None
