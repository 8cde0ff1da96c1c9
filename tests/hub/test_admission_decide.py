"""The one decision: what is admitted, queued and refused, in which words, and that it is quick to make."""

from __future__ import annotations

import contextlib
import gc
import weakref
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.admission.decide import Admitted, Queued, decide, queue, startable
from hub.admission.standing import Asked, Bounds, Standing
from hub.quotas.budgets import Used
from spawner.capacity.availability import Availability
from spawner.capacity.model import Fit
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.hub.queue_world import CATALOGUE, GIB, MINUTE, NOW, asked, cluster, held, limits, machine, standing, ticket

FULL = [held("a"), held("b")]
ANN = ("ann", "user:ann")
CMS = ("ann", "group:cms")


def decided(wanted: Asked, known: Standing, engine: Any = "local", **more: Any) -> Admitted | Queued:
    return decide(wanted, known, CATALOGUE, engine, **more)


def admitted(wanted: Asked, known: Standing, engine: Any = "local", **more: Any) -> Reservation:
    answer = decided(wanted, known, engine, **more)
    assert isinstance(answer, Admitted), answer
    return answer.reservation


def queued(wanted: Asked, known: Standing, engine: Any = "local", **more: Any) -> Queued:
    answer = decided(wanted, known, engine, **more)
    assert isinstance(answer, Queued), answer
    return answer


