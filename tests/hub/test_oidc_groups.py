"""Claims become groups and user names."""

from __future__ import annotations

from typing import Any

import pytest

from hub.auth.groups import find, groups_from
from hub.auth.identity import mark_of, user_name
from hub.auth.problems import Garbled, NotAllowed

CLAIMS = ("groups", "wlcg.groups", "eduperson_entitlement", "realm_access/roles", "https://example.org/groups")


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        pytest.param({"groups": ["a", "b", "a"]}, {"a", "b"}, id="list"),
        pytest.param({"groups": "a"}, {"a"}, id="one-text"),
        pytest.param({"groups": ["/lab/sub", "lab/sub"]}, {"/lab/sub", "lab/sub"}, id="paths-stay-as-they-are"),
        pytest.param({"groups": ["A", "a"]}, {"A", "a"}, id="case-counts"),
        pytest.param({"wlcg.groups": ["/cms", "/cms/uscms"]}, {"/cms", "/cms/uscms"}, id="wlcg"),
        pytest.param({"realm_access": {"roles": ["x"]}}, {"x"}, id="nested"),
        pytest.param({"https://example.org/groups": ["x"]}, {"x"}, id="name-is-a-url"),
        pytest.param({"groups": ["a"], "wlcg.groups": ["/b"]}, {"a", "/b"}, id="several-claims"),
        pytest.param({"groups": None}, set(), id="null"),
        pytest.param({"groups": {"a": 1}}, set(), id="mapping"),
        pytest.param({"groups": [1, None, ["x"], "", "a\nb", "x" * 256, "ok"]}, {"ok"}, id="what-is-no-name"),
        pytest.param({"eduperson_entitlement": ["admins"]}, set(), id="an-entitlement-that-names-no-group"),
        pytest.param({"eduperson_entitlement": ["urn:mace:dir:entitlement:common-lib-terms"]}, set(), id="library"),
    ],
)
def test_groups_are_read(userinfo: dict[str, Any], expected: set[str]) -> None:
    assert groups_from(userinfo, {}, CLAIMS) == expected


@pytest.mark.parametrize(
    ("value", "short", "whole"),
    [
        # The first three are examples of AARC-G002 and AARC-G069.
        (
            "urn:geant:kit.edu:group:bwGrid#bwidm.scc.kit.edu",
            "bwGrid",
            "urn:geant:kit.edu:group:bwGrid",
        ),
        (
            "urn:mace:egi.eu:group:fedcloud.egi.eu:role=vm_operator#aai.egi.eu",
            "fedcloud.egi.eu:role=vm_operator",
            "urn:mace:egi.eu:group:fedcloud.egi.eu:role=vm_operator",
        ),
        (
            "urn:mace:egi.eu:group:parent:child:role=member#aai.egi.eu",
            "parent:child",
            "urn:mace:egi.eu:group:parent:child",
        ),
        ("urn:mace:egi.eu:group:lab", "lab", "urn:mace:egi.eu:group:lab"),
        ("urn:mace:egi.eu:group:Lab%20one#x", "Lab one", "urn:mace:egi.eu:group:Lab one"),
        ("URN:MACE:EGI.EU:group:lab#x", "lab", "urn:mace:egi.eu:group:lab"),
    ],
)
def test_entitlements_are_short_only_in_trusted_namespaces(value: str, short: str, whole: str) -> None:
    userinfo = {"eduperson_entitlement": [value]}
    assert groups_from(userinfo, {}, CLAIMS, ["urn:mace:egi.eu", "urn:geant:kit.edu"]) == {short}
    assert groups_from(userinfo, {}, CLAIMS, ["urn:mace:egi"]) == {whole}


def test_a_group_of_another_organisation_does_not_become_ours() -> None:
    userinfo = {"eduperson_entitlement": ["urn:mace:evil.example.org:group:admins", "urn:x:y:group:a:group:admins"]}
    found = groups_from(userinfo, {}, CLAIMS, ["urn:mace:egi.eu"])
    assert "admins" not in found
    assert found == {"urn:mace:evil.example.org:group:admins", "urn:x:y:group:a:group:admins"}


def test_the_id_token_counts_only_where_the_user_information_is_silent() -> None:
    assert groups_from({"email": "a@example.org"}, {"groups": ["old"]}, CLAIMS) == {"old"}
    assert groups_from({"groups": []}, {"groups": ["old"]}, CLAIMS) == set()


def test_a_claim_is_found_by_its_name_before_its_way() -> None:
    assert find({"a/b": 1, "a": {"b": 2}}, "a/b") == 1
    assert find({"a": {"b": 2}}, "a/b") == 2
    assert find({"a": 3}, "a/b") is None


@pytest.mark.parametrize(
    "name", ["ann", "Ann", "ann@example.org", "Müller", "аnn", "{a}", "<b>", "o'neil", "a b", "0.5", "名"]
)
def test_user_names_stay_exactly_as_they_are(name: str) -> None:
    assert user_name({"sub": name}, "sub") == name


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "..",
        ".",
        "a\nb",
        " ann",
        "ann ",
        "a\u200bb",
        "a\u202eb",
        "x" * 256,
        "a%2fb",
        "a\\b",
        "Mu\u0308ller",
        "a?b",
    ],
)
def test_names_that_mislead_or_break_paths_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(NotAllowed, match="refused: it "):
        user_name({"sub": name}, "sub")


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": None}, {"sub": ["ann"]}, {"sub": True}], ids=str)
def test_a_missing_user_name_is_the_operators_problem(claims: dict[str, Any]) -> None:
    with pytest.raises(Garbled, match=r"login\.username_claim"):
        user_name(claims, "sub")


def test_numbers_are_names_too() -> None:
    assert user_name({"uid": 1234}, "uid") == "1234"


def test_the_mark_tells_issuers_and_subjects_apart() -> None:
    marks = {mark_of("https://a", "b"), mark_of("https://a", "c"), mark_of("https://b", "b"), mark_of("https://ab", "")}
    assert len(marks) == 4
