"""Who comes before whom: priority, fair share in coarse steps, who asked first; and who keeps the place."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.admission.order import AGE_S, in_order, keeps_place, line, places, step
from hub.admission.tickets import Ticket
from tests.hub.queue_world import NOW, asked, held, machine, standing, ticket

HOUR = 3600.0


def names(ordered: list[Any]) -> list[str]:
    return [one.id for one in ordered]


def of(account: str, name: str, rank: float, **more: Any) -> Ticket:
    return ticket(name, account=f"group:{account}", rank=NOW + rank, **more)


def test_who_asked_first_comes_first_where_nobody_used_anything() -> None:
    assert names(in_order([of("b", "2", 2, share=0.0), of("a", "1", 1, share=0.0)], {}, now=NOW + 9)) == ["1", "2"]


def test_priority_goes_before_everything() -> None:
    tickets = [of("a", "first", 0), of("b", "second", 1, priority=1)]
    assert names(in_order(tickets, {"group:b": 1000 * HOUR}, now=NOW + 9)) == ["second", "first"]


@pytest.mark.parametrize(
    ("used_s", "expected"),
    [(0.0, 0), (HOUR - 1, 0), (HOUR, 1), (3 * HOUR - 1, 1), (3 * HOUR, 2), (7 * HOUR, 3), (15 * HOUR, 4), (-5.0, 0)],
)
def test_each_step_of_fair_share_is_twice_as_much_as_the_one_before(used_s: float, expected: int) -> None:
    assert step(used_s) == expected


def test_an_account_that_used_less_comes_first_although_it_asked_later() -> None:
    tickets = [of("busy", "1", 1), of("idle", "2", 2)]
    assert names(in_order(tickets, {"group:busy": 5 * HOUR, "group:idle": HOUR / 2}, now=NOW + 9)) == ["2", "1"]


def test_a_little_more_use_does_not_move_anybody() -> None:
    tickets = [of("a", "1", 1), of("b", "2", 2)]
    for used in (3.0, 4.0, 6.9):
        assert names(in_order(tickets, {"group:a": used * HOUR, "group:b": 3.1 * HOUR}, now=NOW + 9)) == ["1", "2"]


def test_an_account_that_asks_for_many_gets_the_first_in_its_turn_and_the_others_between_those_of_others() -> None:
    many = [of("many", f"m{number}", number) for number in range(4)]
    assert names(in_order([*many, of("one", "o", 10)], {}, now=NOW + 20)) == ["m0", "o", "m1", "m2", "m3"]


def test_what_is_held_counts_like_an_hour_of_use() -> None:
    tickets = [of("holds", "1", 1), of("none", "2", 2)]
    holding = [held("h", account="group:holds")]
    assert names(in_order(tickets, {}, now=NOW + 9, held=holding)) == ["2", "1"]
    assert names(in_order(tickets, {}, now=NOW + 9, held=holding, weights={"group:holds": 4.0})) == ["1", "2"]


def test_the_start_of_the_first_changes_nothing_for_the_others() -> None:
    tickets = [of(account, f"{account}{number}", number) for number in range(4) for account in "abc"]
    before = in_order(tickets, {"group:b": 2 * HOUR}, now=NOW + 9)
    first = before[0]
    after = in_order(
        [one for one in tickets if one is not first],
        {"group:b": 2 * HOUR},
        now=NOW + 9,
        held=[held("now", account=first.account)],
    )
    assert names(after) == names(before[1:])


def test_waiting_makes_up_for_use() -> None:
    heavy = of("heavy", "heavy", 0)
    used = {"group:heavy": 15.5 * HOUR}  # step 4
    for waited, expected in ((3.9 * AGE_S, ["new", "heavy"]), (4.1 * AGE_S, ["heavy", "new"])):
        new = of("new", "new", waited - 1)
        assert names(in_order([new, heavy], used, now=NOW + waited)) == expected


TICKETS = st.lists(
    st.builds(
        lambda account, rank, priority, kind: (account, rank, priority, kind),
        st.sampled_from("abc"),
        st.floats(0, 2 * 86_400),
        st.integers(0, 2),
        st.sampled_from(["t4", "slice", None]),
    ),
    max_size=25,
)
USED = st.dictionaries(st.sampled_from(["group:a", "group:b", "group:c"]), st.floats(0, 1e7))


def built(drawn: list[tuple[str, float, int, str | None]]) -> list[Ticket]:
    return [
        of(account, f"{number:02}", -rank, priority=priority, accelerator=kind)
        for number, (account, rank, priority, kind) in enumerate(drawn)
    ]


@given(TICKETS, USED, st.randoms(use_true_random=False))
def test_the_order_holds_its_promises_whatever_comes(drawn: Any, used: dict[str, float], shuffle: Any) -> None:
    tickets = built(drawn)
    ordered = in_order(tickets, used, now=NOW)
    assert sorted(names(ordered)) == sorted(names(tickets))
    assert [one.priority for one in ordered] == sorted((one.priority for one in tickets), reverse=True)
    ranks = defaultdict(list)
    for one in ordered:
        ranks[one.account, one.priority].append(one.rank)
    assert all(found == sorted(found) for found in ranks.values()), "FIFO within priority and account"
    shuffle.shuffle(tickets)
    assert names(in_order(tickets, used, now=NOW)) == names(ordered), "the order of reading does not matter"


@given(TICKETS, USED)
def test_places_are_one_to_n_in_each_line(drawn: Any, used: dict[str, float]) -> None:
    ordered = in_order(built(drawn), used, now=NOW)
    found = places(ordered)
    for kind in {one.accelerator for one in ordered}:
        mine = [one for one in ordered if one.accelerator == kind]
        assert [found[one.id] for one in mine] == [(place, len(mine)) for place in range(1, len(mine) + 1)]


@given(st.lists(st.floats(0, 600_000), min_size=2, max_size=2), st.floats(0, 86_400))
def test_who_came_first_in_the_line_is_never_passed_for_ever(uses: list[float], wait: float) -> None:
    """Even behind a stream of accounts that used nothing the heaviest user moves to the front in the end."""
    old = of("old", "old", 0)
    steps = step(max(uses))
    later = NOW + (steps + 1) * AGE_S + wait
    new = ticket("new", account="group:new", rank=later - wait / 2)
    ordered = in_order([new, old], {"group:old": max(uses)}, now=later)
    assert wait / 2 >= AGE_S or names(ordered) == ["old", "new"]


def test_a_request_for_the_same_server_stands_in_the_line_once() -> None:
    mine = ticket("mine", user="ann", server="", accelerator="t4")
    known = standing(machine(), mine, ticket("other"))
    assert len(line(known, asked("ann"))) == 2
    assert len(line(known, asked("ann", server="second"))) == 3


BEFORE = ticket("x", accelerator="t4", count=2, cpu_m=4000, memory=8, session_s=7200.0)


@pytest.mark.parametrize(
    ("change", "keeps"),
    [
        pytest.param({}, True, id="the same"),
        pytest.param({"profile": "chosen", "options": {"image": "x"}, "notify": True}, True, id="another image"),
        pytest.param({"count": 1, "cpu_m": 2000, "memory": 4, "session_s": 60.0}, True, id="less of everything"),
        pytest.param({"count": 3}, False, id="one card more"),
        pytest.param({"cpu_m": 4001}, False, id="more cpu"),
        pytest.param({"memory": 9}, False, id="more memory"),
        pytest.param({"memory": None}, False, id="as much memory as the profile gives"),
        pytest.param({"session_s": 7201.0}, False, id="longer"),
        pytest.param({"session_s": None}, False, id="without an end"),
        pytest.param({"accelerator": "slice", "count": 1}, False, id="another accelerator"),
        pytest.param({"accelerator": None, "count": 0}, False, id="none at all"),
        pytest.param({"account": "group:other"}, False, id="another account"),
    ],
)
def test_a_changed_request_keeps_its_place_if_it_asks_for_no_more(change: dict[str, Any], keeps: bool) -> None:
    assert keeps_place(BEFORE, replace(BEFORE, **change)) is keeps


def test_an_end_where_there_was_none_keeps_the_place() -> None:
    endless = replace(BEFORE, session_s=None, cpu_m=None)
    assert keeps_place(endless, replace(endless, session_s=3600.0))
    assert not keeps_place(endless, replace(endless, cpu_m=1000)), "it may be more than what the profile gives"
