"""Fields, subjects and amounts: what is legal, what is refused with which words, and that nothing is lost on the way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.quotas.amounts import UNIT, exact_share, from_store, parse_amount, say_amount, say_hours, written
from hub.quotas.model import (
    HEADS,
    WINDOWS,
    Limit,
    Limits,
    Parts,
    QuotaProblem,
    QuotaRow,
    Quotas,
    in_order,
    parse_field,
    parts,
)
from hub.quotas.subjects import check_account, check_subject, group_of, holds_for, say_account
from hub.usage.windows import WINDOWS as LEDGER_WINDOWS
from tests.hub.quota_world import FIELDS, amounts, quotas


def test_windows_are_those_that_the_ledger_counts() -> None:
    assert WINDOWS == LEDGER_WINDOWS
    assert set(UNIT) == set(HEADS)


# --- fields ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("servers", Parts("servers")),
        ("accelerators", Parts("accelerators")),
        ("accelerators:a100-1g.5gb", Parts("accelerators", kind="a100-1g.5gb")),
        ("hours:24h", Parts("hours", "24h")),
        ("hours:week:t4", Parts("hours", "week", "t4")),
        ("session_s", Parts("session_s")),
    ],
)
def test_a_field_is_taken_apart(text: str, expected: Parts) -> None:
    assert parts(parse_field(text)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "server",
            "'server' is no limit (did you mean servers?); legal: servers, accelerators, accelerators:KIND, cpu",
        ),
        ("", "'' is no limit; legal: servers"),
        ("cpu:t4", "cpu stands alone"),
        ("servers:", "servers stands alone"),
        ("hours", "hours need a window; legal: hours:day, hours:week, hours:month, hours:24h, hours:7d, hours:30d"),
        ("hours:weak", "hours need a window (did you mean week?)"),
        ("hours:week:", "'' is no key of an accelerator"),
        ("hours:week:T4", "'T4' is no key of an accelerator"),
        ("accelerators:a:b", "'a:b' is no key of an accelerator"),
        ("accelerators:", "'' is no key of an accelerator"),
        ("Servers", "is no limit (did you mean servers?)"),
        ("servers\n", "is no limit"),
    ],
)
def test_what_is_no_field_is_refused_with_what_is(text: str, said: str) -> None:
    with pytest.raises(QuotaProblem) as refused:
        parse_field(text)
    assert said in str(refused.value)


def test_a_kind_must_be_one_of_the_catalogue_where_that_is_known() -> None:
    assert parse_field("accelerators:t4", ["t4"]) == "accelerators:t4"
    with pytest.raises(QuotaProblem, match=r"there is no accelerator 't44' \(did you mean t4\?\); legal here: rtx, t4"):
        parse_field("hours:week:t44", ["t4", "rtx"])
    with pytest.raises(QuotaProblem, match="legal here: none"):
        parse_field("accelerators:t5", [])


def test_fields_are_told_in_one_order_whatever_the_order_they_are_given_in() -> None:
    assert in_order(reversed(in_order(FIELDS))) == in_order(FIELDS)
    assert in_order(FIELDS)[:3] == ["servers", "accelerators", "accelerators:a100-1g.5gb"]
    limits = Limits({field: Limit(Decimal(1), "default") for field in reversed(in_order(FIELDS))})
    assert list(limits) == in_order(FIELDS)
    assert limits.windows == WINDOWS


def test_limits_tell_no_limit_in_two_ways() -> None:
    limits = Limits({parse_field("servers"): Limit(None, "user:ann"), parse_field("hours:day"): Limit(None, "default")})
    assert limits.value("servers") is None
    assert limits.value("cpu") is None
    assert limits.windows == ()
    assert "cpu" not in limits


def test_two_limits_about_the_same_are_a_mistake() -> None:
    row = QuotaRow("default", parse_field("servers"), Decimal(1))
    with pytest.raises(ValueError, match="default servers is there twice"):
        Quotas([row, QuotaRow("default", parse_field("servers"), Decimal(2))])
    found = quotas({"group:b": {"servers": 1}, "default": {"cpu": 1}})
    assert found.subjects == ("default", "group:b")
    assert found.row("default", "servers") is None
    assert found.of("user:nobody") == {}


# --- subjects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["default", "user:ann", "group:urn:mace:egi.eu:group:lab", "member:/wlcg/cms", "user:Jörg O'Neill"]
)
def test_subjects_are_taken_as_they_are(text: str) -> None:
    assert check_subject(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "defaults",
            r"is no subject of limits (did you mean default?); legal: default, user:NAME, member:GROUP, group:GROUP",
        ),
        ("users:ann", "(did you mean user?)"),
        ("user:", "names nobody"),
        ("user", "names nobody"),
        ("group: cms", "no space at its ends"),
        ("group:" + "x" * 256, "1 to 255 characters"),
        ("user:a\nb", "line break"),
        ("", "is no subject"),
    ],
)
def test_what_is_no_subject_is_refused_with_what_is(text: str, said: str) -> None:
    with pytest.raises(QuotaProblem) as refused:
        check_subject(text)
    assert said in str(refused.value)


def test_only_people_and_groups_can_be_charged() -> None:
    assert check_account("group:cms") == "group:cms"
    for text in ("default", "member:cms", "cms"):
        with pytest.raises(QuotaProblem, match="is no account; legal: user:NAME, group:GROUP"):
            check_account(text)


@pytest.mark.parametrize(
    ("subject", "reader", "said"),
    [
        ("default", "ann", "for each person"),
        ("user:ann", "ann", "for you"),
        ("user:ann", "ben", "for ann"),
        ("member:cms", "ann", "for each person who charges group cms"),
        ("group:cms", "ann", "for all together who charge group cms"),
    ],
)
def test_whose_limit_it_is_in_words(subject: str, reader: str, said: str) -> None:
    assert holds_for(subject, reader) == said


def test_accounts_in_words() -> None:
    assert say_account("group:a:b", "ann") == "group a:b"
    assert say_account("user:ann", "ann") == "your own account"
    assert say_account("user:ann") == "ann's own account"
    assert (group_of("group:a:b"), group_of("member:cms"), group_of("user:ann"), group_of("default")) == (
        "a:b",
        "cms",
        None,
        None,
    )


# --- amounts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("servers", 3, "3"),
        ("servers", "0", "0"),
        ("accelerators", 0.1, "0.1"),
        ("accelerators", "0.142857", "0.142857"),
        ("accelerators:t4", 2.0, "2"),
        ("cpu", "500m", "0.5"),
        ("cpu", 1.5, "1.5"),
        ("memory", "64Gi", str(64 << 30)),
        ("memory", 1024, "1024"),
        ("memory", "8Pi", str(2**53)),
        ("hours:week", "40", "40"),
        ("hours:week", 1e9, "1000000000"),
        ("hours:7d:t4", 0.000001, "0.000001"),
        ("session_s", "12h", "43200"),
        ("session_s", "1.5 h", "5400"),
        ("session_s", 60, "60"),
        ("queued", 5, "5"),
        ("jobs", "unlimited", None),
    ],
)
def test_values_are_exact(field: str, value: object, expected: str | None) -> None:
    found = parse_amount(parse_field(field), value)
    assert (None if found is None else f"{found:f}") == expected


@pytest.mark.parametrize(
    ("field", "value", "legal"),
    [
        ("servers", -1, "write a whole number; 0: nothing is allowed; unlimited: no limit"),
        ("servers", 1.5, "a whole number"),
        ("servers", True, "a whole number"),
        ("servers", None, "a whole number"),
        ("servers", "many", "a whole number"),
        ("servers", "1_000", "a whole number"),
        ("servers", [1], "a whole number"),
        ("servers", 10**40, "a whole number"),
        ("servers", "٣", "a whole number"),
        ("accelerators:t4", 0.5, "a whole number"),
        ("accelerators", "0.1428571", "whole cards"),
        ("hours:week", float("nan"), "hours of whole cards"),
        ("hours:week", float("inf"), "hours of whole cards"),
        ("hours:week", "1e3", "hours of whole cards"),
        ("cpu", "0.0001", "cores, such as 8, 1.5 or 500m"),
        ("cpu", "-1", "cores"),
        ("memory", "64 GB", "bytes, a number or a quantity such as 64Gi"),
        ("memory", "500m", "bytes"),
        ("memory", "9Pi", "at most 8Pi"),
        ("session_s", "soon", "a time, in seconds or such as 90m, 12h or 2d"),
        ("session_s", "0.0001h", "a time"),
        ("session_s", "12 hours", "a time"),
        ("queued", "none", "a whole number"),
    ],
)
def test_what_is_no_value_is_refused_with_what_is(field: str, value: object, legal: str) -> None:
    with pytest.raises(QuotaProblem) as refused:
        parse_amount(parse_field(field), value)
    assert f"is no value of {field}: write " in str(refused.value)
    assert legal in str(refused.value)


@given(st.sampled_from(FIELDS).flatmap(lambda field: st.tuples(st.just(field), amounts(field))))
def test_an_amount_survives_the_database_and_the_file(pair: tuple[str, object]) -> None:
    field = parse_field(pair[0])
    value = parse_amount(field, pair[1])
    assert from_store(float("inf") if value is None else float(value)) == value
    assert parse_amount(field, written(field, value)) == value


@given(st.integers(0, 2**53))
def test_bytes_survive_to_the_last_one(size: int) -> None:
    field = parse_field("memory")
    assert from_store(float(parse_amount(field, size) or 0)) == size


@given(st.integers(1, 1000))
def test_equal_parts_of_a_card_are_never_more_than_the_card(number: int) -> None:
    assert number * exact_share(Decimal(1) / number) <= 1
    assert number * exact_share(1 / number) <= 1


def test_shares_are_counted_in_millionths_as_they_are_written() -> None:
    assert exact_share(0.3) == Decimal("0.3")
    assert exact_share(0.1) * 3 == Decimal("0.3")
    assert exact_share(Decimal(3) / 7) == Decimal("0.428571")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("servers", "1", "1 server"),
        ("servers", "1200", "1,200 servers"),
        ("accelerators", "0.142857", "0.14 of a card"),
        ("accelerators", "1", "1 card"),
        ("accelerators", "2.5", "2.5 cards"),
        ("accelerators:t4", "2", "2 Tesla T4"),
        ("cpu", "0.5", "0.5 CPU cores"),
        ("memory", str(3 << 29), "1.5 GiB of memory"),
        ("hours:week", "40", "40 card-hours a week"),
        ("hours:7d:t4", "1", "1 Tesla T4-hour in any 7 days"),
        ("hours:month:t4", "0.001", "0.01 Tesla T4-hours a month"),
        ("session_s", "43200", "12 hours"),
        ("session_s", "5400", "90 minutes"),
        ("session_s", "61", "61 seconds"),
        ("queued", "1", "1 place in the queue"),
        ("jobs", "3", "3 remote jobs"),
    ],
)
def test_amounts_in_words(field: str, value: str, said: str) -> None:
    parsed = parse_field(field)
    assert say_amount(parsed, Decimal(value), "Tesla T4" if parts(parsed).kind else "") == said


def test_hours_in_words() -> None:
    assert say_hours(Decimal("12.345")) == "12.34 card-hours"
    assert say_hours(Decimal(0), "T4") == "0 T4-hours"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("memory", "64Gi", "64Gi"),
        ("cpu", 0.5, "500m"),
        ("session_s", 172_800, "2d"),
        ("session_s", 0, "0"),
        ("hours:day", 0.5, "0.5"),
    ],
)
def test_amounts_are_written_as_they_are_read(field: str, value: object, text: str) -> None:
    parsed = parse_field(field)
    assert written(parsed, parse_amount(parsed, value)) == text


def limit_of(field: str, value: Decimal | None) -> Limits:
    return Limits({parse_field(field): Limit(value, "default")})


def test_limits_of_places_and_of_jobs_keep_no_server_from_starting() -> None:
    assert not Limits().bind_starts
    assert not limit_of("queued", Decimal(0)).bind_starts
    assert not limit_of("jobs", Decimal(0)).bind_starts
    assert not limit_of("servers", None).bind_starts
    for field in FIELDS:
        if parts(field).head not in ("queued", "jobs"):
            assert limit_of(field, Decimal(1)).bind_starts
