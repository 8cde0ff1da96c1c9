"""When a session is stopped, judged pass by pass on a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.idle.activity import Accelerated, Measures, picture, quiet_s
from hub.idle.policy import FRESH_S, Announce, Facts, Leave, Rules, Spent, Stop, Verdict, Withdraw, idle_since, judge
from hub.settings.idle import IdleSettings

HOUR = 3600.0
SETTINGS = IdleSettings()
RULES = Rules(idle_s=2 * HOUR, warn_s=900.0, silent_s=24 * HOUR, grace_s=600.0)
SPENT = (Spent("hours:week", "all used"),)


@dataclass
class Life:
    """One session, looked at every 30 s; what is announced and done to it is in `said`."""

    rules: Rules = RULES
    facts: Facts = field(default_factory=lambda: Facts(now=0.0, ready_at=0.0, measured_at=0.0))
    said: list[tuple[float, Verdict]] = field(default_factory=list)
    measures: bool = True

    def until(self, moment: float, *, works: bool = False, step: float = 30.0) -> Life:
        """Let time pass; the last verdict that was not "leave it" is the end of `said`."""
        while self.facts.now < moment and not self.stopped:
            now = min(self.facts.now + step, moment)
            seen = replace(self.facts, now=now)
            if works:
                seen = replace(seen, active_at=now)
            if self.measures:
                seen = replace(seen, measured_at=now)
            self.facts = seen
            self.look()
        return self

    def look(self) -> Verdict:
        verdict = judge(self.facts, self.rules)
        if isinstance(verdict, Announce):
            self.facts = replace(self.facts, stop_at=verdict.stop_at, stop_because=verdict.because)
        elif isinstance(verdict, Withdraw):
            self.facts = replace(self.facts, stop_at=None, stop_because="")
        if not isinstance(verdict, Leave):
            self.said.append((self.facts.now, verdict))
        return verdict

    @property
    def stopped(self) -> bool:
        return bool(self.said) and isinstance(self.said[-1][1], Stop)


def test_an_idle_session_is_warned_and_then_stopped_at_its_limit() -> None:
    life = Life().until(3 * HOUR)
    assert life.said == [
        (2 * HOUR - 900, Announce(2 * HOUR, "idle")),
        (2 * HOUR, Stop("idle", since=0.0)),
    ]


def test_a_session_that_works_is_never_idle() -> None:
    assert Life().until(50 * HOUR, works=True).said == []


def test_work_after_the_warning_takes_it_back() -> None:
    life = Life().until(2 * HOUR - 600).until(2 * HOUR - 540, works=True).until(3 * HOUR)
    assert [type(verdict) for _, verdict in life.said] == [Announce, Withdraw]
    life.until(5 * HOUR)
    worked = 2 * HOUR - 540
    assert life.said[2:] == [
        (worked + 2 * HOUR - 900, Announce(worked + 2 * HOUR, "idle")),
        (worked + 2 * HOUR, Stop("idle", since=worked)),
    ]


def test_measures_that_wander_by_a_second_put_nothing_off() -> None:
    life = Life()
    while not life.stopped and life.facts.now < 5 * HOUR:
        wander = min(2.0, life.facts.now / HOUR)  # each answer came a little later than the one before
        life.facts = replace(life.facts, active_at=wander)
        life.until(life.facts.now + 30)
    assert [type(verdict) for _, verdict in life.said] == [Announce, Stop]
    assert 2 * HOUR <= life.facts.now <= 2 * HOUR + 60


def test_after_an_outage_of_the_controller_the_warning_comes_first_all_the_same() -> None:
    life = Life()
    life.facts = replace(life.facts, now=9 * HOUR, measured_at=9 * HOUR)
    assert life.look() == Announce(9 * HOUR + 900, "idle")
    life.until(12 * HOUR)
    assert life.said[-1] == (9 * HOUR + 900, Stop("idle", since=0.0))


def test_a_session_without_measures_is_idle_only_if_the_hub_says_so() -> None:
    never = replace(Life().facts, measured_at=None)
    life = Life(facts=never, measures=False)
    assert life.until(100 * HOUR).said == []
    used = replace(never, now=4 * HOUR, hub_active_at=3 * HOUR)
    assert judge(used, RULES) == Leave()
    assert judge(replace(used, now=5 * HOUR), RULES) == Announce(5 * HOUR + 900, "idle")


def test_a_session_that_fell_silent_is_not_idle_because_of_that() -> None:
    life = Life().until(10 * 60.0)
    life.measures = False
    assert life.until(100 * HOUR).said == []
    silent = Facts(now=20 * HOUR, ready_at=0.0, measured_at=600.0, hub_active_at=0.0)
    assert judge(silent, RULES) == Leave()
    later = replace(silent, now=600.0 + 24 * HOUR)
    assert judge(later, RULES) == Announce(later.now + 900, "idle")
    assert judge(replace(later, hub_active_at=later.now - HOUR), RULES) == Leave()


def test_a_session_that_was_not_seen_to_run_is_left_alone() -> None:
    assert judge(Facts(now=1e6), RULES) == Leave()


def test_no_limit_is_no_limit() -> None:
    assert Life(rules=replace(RULES, idle_s=None)).until(100 * HOUR, step=300).said == []


def test_the_length_of_a_session_ends_it_although_it_works() -> None:
    life = Life(facts=replace(Life().facts, ends_at=6 * HOUR)).until(8 * HOUR, works=True)
    assert life.said == [(6 * HOUR - 900, Announce(6 * HOUR, "limit")), (6 * HOUR, Stop("limit"))]


@pytest.mark.parametrize("length", [60.0, 300.0, 600.0, 1700.0])
def test_a_session_that_may_last_less_than_the_warning_is_warned_halfway_and_no_longer(length: float) -> None:
    life = Life(facts=replace(Life().facts, ends_at=length)).until(HOUR, works=True, step=5.0)
    assert life.said == [(length / 2, Announce(length, "limit")), (length, Stop("limit"))]


def test_the_grace_of_a_budget_does_not_begin_anew_by_doing_nothing() -> None:
    rules = replace(RULES, idle_s=360.0)
    life = Life(rules=rules, facts=replace(Life().facts, spent=SPENT))
    for number in range(40):  # three minutes of nothing, then a sign of work
        life.until(180.0 * (number + 1))
        life.facts = replace(life.facts, active_at=life.facts.now)
    assert life.said == [(30.0, Announce(630.0, "budget")), (630.0, Stop("budget"))]


def test_a_spent_budget_ends_a_session_after_its_grace_unless_there_is_more() -> None:
    life = Life().until(HOUR, works=True)
    life.facts = replace(life.facts, spent=SPENT)
    life.until(HOUR + 300, works=True)
    assert life.said == [(HOUR + 30, Announce(HOUR + 630, "budget"))]
    life.facts = replace(life.facts, spent=())
    life.until(HOUR + 400, works=True)
    assert life.said[-1] == (HOUR + 330, Withdraw())
    life.facts = replace(life.facts, spent=SPENT)
    life.until(3 * HOUR, works=True)
    assert life.said[-1][0] == HOUR + 430 + 600
    assert life.said[-1][1] == Stop("budget")


def test_the_earlier_of_two_causes_is_the_one_that_is_announced() -> None:
    life = Life(facts=replace(Life().facts, ends_at=2 * HOUR + 600)).until(2 * HOUR - 890)
    assert life.facts.stop_because == "idle"
    life.facts = replace(life.facts, spent=SPENT)
    life.until(3 * HOUR)
    # the budget's grace is over before the limit of idleness
    assert [verdict for _, verdict in life.said][-2:] == [Announce(2 * HOUR - 260, "budget"), Stop("budget")]


@pytest.mark.parametrize("because", ["switch", "admin"])
def test_stops_that_others_announced_are_theirs(because: str) -> None:
    facts = Facts(now=50 * HOUR, ready_at=0.0, measured_at=50 * HOUR, stop_at=50 * HOUR, stop_because=because)
    assert judge(facts, RULES) == (Stop("admin") if because == "admin" else Leave())
    assert judge(replace(facts, stop_at=60 * HOUR), RULES) == Leave()


@pytest.mark.parametrize(("due", "because"), [({"spent": SPENT}, "budget"), ({"ends_at": 50 * HOUR + 60}, "limit")])
def test_a_switch_that_is_announced_puts_no_other_stop_off(due: dict[str, Any], because: str) -> None:
    facts = Facts(now=50 * HOUR, ready_at=0.0, measured_at=50 * HOUR, stop_at=50 * HOUR + 80, stop_because="switch")
    found = judge(replace(facts, **due), RULES)
    assert isinstance(found, Announce)
    assert found.because == because


# --- whatever happens ------------------------------------------------------------------------------------------------

PASSES = st.lists(
    st.tuples(
        st.floats(1, 3 * HOUR),  # time that passes
        st.booleans(),  # it works at its end
        st.booleans(),  # its measures arrive
        st.sampled_from([None, 0.0, HOUR, 30 * HOUR]),  # age of the hub's last activity
        st.booleans(),  # a budget is spent
        st.booleans(),  # the controller looks
    ),
    max_size=60,
)
SOME_RULES = st.builds(
    Rules,
    idle_s=st.sampled_from([None, 60.0, HOUR, 5 * HOUR]),
    warn_s=st.sampled_from([1.0, 900.0, 2 * HOUR]),
    silent_s=st.just(10 * HOUR),
    grace_s=st.sampled_from([0.0, 600.0]),
)


@given(PASSES, SOME_RULES, st.sampled_from([None, 4 * HOUR]))
def test_nobody_is_stopped_unannounced_or_without_a_cause(
    passes: list[tuple[float, bool, bool, float | None, bool, bool]], rules: Rules, ends_at: float | None
) -> None:
    facts = Facts(now=0.0, ready_at=0.0, ends_at=ends_at)
    announced: tuple[float, Announce] | None = None
    for passed, works, measured, hub_age, spent, looked in passes:
        now = facts.now + passed
        facts = replace(
            facts,
            now=now,
            active_at=now if works and measured else facts.active_at,
            measured_at=now if measured else facts.measured_at,
            hub_active_at=None if hub_age is None else max(0.0, now - hub_age),
            spent=SPENT if spent else (),
        )
        if not looked:
            continue
        verdict = judge(facts, rules)
        match verdict:
            case Announce():
                announced = (now, verdict)
                facts = replace(facts, stop_at=verdict.stop_at, stop_because=verdict.because)
                assert verdict.stop_at >= now
            case Withdraw():
                announced = None
                facts = replace(facts, stop_at=None, stop_because="")
            case Stop():
                assert announced is not None
                since, promise = announced
                assert verdict.because == promise.because
                assert now >= promise.stop_at
                _has_a_cause(verdict, facts, rules, since)
                return
            case Leave():
                assert not facts.stop_because or now < (facts.stop_at or 0.0)


def _has_a_cause(verdict: Stop, facts: Facts, rules: Rules, announced_at: float) -> None:
    match verdict.because:
        case "idle":
            assert rules.idle_s is not None
            slack = min(60.0, rules.idle_s / 4)
            assert facts.now - facts.active_at >= rules.idle_s - slack
            fresh = facts.measured_at is not None and facts.now - facts.measured_at <= FRESH_S
            if not fresh:
                assert facts.hub_active_at is not None
                assert facts.now - facts.hub_active_at >= rules.idle_s - slack
                if facts.measured_at is not None:
                    assert facts.now - facts.measured_at >= rules.silent_s - 60
            assert facts.now - announced_at >= min(rules.warn_s, rules.idle_s / 2) - 1e-6
        case "limit":
            assert facts.ends_at is not None
            assert facts.now >= facts.ends_at
            assert facts.now - announced_at >= rules.warn_s - 1e-6
        case "budget":
            assert facts.spent
            assert facts.now - announced_at >= rules.grace_s


@given(st.floats(0, 100 * HOUR), SOME_RULES)
def test_a_busy_session_is_never_idle_however_long_nobody_looked(passed: float, rules: Rules) -> None:
    facts = Facts(now=passed, ready_at=0.0, active_at=passed, measured_at=passed, hub_active_at=0.0)
    assert judge(facts, rules) == Leave()
    assert idle_since(facts) == passed


# --- what measures mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measures", "quiet"),
    [
        pytest.param(Measures(quiet_s=400), 400, id="nothing"),
        pytest.param(Measures(quiet_s=400, kernels=2, busy_kernels=1), 0, id="busy-kernel"),
        pytest.param(Measures(quiet_s=400, kernels=2), 400, id="kernels-that-wait"),
        pytest.param(Measures(quiet_s=400, terminals=1, busy_terminals=1), 0, id="command-in-a-terminal"),
        pytest.param(Measures(quiet_s=400, connections=1), 0, id="vs-code-is-open"),
        pytest.param(Measures(quiet_s=400, cpu=0.02), 400, id="a-server-that-waits"),
        pytest.param(Measures(quiet_s=400, cpu=0.8), 0, id="processor"),
        pytest.param(Measures(quiet_s=400, devices=[Accelerated(utilisation=0.5)]), 0, id="accelerator"),
        pytest.param(Measures(quiet_s=400, devices=[Accelerated(utilisation=0.01)]), 400, id="accelerator-at-rest"),
        pytest.param(Measures(quiet_s=400, devices=[Accelerated(memory_used=1 << 33)]), 400, id="memory-is-no-work"),
        pytest.param(Measures(), None, id="it-cannot-tell"),
    ],
)
def test_what_a_session_does(measures: Measures, quiet: float | None) -> None:
    assert quiet_s(measures, SETTINGS) == quiet


def test_what_a_shared_card_does_tells_nothing_of_one_of_its_users() -> None:
    at_work = Measures(quiet_s=400, devices=[Accelerated(utilisation=0.9)])
    assert quiet_s(at_work, SETTINGS, shares=True) == 400
    assert quiet_s(at_work.model_copy(update={"busy_kernels": 1}), SETTINGS, shares=True) == 0


def test_the_course_of_half_an_hour_is_kept() -> None:
    kept: dict[str, object] = {}
    for number in range(100):
        kept = picture(kept, Measures(cpu=float(number), memory=5, devices=[Accelerated(utilisation=0.5)]), number)
    past = kept["past"]
    assert isinstance(past, list)
    assert len(past) == 60
    assert past[-1] == [99, 99.0, 5, 0.5]
    assert past[0] == [40, 40.0, 5, 0.5]