def refused(wanted: Asked, known: Standing, engine: Any = "local", **more: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decided(wanted, known, engine, **more)
    return caught.value


# --- admitted ----------------------------------------------------------------------------------------------------


def test_what_is_free_and_waited_for_by_nobody_is_reserved_with_all_that_was_asked() -> None:
    wanted = asked(account="group:cms", session_s=3600.0, options={"image": "lab"}, cpu_m=2000, memory=GIB)
    got = admitted(wanted, standing(machine([held("a")])))
    assert got.devices == ("t4-1",)
    assert (got.id, got.user, got.account, got.share) == ("new", "ann", "group:cms", 1.0)
    assert (got.state, got.session_s, got.options, got.ticket) == ("granted", 3600.0, {"image": "lab"}, None)
    assert (got.cpu_m, got.memory) == (2000, GIB)


def test_a_ticket_is_admitted_as_itself_and_its_reservation_says_so() -> None:
    mine = ticket("mine")
    got = admitted(Asked.again(mine, "spawn"), standing(machine(), mine, ticket("later", rank=NOW + 1)))
    assert (got.id, got.ticket) == ("spawn", "mine")


def test_a_session_is_no_longer_than_its_owner_may() -> None:
    bounds = {ANN: Bounds(own=limits(session_s=3600))}
    for wants, gets in ((None, 3600.0), (60.0, 60.0), (7200.0, 3600.0)):
        assert admitted(asked(session_s=wants), standing(machine(), bounds=bounds)).session_s == gets


def test_devices_are_shared_as_often_as_they_may_and_a_session_gets_different_ones() -> None:
    known = standing(machine([held("a"), held("b"), held("c")], replicas=2))
    assert admitted(asked(), known).devices == ("t4-1",)
    assert queued(asked(count=2), known).cause == "full"
    assert set(admitted(asked(count=2), standing(machine(replicas=2))).devices) == {"t4-0", "t4-1"}


def test_who_waits_for_something_else_is_in_nobodys_way() -> None:
    known = standing(machine([], devices={"t4": 1, "slice": 0}), *(ticket(f"s{n}", "slice") for n in range(3)))
    admitted(asked(), known)


def test_a_session_without_accelerator_starts_on_one_machine_whatever_is_known() -> None:
    admitted(asked(accelerator=None), standing(machine([], fresh=False), ticket("t")))
    admitted(asked(accelerator=None), standing(Availability()))


# --- queued ------------------------------------------------------------------------------------------------------


def test_where_all_are_in_use_there_is_a_place_a_reason_and_an_estimate() -> None:
    known = standing(machine(FULL), ticket("t", rank=NOW - 1), ends={"a": NOW + 600, "b": NOW + 25 * MINUTE})
    answer = queued(asked(), known)
    assert (answer.place, answer.of, answer.cause) == (2, 2, "full")
    assert answer.why == "All 2 T4 (simulated) are in use."
    assert answer.estimate.text(NOW) == "about 25 minutes, when a session's time limit ends"


def test_what_is_free_goes_to_those_who_wait_already() -> None:
    answer = queued(asked(), standing(machine([held("a")]), ticket("t", rank=NOW - 1)))
    assert (answer.place, answer.cause) == (2, "behind")
    assert answer.why == "Enough T4 (simulated) is free, but kept for those who come before you."


def test_somebody_with_a_higher_priority_comes_first() -> None:
    admitted(asked(priority=1), standing(machine([held("a")]), ticket("t")))


def test_fewer_free_than_asked_for_is_said_with_the_number() -> None:
    assert queued(asked(count=2), standing(machine([held("a")]))).why == (
        "Only 1 of 2 T4 (simulated) is free, you asked for 2."
    )


def test_no_room_on_one_node_is_waited_for() -> None:
    narrow = cluster([], fits_now=(Fit(2, 1000, GIB),))
    answer = queued(asked(cpu_m=4000, memory=2 * GIB), standing(narrow), "kubernetes")
    assert (answer.cause, answer.place) == ("room", 1)
    assert answer.why == "No node has 4 CPU cores and 2 GiB free beside one T4 at the moment."
    assert answer.estimate.text(NOW) == "not known: nobody knows when one node has enough room"


def test_a_limit_of_a_group_is_waited_for_and_named() -> None:
    bounds = {CMS: Bounds(shared=limits("group:cms", accelerators=1))}
    answer = queued(asked(account="group:cms"), standing(machine([held("a", account="group:cms")]), bounds=bounds))
    assert answer.cause == "limit"
    assert answer.why.startswith("Group cms has 1 card")
    assert answer.estimate.text(NOW) == "not known: it depends on the sessions of group cms"


def test_the_place_is_that_among_who_waits_for_the_same() -> None:
    others = [ticket(f"s{number}", "slice", rank=NOW - 9) for number in range(3)]
    known = standing(machine(FULL), *others, ticket("t", rank=NOW - 1), ticket("last", priority=-1))
    assert (queued(asked(), known).place, queued(asked(), known).of) == (2, 3)


def test_a_ticket_of_the_same_server_is_not_in_its_own_way() -> None:
    mine = ticket("mine", user="ann", server="", rank=NOW - 60)
    assert queued(asked(), standing(machine(FULL), mine)).of == 1


# --- stale and missing counts ------------------------------------------------------------------------------------


def test_on_one_machine_nobody_gets_a_device_while_the_counts_are_not_known() -> None:
    for known in (machine([], fresh=False), Availability()):
        assert refused(asked(), standing(known)).code == "capacity-unknown"
    mine = ticket("mine")
    waits = queued(Asked.again(mine, "spawn"), standing(machine([], fresh=False), mine))
    assert waits.cause == "unknown"
    assert waits.estimate.text(NOW) == "not known: what is free cannot be counted at the moment"


def test_on_kubernetes_the_scheduler_has_the_word_while_counts_are_old_unless_somebody_waits() -> None:
    old = cluster(FULL, fresh=False)
    admitted(asked(), standing(old), "kubernetes")
    admitted(asked(), standing(old, ticket("t", "slice")), "kubernetes")
    answer = queued(asked(), standing(old, ticket("t", rank=NOW - 1)), "kubernetes")
    assert (answer.cause, answer.place) == ("unknown", 2)
    assert queued(Asked.again(ticket("t"), "spawn"), standing(old, ticket("t")), "kubernetes").cause == "unknown"


def test_who_is_kept_back_by_a_limit_keeps_nobody_waiting_while_counts_are_old() -> None:
    cms = ticket("t", account="group:cms", rank=NOW - 1)
    bounds = {("t", "group:cms"): Bounds(shared=limits("group:cms", servers=0))}
    admitted(asked(), standing(cluster(fresh=False), cms, bounds=bounds), "kubernetes")


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "held_now", "code"),
    [
        pytest.param({"servers": 1}, 1, "quota-servers", id="servers"),
        pytest.param({"accelerators": 1}, 1, "quota-accelerators", id="cards"),
        pytest.param({"accelerators__t4": 1}, 1, "quota-accelerators", id="cards of one kind"),
        pytest.param({"cpu": 3}, 1, "quota-cpu", id="cpu"),
        pytest.param({"memory": GIB}, 1, "quota-memory", id="memory"),
        pytest.param({"accelerators": 0}, 0, "quota-accelerators", id="never any"),
        pytest.param({"cpu": 1}, 0, "quota-cpu", id="never so much"),
    ],
)
def test_a_persons_own_limit_is_no_queue(own: dict[str, float], held_now: int, code: str) -> None:
    mine = [held("ann", cpu_m=2000, memory=GIB) for _ in range(held_now)]
    known = standing(machine(mine, devices={"t4": 4}), bounds={ANN: Bounds(own=limits("default", **own))})
    refusal = refused(asked(cpu_m=2000, memory=GIB), known)
    assert (refusal.code, refusal.status_code) == (code, 409)


