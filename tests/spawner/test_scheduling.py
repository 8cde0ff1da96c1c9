"""The scheduler's messages, read by rule and not by luck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.scheduling import verdict

_NO_HELP = "preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("message", "hopeless"),
    [
        ("0/2 nodes are available: 2 node(s) had untolerated taint {dedicated: gpu}. " + _NO_HELP.format(2), True),
        ("0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }, "
         "1 node(s) didn't match Pod's node affinity/selector. " + _NO_HELP.format(2), False),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. "
         + _NO_HELP.format(2), True),
        ("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
         "2 No preemption victims found for incoming pod.", False),
        ("0/2 nodes are available: 2 Insufficient cpu.", False),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict. " + _NO_HELP.format(1), True),
        ("0/0 nodes are available: ", False),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", False),
        ("running PreBind plugin VolumeBinding: binding volumes: context deadline exceeded", False),
        ("", False),
    ],
)  # fmt: skip
def test_hopeless_is_only_what_stays_true_when_all_others_have_left(message: str, hopeless: bool) -> None:
    assert verdict(message).hopeless is hopeless


@given(st.text(max_size=300))
def test_any_text_gives_a_verdict_and_what_is_not_understood_is_not_hopeless(text: str) -> None:
    found = verdict(text)
    assert found.text
    assert not found.hopeless or "nodes are available" in text
