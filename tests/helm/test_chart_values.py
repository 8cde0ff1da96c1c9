"""No value of the chart is there for nothing: each changes something of what helm renders."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, MINIMAL, Refused, render
from tests.helm.test_chart import FULL

# helm is built with the lab's Go.
pytestmark = pytest.mark.cluster


def everything() -> dict[str, Any]:
    """With all that is optional, so that each value has something to change."""
    values = deepcopy(FULL)
    values["database"] = {"bundled": {"enabled": True}}
    values["secrets"] = {}
    values["proxy"]["service"] = {"type": "NodePort", "nodePort": 30080}
    values["ingress"]["className"] = "nginx"
    values["users"]["placeholders"] = {"replicas": 1}
    for part in ("hub", "proxy", "service", "controller"):
        values.setdefault(part, {})["disruption"] = {"enabled": True}
    return values


_OTHER: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (7, 31000),
    str: (*("other", "https://other.example.org/x/", "7Gi", "7m", "Always", "LoadBalancer"), f"sha256:{'0' * 64}"),
    list: (["other"], [{"name": "other", "value": "x"}], [5300], ["10.1.0.0/16"]),
    dict: ({"other": "x"}, {"cpu": "7"}, {"default": {"servers": 7}}, {"nodeAffinity": {}}, {"ArmillaryHubDown": "7m"}),
    type(None): (31000, "7Gi"),
}
"""What might be another legal value, by the kind of the default."""

_ELSEWHERE = {("settings",), ("catalogue",), ("login", "clientSecret"), ("database", "bundled", "enabled")}
"""What other tests look at: each of these goes together with another value."""


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict) and value and above[-1:] != ("requests",) and above[-1:] != ("limits",):
            found += _leaves(value, (*above, key))
        else:
            found.append((*above, key))
    return found


def _with(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = deepcopy(values)
    into = changed
    for part in path[:-1]:
        into = into.setdefault(part, {})
    into[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def bases() -> list[tuple[dict[str, Any], str]]:
    without = {**deepcopy(MINIMAL), "database": {"existingSecret": "x", "bundled": {"enabled": False}}}
    return [(values, _stable(values)) for values in (everything(), MINIMAL, without)]


def _stable(values: dict[str, Any]) -> str:
    """What is rendered, without what is made anew each time."""
    values = {**values, "secrets": values.get("secrets") or {"existingSecret": "keys"}}
    values["monitoring"] = {"existingSecret": "metrics", **values.get("monitoring", {})}
    objects = render(values, upgrade=True)
    return json.dumps(objects, sort_keys=True)


_DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("path", [path for path in _leaves(_DEFAULTS) if path not in _ELSEWHERE], ids=".".join)
def test_every_value_changes_something(path: tuple[str, ...], bases: list[tuple[dict[str, Any], str]]) -> None:
    default = _DEFAULTS
    for part in path:
        default = default[part]
    for values, before in bases:
        for other in _OTHER[type(default)]:
            with suppress(Refused):
                if _stable(_with(values, path, other)) != before:
                    return
    raise AssertionError(f"{'.'.join(path)} does nothing")
