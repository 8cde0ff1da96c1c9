"""Overrides as values: merging, composing, filling in; nothing is ever changed in place."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubespawner.utils import recursive_format, recursive_update

from profiles.overrides import LOCAL_KEYS, apply, compose, fill_in, kubernetes_only, merge, substitute

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]))
KEYS = st.sampled_from(["k", "l", "m"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=3)


def upstream(traits: dict[str, Any], *overrides: dict[str, Any]) -> dict[str, Any]:
    """What KubeSpawner 7.1 makes of its settings: `_apply_overrides` with `setattr` on a dict."""
    traits = copy.deepcopy(traits)
    for override in copy.deepcopy(overrides):
        for key, value in override.items():
            if isinstance(value, dict) and isinstance(traits.get(key), dict):
                recursive_update(traits[key], value)
            else:
                traits[key] = value
    return traits


def ours(traits: dict[str, Any], *overrides: dict[str, Any]) -> dict[str, Any]:
    result = dict(traits)
    for key, value in compose(*overrides).items():
        result[key] = apply(result.get(key), value)
    return result


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}, {"a": {"y": 2}}),
        ({"a": 1}, {"a": None}, {}),
        ({}, {"a": {"x": None, "y": 1}}, {"a": {"y": 1}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": [1]}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": [2]}, {"a": [2]}),
    ],
)
def test_merge(base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, over) == merged


@given(MAPPINGS, MAPPINGS)
def test_merge_changes_and_shares_nothing(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merged = merge(base, over)
    _spoil(merged)
    assert (base, over) == before


@given(st.lists(MAPPINGS, max_size=3))
def test_compose_changes_and_shares_nothing(overrides: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(overrides)
    _spoil(compose(*overrides))
    assert overrides == before


def _spoil(value: Any) -> None:
    inner = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    for item in inner:
        _spoil(item)
    if isinstance(value, dict | list):
        value.clear()


T = {"env": {"A": "1", "B": "2"}, "vols": [{"name": "home"}], "limit": 1}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([{"env": {"A": None}}, {"env": {"C": "3"}}], id="deletes what was configured"),
        pytest.param([{"env": {"A": "x"}}, {"env": {"A": None}}], id="deletes what the first one set"),
        pytest.param([{"limit": None}, {}], id="None for a whole setting is a value"),
        pytest.param([{"limit": 2}, {"limit": None}], id="None after a value"),
        pytest.param(
            [{"vols": {"a": 1}}, {"vols": {"b": 2}}], id="mappings in place of a list are merged with each other"
        ),
        pytest.param([{"env": ["x"]}, {"env": {"b": 2}}], id="a mapping after a list stands alone"),
        pytest.param([{"env": None}, {"env": {"b": 2}}], id="a mapping after None stands alone"),
        pytest.param([{"env": ["x"]}, {"env": {"b": 2}}, {"env": {"c": 3}}], id="and is merged with a later one"),
        pytest.param(
            [{"env": {"A": None}}, {"env": {"A": {"y": 1}}}], id="a mapping for what was deleted stands alone"
        ),
        pytest.param([{"env": {"N": {"x": None}}}, {"env": {"N": {"y": 1}}}], id="deeper"),
        pytest.param([{}, {}], id="nothing"),
        pytest.param([{"limit": {"a": 1}}, {"limit": 3}], id="a number after a mapping"),
    ],
)
def test_composed_overrides_do_what_upstream_does_one_by_one(overrides: list[dict[str, Any]]) -> None:
    traits = {**T, "env": {**T["env"], "N": {"x": 1, "z": 2}}}  # type: ignore[dict-item]
    assert ours(traits, *overrides) == upstream(traits, *overrides)


def test_upstream_itself_applies_a_composed_override_alike() -> None:
    overrides: list[dict[str, Any]] = [{"env": {"A": None, "X": "1"}}, {"env": {"X": "2"}, "limit": 5}]
    assert upstream(T, compose(*overrides)) == upstream(T, *overrides)


@pytest.mark.parametrize(
    "template",
    [
        "{value}",
        "a:{value}",
        "{other}",
        "{username}-{value}",
        "{{x}}",
        "no field",
        ["{value}", 1, None],
        {"{value}": "{value}"},
        {"a": {"b": ["x{value}"]}},
        5,
        True,
        "{value!r}",
        "{value:>5}",
    ],
)
def test_substitute_fills_in_as_upstream(template: Any) -> None:
    assert substitute({"image": template}, "typed")["image"] == recursive_format(template, value="typed")


@given(st.text(max_size=20))
def test_what_is_typed_arrives_as_typed(text: str) -> None:
    filled = substitute(
        {"image": "x:{value}", "extra_labels": {"tag": "{value}"}, "environment": {"A": "{value}!"}}, text
    )
    assert filled["image"] == f"x:{text}"
    # KubeSpawner runs str.format over these two before the pod is made.
    assert filled["extra_labels"]["tag"].format(username="u") == text
    assert filled["environment"]["A"].format(username="u") == f"{text}!"


def test_substitute_changes_no_input() -> None:
    override = {"extra_labels": {"tag": "{value}"}}
    filled = substitute(override, "x")
    filled["extra_labels"]["other"] = "y"
    assert override == {"extra_labels": {"tag": "{value}"}}


@pytest.mark.parametrize(
    "template", ["{", "}", "{value", "{}", "{0}", "{value.x}", "{value[y]}", "{other.x}", "{value:d}"]
)
def test_a_malformed_template_is_one_plain_error(template: str) -> None:
    with pytest.raises(ValueError, match="cannot be filled in"):
        fill_in(template, "x")


@pytest.mark.parametrize(
    ("override", "keys"),
    [
        ({}, ()),
        ({"cpu_limit": 1, "environment": {"A": "b"}}, ()),
        ({"node_selector": {}, "tolerations": []}, ("node_selector", "tolerations")),
        ({"image": "x", "mem_limit": "1G"}, ("image",)),
        ({"environment": {"A": {"valueFrom": {"secretKeyRef": {}}}}}, ("environment",)),
        (dict.fromkeys(LOCAL_KEYS), ()),
    ],
)
def test_kubernetes_only(override: dict[str, Any], keys: tuple[str, ...]) -> None:
    assert kubernetes_only(override) == keys
