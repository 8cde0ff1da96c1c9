"""Whether a request would break a limit: exact, for every field, with words that help."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.quotas.budgets import budgets, session_length
from hub.quotas.check import breaks, check
from hub.quotas.holdings import Holdings
from hub.quotas.model import WINDOWS, Limits, Quotas, Window, parse_field, parts
from hub.quotas.resolve import own_limits, shared_limits
from hub.settings.quotas import QuotaSettings
from spawner.reservation import Reservation
from tests.hub.quota_world import KINDS, quotas, some_quotas

TITLES = {"t4": "Tesla T4"}
HOUR = 3600.0


def limits(**written: object) -> Limits:
    """Everybody's limits; `hours_week` is `hours:week`."""
    return own_limits(quotas({"default": {key.replace("__", ":"): value for key, value in written.items()}}), "ann", "")


def on(kind: str, count: int = 1, share: str = "1") -> Holdings:
    """One server with so many of an accelerator."""
    return Holdings(servers=1, share=Decimal(share), by_kind={kind: count}, cpu_m=1000, memory=1 << 30)


@st.composite
def holdings(draw: st.DrawFn) -> Holdings:
    small = st.integers(0, 5)
    kinds = {kind: draw(small) for kind in KINDS}
    share = Decimal(draw(st.integers(0, 5_000_000))).scaleb(-6)
    return Holdings(
        draw(small), share, kinds, draw(st.integers(0, 10**7)), draw(st.integers(0, 2**40)), draw(small), draw(small)
    )


used_by_window = st.dictionaries(
    st.tuples(st.sampled_from(WINDOWS), st.sampled_from(("", *KINDS))), st.floats(0, 1e9, allow_nan=False)
)


def would_break(
    field: str, limit: Decimal, held: Holdings, used: dict[tuple[Window, str], float], more: Holdings
) -> bool:
    """The rule in fractions, written apart from the code."""
    what = parts(parse_field(field))
    kind = what.kind or ""
    if what.head == "hours":
        asks = more.by_kind.get(kind, 0) > 0 if kind else more.share > 0
        assert what.window is not None
        return asks and Fraction(used.get((what.window, kind), 0.0)) >= Fraction(limit) * 3600
    if what.head == "session_s":
        return limit == 0 and more.servers > 0
    pairs = {
        "servers": (held.servers, more.servers),
        "cpu": (Fraction(held.cpu_m, 1000), Fraction(more.cpu_m, 1000)),
        "memory": (held.memory, more.memory),
        "queued": (held.queued, more.queued),
        "jobs": (held.jobs, more.jobs),
        "accelerators": (held.by_kind.get(kind, 0), more.by_kind.get(kind, 0))
        if kind
        else (Fraction(held.share), Fraction(more.share)),
    }
    have, want = pairs[what.head]
    return want > 0 and have + want > Fraction(limit)


@given(some_quotas(), holdings(), used_by_window, holdings())
def test_exactly_the_limits_that_would_be_broken_are_told(
    found: Quotas, held: Holdings, used: dict[tuple[Window, str], float], more: Holdings
) -> None:
    own = own_limits(found, "ann", "group:cms")
    told = list(breaks(own, held, used, more))
    expected = [
        field
        for field, limit in own.items()
        if limit.value is not None and would_break(field, limit.value, held, used, more)
    ]
    assert [broken.field for broken in told] == expected
    first = check(own, held, used, more)
    assert (first is None) == (not expected)
    if first is not None:
        assert first in told
        assert first.never or not any(broken.never for broken in told)
    for broken in told:
        assert broken.never == would_break(broken.field, broken.limit.value or Decimal(0), Holdings(), {}, more)
        assert broken.code.startswith(("quota-", "budget-spent", "queue-full"))
        assert broken.text == f"{broken.why} {broken.advice}"
        assert broken.text.endswith(".")


