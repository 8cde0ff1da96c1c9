"""The scheduler's messages, read by rule and not by luck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.scheduling import verdict

_NO_HELP = "preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("message", "why", "hopeless"),
    [
        # Kubernetes up to 1.33 named the taint.
        ("0/2 nodes are available: 2 node(s) had untolerated taint {dedicated: gpu}. " + _NO_HELP.format(2),
         "taint", True),
        ("0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }, "
         "1 node(s) didn't match Pod's node affinity/selector. " + _NO_HELP.format(2), "nodes-away", False),
        ("0/2 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
         "1 node(s) didn't match Pod's node affinity/selector. " + _NO_HELP.format(2), "taint", True),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. "
         + _NO_HELP.format(2), "lacking", True),
        ("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
         "2 No preemption victims found for incoming pod.", "lacking", False),
        ("0/2 nodes are available: 2 Insufficient cpu.", "lacking", False),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict. " + _NO_HELP.format(1),
         "volume-elsewhere", True),
        ("0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity. " + _NO_HELP.format(1),
         "volume-elsewhere", True),
        ("0/0 nodes are available: ", "nodes-away", False),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "volume", False),
        ('0/1 nodes are available: persistentvolumeclaim "home" is being deleted.', "volume-going", True),
        ("running PreBind plugin VolumeBinding: binding volumes: context deadline exceeded", "other", False),
        ('pod "x": pod status got updated, waiting for resource claim to be created', "claim-not-made", False),
        ("", "other", False),
    ],
)  # fmt: skip
def test_hopeless_is_only_what_stays_true_when_all_others_have_left(message: str, why: str, hopeless: bool) -> None:
    found = verdict(message)
    assert (found.why, found.hopeless) == (why, hopeless)


@pytest.mark.parametrize(
    "end", ["", ".", ". ", ". no new claims to deallocate, preemption: 0/1 nodes are available: 1 x."]
)
@pytest.mark.parametrize("resource", ["cpu", "memory", "nvidia.com/gpu", "nvidia.com/mig-1g.5gb"])
def test_what_is_lacking_is_named_whatever_follows(resource: str, end: str) -> None:
    assert verdict(f"0/1 nodes are available: 1 Insufficient {resource}{end}").lacking == (resource,)
    both = verdict(f"0/2 nodes are available: 1 Insufficient {resource}, 2 Insufficient pods{end}")
    assert both.lacking == (resource, "pods")


@given(st.text(max_size=300))
def test_any_text_gives_a_verdict_and_what_is_not_understood_is_not_hopeless(text: str) -> None:
    found = verdict(text)
    assert not found.hopeless or found.why != "other"