@pytest.mark.parametrize(("mine", "whom"), [(True, "You have used 10"), (False, "Group cms has used 10")])
def test_a_spent_budget_is_no_queue(mine: bool, whom: str) -> None:
    spent = limits("default" if mine else "group:cms", hours__week=10)
    used: Used = {("week", ""): 36_000.0}
    bound = Bounds(own=spent, used_own=used) if mine else Bounds(shared=spent, used_shared=used)
    refusal = refused(asked(account="group:cms"), standing(machine(), bounds={CMS: bound}))
    assert refusal.code == "budget-spent"
    assert refusal.text.startswith(whom)
    nearly: Used = {("week", ""): 35_999.0}
    left = replace(bound, used_own=nearly, used_shared=nearly)
    admitted(asked(account="group:cms"), standing(machine(), bounds={CMS: left}))


def test_what_a_group_may_never_have_is_no_queue() -> None:
    bounds = {CMS: Bounds(shared=limits("group:cms", accelerators=1))}
    assert refused(asked(count=2, account="group:cms"), standing(machine(), bounds=bounds)).code == "quota-accelerators"


def test_who_has_as_many_places_as_may_be_is_refused_another() -> None:
    mine = [ticket(f"m{number}", user="ann") for number in range(2)]
    for most, code in ((2, "queue-full"), (3, "")):
        known = standing(machine(FULL), *mine, bounds={ANN: Bounds(own=limits(queued=most))})
        if code:
            assert refused(asked(), known).code == code
        else:
            assert queued(asked(), known).place == 3
    admitted(asked(), standing(machine([held("x")], devices={"t4": 9}), *mine, bounds={ANN: Bounds(limits(queued=2))}))


@pytest.mark.parametrize(
    ("known", "wanted", "engine", "code"),
    [
        pytest.param(machine(), asked(count=3), "local", "does-not-fit", id="more than the machine has"),
        pytest.param(machine(devices={"t4": 0}), asked(), "local", "none-there", id="none on the machine"),
        pytest.param(cluster(total=0, fits_empty=()), asked(), "kubernetes", "none-there", id="none in the cluster"),
        pytest.param(cluster(FULL), asked(cpu_m=65_000), "kubernetes", "does-not-fit", id="more cpu than a node has"),
    ],
)
def test_what_can_never_start_is_no_queue(known: Availability, wanted: Asked, engine: Any, code: str) -> None:
    assert refused(wanted, standing(known), engine).code == code


def test_who_may_not_wait_is_told_why_instead() -> None:
    now = asked(may_wait=False)
    assert refused(now, standing(machine(FULL))).code == "full"
    behind = refused(now, standing(machine([held("a")]), ticket("t", rank=NOW - 1)))
    assert behind.code == "queue"
    assert "kept for those who come before you" in behind.text
    bounds = {CMS: Bounds(shared=limits("group:cms", servers=1))}
    known = standing(machine([held("a", account="group:cms")]), bounds=bounds)
    assert refused(asked(account="group:cms", may_wait=False), known).code == "quota-servers"


@pytest.mark.parametrize(
    ("known", "bound"),
    [
        pytest.param(machine(), Bounds(own=limits(accelerators=0)), id="own limit"),
        pytest.param(machine(), Bounds(own=limits(hours__day=0)), id="budget"),
        pytest.param(machine(devices={"t4": 0}), Bounds(), id="none there"),
        pytest.param(Availability(), Bounds(), id="not counted"),
    ],
)
def test_who_has_a_ticket_is_never_refused_but_told_why_it_waits(known: Availability, bound: Bounds) -> None:
    mine = ticket("mine", user="ann")
    answer = queued(Asked.again(mine, "spawn"), standing(known, mine, bounds={ANN: bound}))
    assert answer.place == 1
    assert answer.why
    assert answer.estimate.text(NOW).startswith("not known: ")