@given(some_quotas(), holdings(), used_by_window)
def test_who_asks_for_nothing_breaks_nothing(
    found: Quotas, held: Holdings, used: dict[tuple[Window, str], float]
) -> None:
    assert check(own_limits(found, "ann", "group:cms"), held, used, Holdings()) is None


def test_seven_sevenths_fit_into_a_limit_of_one_card_and_no_eighth() -> None:
    share = float(Fraction(1, 7))
    held = [Reservation(str(number), "ann", "", "lab", "t4", 1, share=share) for number in range(7)]
    one = Holdings.of(held[:1])
    assert check(limits(accelerators=1), Holdings.of(held[:6]), {}, one) is None
    broken = check(limits(accelerators=1), Holdings.of(held), {}, one)
    assert broken is not None
    assert not broken.never


def test_tenths_are_tenths() -> None:
    held = [Reservation(str(number), "ann", "", "lab", "t4", 1, share=0.1) for number in range(3)]
    assert check(limits(accelerators="0.3"), Holdings.of(held[:2]), {}, Holdings.of(held[:1])) is None
    assert check(limits(accelerators="0.3"), Holdings.of(held), {}, Holdings.of(held[:1])) is not None


def test_a_budget_is_spent_at_its_last_second_and_not_before() -> None:
    budget = limits(hours__week=40)
    assert check(budget, Holdings(), {("week", ""): 40 * HOUR - 0.001}, on("t4")) is None
    assert check(budget, Holdings(), {("week", ""): 40 * HOUR}, on("t4")) is not None
    assert check(budget, Holdings(), {("week", ""): 41 * HOUR}, Holdings(servers=1)) is None
    assert check(budget, Holdings(), {("day", ""): 41 * HOUR}, on("t4")) is None


def test_a_budget_of_one_accelerator_leaves_the_others_alone() -> None:
    budget = limits(hours__week__t4=1)
    used: dict[tuple[Window, str], float] = {("week", "t4"): 2 * HOUR, ("week", ""): 2 * HOUR}
    assert check(budget, Holdings(), used, on("a100-1g.5gb")) is None
    assert check(budget, Holdings(), used, on("t4")) is not None


def test_what_a_server_comes_to() -> None:
    @dataclass(frozen=True)
    class Server:
        accelerator: str | None
        count: int
        cpu_m: int | None
        memory: int | None
        share: float

    found = Holdings.of(
        [Server("t4", 2, 500, 10, 2.0), Server(None, 0, None, None, 0.0), Server("t4", 1, 250, 5, 1.0)],
        queued=2,
        jobs=1,
    )
    assert found == Holdings(3, Decimal(3), {"t4": 3}, 750, 15, 2, 1)
    assert found.amount(parse_field("cpu")) == Decimal("0.75")
    assert found.amount(parse_field("accelerators:t4")) == 3
    assert found.amount(parse_field("hours:day")) == 0


# --- budgets -----------------------------------------------------------------------------------------------------


@given(some_quotas(), used_by_window)
def test_budgets_tell_how_much_of_each_is_left(found: Quotas, used: dict[tuple[Window, str], float]) -> None:
    own = own_limits(found, "ann", "group:cms")
    told = budgets(own, used)
    assert [budget.field for budget in told] == [
        field for field in own if field.startswith("hours") and own.value(field) is not None
    ]
    for budget in told:
        assert budget.spent == (budget.left_s == 0)
        assert budget.limit_hours == own.value(budget.field)
        assert budget.reached(1.0) == budget.spent
        if budget.reached(0.95):
            assert budget.reached(0.8)
        broken = check(own, Holdings(), used, on(budget.kind or "t4"))
        assert not budget.spent or broken is not None


def test_the_fractions_of_warnings_are_exact() -> None:
    [budget] = budgets(limits(hours__week=10), {("week", ""): 8 * HOUR})
    early, late = QuotaSettings().warn_at
    assert budget.reached(early)
    assert not budget.reached(late)
    [almost] = budgets(limits(hours__week=10), {("week", ""): 8 * HOUR - 0.001})
    assert not almost.reached(early)
    assert almost.concerns("t4")
    assert not almost.concerns(None)
    [of_t4] = budgets(limits(hours__week__t4=10), {})
    assert of_t4.concerns("t4")
    assert not of_t4.concerns("a100-1g.5gb")
    assert (of_t4.used_hours, of_t4.left_s) == (0, 36_000)


