"""Which limits hold for whom: the most specific wins, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.quotas.accounts import account_for, accounts_of
from hub.quotas.model import Limit, Quotas
from hub.quotas.resolve import own_limits, shared_limits, subjects_of
from profiles.access import Person
from spawner.refusal import Refusal
from tests.hub.quota_world import FIELDS, quotas, some_quotas

users = st.sampled_from(["ann", "ben", "cid"])
accounts = st.sampled_from(["user:ann", "user:ben", "user:cid", "group:cms", "group:atlas", "group:none"])


def first_that_says(found: Quotas, field: str, *subjects: str) -> Limit | None:
    """The rule, said the other way round: the first subject that has a limit decides."""
    for subject in subjects:
        row = found.row(subject, field)
        if row is not None:
            return Limit(row.value, subject)
    return None


@given(some_quotas(), users, accounts)
def test_the_most_specific_limit_wins_field_by_field(found: Quotas, user: str, account: str) -> None:
    member = [account.replace("group:", "member:")] if account.startswith("group:") else []
    own = own_limits(found, user, account)
    for field in FIELDS:
        assert own.get(field) == first_that_says(found, field, f"user:{user}", *member, "default")


@given(some_quotas(), accounts)
def test_shared_limits_are_those_of_the_charged_group_alone(found: Quotas, account: str) -> None:
    shared = shared_limits(found, account)
    for field in FIELDS:
        expected = first_that_says(found, field, account) if account.startswith("group:") else None
        assert shared.get(field) == expected


@given(some_quotas(), users, accounts, st.sets(st.sampled_from(["cms", "atlas"])))
def test_a_person_is_judged_by_the_subjects_that_are_loaded_for_them(
    found: Quotas, user: str, account: str, groups: set[str]
) -> None:
    loaded = Quotas(row for row in found.rows if row.subject in subjects_of(user, groups))
    person = Person(user, frozenset(groups))
    assert accounts_of(person, loaded) == accounts_of(person, found)
    if account in accounts_of(person, found):
        assert own_limits(loaded, user, account) == own_limits(found, user, account)
        assert shared_limits(loaded, account) == shared_limits(found, account)


def test_an_express_no_limit_lifts_a_wider_one_and_zero_forbids() -> None:
    found = quotas({"default": {"servers": 2, "cpu": 4}, "user:ann": {"servers": "unlimited", "cpu": 0}})
    own = own_limits(found, "ann", "user:ann")
    assert own["servers"] == Limit(None, "user:ann")  # type: ignore[index]
    assert own.value("servers") is None
    assert own.value("cpu") == 0
    assert own_limits(found, "ben", "user:ben").value("servers") == 2


def test_the_limits_of_another_person_or_group_hold_for_nobody_else() -> None:
    found = quotas({"user:ann": {"servers": 1}, "member:cms": {"cpu": 1}, "group:cms": {"hours:day": 1}})
    assert own_limits(found, "ben", "user:ben") == {}
    assert own_limits(found, "ben", "group:atlas") == {}
    assert shared_limits(found, "user:ann") == {}
    assert set(own_limits(found, "ben", "group:cms")) == {"cpu"}


# --- accounts ----------------------------------------------------------------------------------------------------

ANN = Person("ann", frozenset({"cms", "atlas", "lunch"}))
LIMITS = quotas({"group:cms": {"hours:week": 40}, "member:atlas": {"servers": 1}, "group:lhcb": {"servers": 1}})


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((), ("group:atlas", "group:cms", "user:ann")),
        (("group:cms",), ("group:cms", "group:atlas", "user:ann")),
        (("user",), ("user:ann", "group:atlas", "group:cms")),
        (("group:lunch", "user"), ("group:lunch", "user:ann", "group:atlas", "group:cms")),
        (("group:lhcb", "group:theirs"), ("group:atlas", "group:cms", "user:ann")),
    ],
    ids=["by-name", "one-first", "own-first", "one-without-limits", "groups-of-others"],
)
def test_accounts_in_the_order_of_the_settings_the_default_first(
    order: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert accounts_of(ANN, LIMITS, order) == expected
    assert account_for(ANN, LIMITS, order) == account_for(ANN, LIMITS, order, "") == expected[0]
    for account in expected:
        assert account_for(ANN, LIMITS, order, account) == account


def test_without_any_limits_everybody_charges_their_own_account() -> None:
    assert accounts_of(ANN, Quotas()) == ("user:ann",)


@pytest.mark.parametrize("asked", ["group:lhcb", "group:lunch", "user:ben", "cms", "default", "member:cms"])
def test_charging_another_account_is_refused_with_those_that_are_legal(asked: str) -> None:
    with pytest.raises(Refusal) as refused:
        account_for(ANN, LIMITS, (), asked)
    assert refused.value.code == "account"
    assert refused.value.status_code == 403
    assert refused.value.text == (
        f"You cannot charge {asked!r}. You may charge group atlas (group:atlas) or group cms (group:cms) or your own "
        "account (user:ann). Choose one of these, or ask your administrators which groups can be charged."
    )


def test_a_program_without_a_person_has_no_account_of_its_own() -> None:
    assert accounts_of(Person("", frozenset({"cms"})), LIMITS) == ("group:cms",)
    with pytest.raises(Refusal, match="log in as a person"):
        account_for(Person(""), LIMITS)


@given(some_quotas(), users, st.sets(st.sampled_from(["cms", "atlas", "none"])), st.lists(accounts, unique=True))
def test_nobody_may_charge_what_is_not_theirs(found: Quotas, user: str, groups: set[str], order: list[str]) -> None:
    legal = accounts_of(Person(user, frozenset(groups)), found, order)
    assert set(legal) <= {f"user:{user}", *(f"group:{group}" for group in groups)}
    assert f"user:{user}" in legal
    assert len(set(legal)) == len(legal)