def test_a_switch_does_not_count_what_it_takes_the_place_of() -> None:
    known = standing(machine([held("ann")]), bounds={ANN: Bounds(own=limits(servers=1, accelerators=1))})
    assert refused(asked(), known).code == "quota-servers"
    admitted(asked(replaces="ann"), known)


# --- one decision, whoever asks ----------------------------------------------------------------------------------


@st.composite
def moments(draw: st.DrawFn) -> Standing:
    """Machines and queues of all kinds, with limits of people and groups."""
    cards = draw(st.integers(0, 4))
    running = [
        held(
            f"h{number}", account=f"group:{draw(st.sampled_from('ab'))}", session_s=draw(st.sampled_from([None, 900.0]))
        )
        for number in range(draw(st.integers(0, cards)))
    ]
    tickets = [
        ticket(
            f"q{number}",
            draw(st.sampled_from(["t4", "slice", None])),
            draw(st.integers(1, 2)),
            user=f"u{draw(st.integers(0, 2))}",
            account=f"group:{draw(st.sampled_from('ab'))}",
            rank=NOW - draw(st.integers(0, 60)) * MINUTE,
            session_s=draw(st.sampled_from([None, 600.0, 1800.0])),
            needs_login=draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    # Ample ones too: where nobody can be in another's way by them, not everybody is looked at.
    most = {account: draw(st.integers(0, 4) | st.just(20)) for account in ("group:a", "group:b")}
    own = limits(servers=draw(st.integers(1, 3) | st.just(20)))
    bounds = {(one.user, one.account): Bounds(own, limits(one.account, servers=most[one.account])) for one in tickets}
    known = machine(running, devices={"t4": cards, "slice": 1}, fresh=draw(st.sampled_from([True, True, False])))
    return standing(known, *tickets, bounds=bounds)


@given(moments())
@settings(max_examples=300, deadline=None)
def test_whose_turn_it_is_is_admitted_and_nobody_else(known: Standing) -> None:
    """The queue's page, the controller's promotion and the decision itself say the same of everybody."""
    turns = {one.id for one in startable(known, CATALOGUE, "local")}
    everybody = queue(known, CATALOGUE, "local")
    assert {name for name, one in everybody.items() if not one.cause} == turns
    for one in known.tickets:
        answer = decided(Asked.again(one, "spawn"), known)
        assert isinstance(answer, Admitted) is (one.id in turns), one
        if isinstance(answer, Queued):
            assert (answer.place, answer.of) == (everybody[one.id].place, everybody[one.id].of)
            assert answer.why


@given(moments(), st.sampled_from(["a", "b"]), st.integers(1, 2))
@settings(max_examples=300, deadline=None)
def test_nobody_is_admitted_beyond_a_limit_or_what_is_there(known: Standing, account: str, number: int) -> None:
    wanted = asked("u0", count=number, account=f"group:{account}")
    bound = next((known.bounds[key] for key in known.bounds if key == ("u0", wanted.account)), Bounds())
    try:
        answer = decided(wanted, known)
    except Refusal:
        return
    if isinstance(answer, Queued):
        assert 1 <= answer.place <= answer.of
        return
    mine = [one for one in known.held if one.user == "u0"]
    shared = [one for one in known.held if one.account == wanted.account]
    for limit, holds in ((bound.own, mine), (bound.shared, shared)):
        most = limit.value("servers")
        assert most is None or len(holds) + 1 <= most
    taken = [uuid for one in known.held for uuid in one.devices]
    assert len(answer.reservation.devices) == number
    assert not set(answer.reservation.devices) & set(taken)


def test_the_time_of_old_counts_is_said() -> None:
    old = replace(cluster(FULL, fresh=False))
    assert old.as_of is not None
    known = standing(replace(old, as_of=old.as_of - timedelta(minutes=5)), ticket("t"))
    assert "(last known at " in queue(known, CATALOGUE, "kubernetes")["t"].why


def test_a_decision_leaves_nothing_that_only_the_garbage_collector_could_take_away() -> None:
    # Of hundreds of sessions it would keep copies of all that is held, and stop everything to look through them.
    known = standing(machine(FULL), ticket("other"))
    gone = weakref.ref(known)
    gc.disable()
    try:
        assert queued(asked(), known).cause == "full"
        with contextlib.suppress(Refusal):
            decided(asked(may_wait=False), known)
        del known
        assert gone() is None
    finally:
        gc.enable()