@pytest.mark.parametrize(
    ("limit", "asked", "expected"),
    [(None, None, None), (None, 60.0, 60.0), ("1h", None, 3600.0), ("1h", 60.0, 60.0), ("1m", 3600.0, 60.0)],
)
def test_a_session_lasts_as_long_as_the_shorter_says(
    limit: object, asked: float | None, expected: float | None
) -> None:
    own = limits() if limit is None else limits(session_s=limit)
    assert session_length(own, asked) == expected


# --- words -------------------------------------------------------------------------------------------------------

TEXTS = [
    pytest.param(
        limits(servers=2), Holdings(servers=2), {}, Holdings(servers=1), "quota-servers", False,
        "You have 2 servers; the limit is 2 at once for each person. Stop a server of yours, then start this one.",
        id="servers",
    ),
    pytest.param(
        limits(accelerators="0.5"), Holdings(share=Decimal("0.43")), {}, on("t4", share="0.14"), "quota-accelerators", False,
        "You have 0.43 of a card and asked for 0.14 of a card more; the limit is 0.5 at once for each person. "
        "Stop a server of yours, or ask for less.",
        id="share",
    ),
    pytest.param(
        limits(accelerators__t4=1), on("t4"), {}, on("t4"), "quota-accelerators", False,
        "You have 1 Tesla T4 and asked for 1 more; the limit is 1 at once for each person. "
        "Stop a server of yours, or ask for less.",
        id="kind",
    ),
    pytest.param(
        limits(accelerators__t4=1), Holdings(), {}, on("t4", 2), "quota-accelerators", True,
        "You asked for 2 Tesla T4; the limit is 1 at once for each person. "
        "Ask for less, or ask your administrators for more.",
        id="never",
    ),
    pytest.param(
        limits(accelerators__t4=0), Holdings(), {}, on("t4"), "quota-accelerators", True,
        "No Tesla T4 may be used: the limit is 0 for each person. "
        "Choose another accelerator than Tesla T4, or ask your administrators for more.",
        id="kind-forbidden",
    ),
    pytest.param(
        limits(cpu=8), Holdings(cpu_m=6000), {}, Holdings(cpu_m=2500), "quota-cpu", False,
        "You have 6 CPU cores and asked for 2.5 CPU cores more; the limit is 8 CPU cores for each person. "
        "Stop a server of yours, or ask for less.",
        id="cpu",
    ),
    pytest.param(
        limits(memory="64Gi"), Holdings(memory=60 << 30), {}, Holdings(memory=8 << 30), "quota-memory", False,
        "You have 60 GiB of memory and asked for 8 GiB of memory more; the limit is 64 GiB of memory for each person. "
        "Stop a server of yours, or ask for less.",
        id="memory",
    ),
    pytest.param(
        limits(hours__7d__t4=1), Holdings(), {("7d", "t4"): 4000.0}, on("t4"), "budget-spent", False,
        "You have used 1.11 Tesla T4-hours; the limit is 1 Tesla T4-hour in any 7 days for each person. "
        "It frees little by little: what was used more than 7 days ago no longer counts. "
        "Until then: choose another accelerator than Tesla T4, or ask your administrators for more.",
        id="budget",
    ),
    pytest.param(
        limits(hours__day=0), Holdings(), {}, on("t4"), "budget-spent", True,
        "No accelerator may be used: the limit is 0 hours for each person. "
        "Start without an accelerator, or ask your administrators for more.",
        id="budget-of-nothing",
    ),
    pytest.param(
        limits(session_s=0), Holdings(), {}, Holdings(servers=1), "quota-session", True,
        "No session may run: the limit is 0 for each person. Ask your administrators for more.",
        id="session",
    ),
    pytest.param(
        limits(queued=1), Holdings(queued=1), {}, Holdings(queued=1), "queue-full", False,
        "You have 1 place in the queue; the limit is 1 at once for each person. "
        "Leave a place in the queue, or wait until one of your servers has started.",
        id="queued",
    ),
    pytest.param(
        limits(queued=0), Holdings(), {}, Holdings(queued=1), "queue-full", True,
        "No place in the queue may be taken: the limit is 0 for each person. "
        "Try again when there is room, or ask your administrators for more.",
        id="no-queue",
    ),
    pytest.param(
        limits(jobs=1), Holdings(jobs=1), {}, Holdings(jobs=1), "quota-jobs", False,
        "You have 1 remote job; the limit is 1 at once for each person. Cancel a job, or wait until one has ended.",
        id="jobs",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("own", "held", "used", "wanted", "code", "never", "text"), TEXTS)
def test_the_person_is_told_which_limit_how_much_and_what_to_do(
    own: Limits,
    held: Holdings,
    used: dict[tuple[Window, str], float],
    wanted: Holdings,
    code: str,
    never: bool,
    text: str,
) -> None:
    broken = check(own, held, used, wanted, user="ann", titles=TITLES)
    assert broken is not None
    assert (broken.code, broken.never, broken.text) == (code, never, text)


def test_a_group_is_told_as_a_group_and_when_its_budget_renews() -> None:
    found = quotas({"group:cms": {"hours:week": 40, "accelerators:t4": 4, "servers": 9}})
    shared = shared_limits(found, "group:cms")
    renews = {"week": "It renews on Monday 23 November at 00:00 (CET), in 1 day 6 h."}
    spent = check(
        shared, Holdings(), {("week", ""): 41.2 * HOUR}, on("t4"), "group cms", user="ann", renews=renews, titles=TITLES
    )
    assert spent is not None
    assert spent.text == (
        "Group cms has used 41.2 card-hours; the limit is 40 card-hours a week for all together who charge group cms. "
        "It renews on Monday 23 November at 00:00 (CET), in 1 day 6 h. "
        "Until then: start without an accelerator, or charge another account."
    )
    full = check(shared, on("t4", 4), {}, on("t4"), "group cms", user="ann", titles=TITLES)
    assert full is not None
    assert full.text == (
        "Group cms has 4 Tesla T4 and you asked for 1 more; the limit is 4 at once for all together who charge group cms. "
        "Wait until others stop, ask for less, or charge another account."
    )
    crowd = check(shared, Holdings(servers=9), {}, Holdings(servers=1), "group cms")
    assert crowd is not None
    assert crowd.advice == "Wait until a server of the group stops, or charge another account."


@pytest.mark.parametrize(
    ("subject", "whom", "elsewhere"),
    [
        ("default", "for each person", False),
        ("user:ann", "for you", False),
        ("member:cms", "for each person who charges group cms", True),
    ],
)
def test_another_account_is_only_advised_where_that_helps(subject: str, whom: str, elsewhere: bool) -> None:
    own = own_limits(quotas({subject: {"hours:day": 1, "cpu": 1, "memory": 0}}), "ann", "group:cms")
    for used, wanted in (({("day", ""): HOUR}, on("t4")), ({}, Holdings(cpu_m=500)), ({}, Holdings(memory=1))):
        broken = check(own, Holdings(cpu_m=1000), used, wanted, user="ann")  # type: ignore[arg-type]
        assert broken is not None
        assert whom in broken.why
        assert ("charge another account" in broken.advice.lower()) == elsewhere


def test_what_waiting_cannot_mend_is_said_first() -> None:
    own = limits(servers=1, cpu=2)
    broken = check(own, Holdings(servers=1), {}, Holdings(servers=1, cpu_m=3000))
    assert broken is not None
    assert (broken.field, broken.never) == ("cpu", True)
