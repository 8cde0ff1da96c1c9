"""The steps on a pod, each by itself; none of them changes what it was given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes_asyncio.client import models
from kubespawner.objects import make_pod

from profiles.model import KubernetesDevice
from spawner import pod as steps

_GPU = KubernetesDevice.model_validate(
    {
        "resource": "nvidia.com/mig-1g.5gb",
        "node_labels": {"gpu": ["a100", "h100"], "zone": "x"},
        "tolerations": [{"key": "gpu", "effect": "NoSchedule"}],
        "runtime_class": "nvidia",
    }
)


def pod(**changes: Any) -> Any:
    settings: dict[str, Any] = {"name": "jupyter-ann", "cmd": None, "port": 8888, "image": "example.org/lab:1"}
    return make_pod(**{**settings, "env": {"A": "1", "TOKEN": "secret"}, "node_selector": {"pool": "users"}, **changes})


STEPS = [
    pytest.param(steps.never_restarted, id="never_restarted"),
    pytest.param(steps.restricted, id="restricted"),
    pytest.param(lambda p: steps.with_scratch(p, "1Gi"), id="with_scratch"),
    pytest.param(lambda p: steps.with_home(p, steps.Home("/home/user", "claim")), id="with_home"),
    pytest.param(lambda p: steps.with_secret_environment(p, "env", {"TOKEN"})[0], id="with_secret_environment"),
    pytest.param(lambda p: steps.with_device(p, _GPU, 2), id="with_device"),
    pytest.param(steps.without_devices, id="without_devices"),
    pytest.param(lambda p: steps.annotated(p, {"a": "b"}, {"c": "d"}), id="annotated"),
]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_leaves_its_input_alone_and_shares_nothing_with_it(step: Callable[[Any], Any]) -> None:
    given = pod()
    before = copy.deepcopy(given)
    result = step(given)
    assert given == before
    assert result != before
    result.spec.node_selector["pool"] = "changed"
    result.metadata.labels["x"] = "changed"
    result.spec.containers[0].resources.limits["x"] = "changed"
    assert given == before


@pytest.mark.parametrize("step", [step for step in STEPS if step.id != "with_device"])
def test_a_step_that_is_done_twice_does_the_same_as_once(step: Callable[[Any], Any]) -> None:
    once = step(pod())
    assert step(once) == once


def test_a_device_is_asked_for_exactly_and_only_where_it_is() -> None:
    spec = steps.with_device(pod(), _GPU, 2).spec
    container = spec.containers[0]
    assert container.resources.limits == {"nvidia.com/mig-1g.5gb": "2"}
    assert container.resources.requests == {}
    terms = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    assert [(e.key, e.operator, e.values) for e in terms[0].match_expressions] == [
        ("gpu", "In", ["a100", "h100"]),
        ("zone", "In", ["x"]),
    ]
    assert [(t.key, t.operator, t.effect) for t in spec.tolerations] == [("gpu", "Exists", "NoSchedule")]
    assert spec.runtime_class_name == "nvidia"


def test_labels_join_every_alternative_of_the_deployers_affinity_and_its_preferences_stay() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "p", "operator": "Exists"}]}}]
    required = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]} for n in ("n1", "n2")]
    given = pod(node_affinity_required=required, node_affinity_preferred=preferred)
    affinity = steps.with_device(given, _GPU, 1).spec.affinity.node_affinity
    terms = affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    assert [len(term.match_expressions) for term in terms] == [2, 2]
    assert [term.match_fields[0]["values"] for term in terms] == [["n1"], ["n2"]]
    assert len(affinity.preferred_during_scheduling_ignored_during_execution) == 1


@pytest.mark.parametrize(
    ("resource", "hidden"), [("nvidia.com/gpu", False), ("xilinx.com/fpga-u55c", True), ("amd.com/gpu", True)]
)
def test_cards_that_were_not_asked_for_are_hidden(resource: str, hidden: bool) -> None:
    device = KubernetesDevice.model_validate({"resource": resource})
    names = [steps._name(variable) for variable in steps.with_device(pod(), device, 1).spec.containers[0].env]
    assert ("NVIDIA_VISIBLE_DEVICES" in names) is hidden


def test_a_home_that_the_deployer_mounts_is_not_mounted_twice() -> None:
    given = pod(
        volumes=[{"name": "nfs", "nfs": {"server": "s", "path": "/homes/ann"}}],
        volume_mounts=[{"name": "nfs", "mountPath": "/home/user/"}],
    )
    spec = steps.with_home(given, steps.Home("/home/user", "claim")).spec
    assert [mount.name for mount in spec.containers[0].volume_mounts] == ["nfs"]
    assert [volume.name for volume in spec.volumes] == ["nfs"]


def test_a_home_and_a_folder_that_are_set_already_are_kept() -> None:
    given = pod(working_dir="/srv", env={"HOME": "/elsewhere"})
    container = steps.with_home(given, steps.Home("/home/user", None)).spec.containers[0]
    assert container.working_dir == "/srv"
    assert [(variable.name, variable.value) for variable in container.env] == [("HOME", "/elsewhere")]


def test_secret_variables_keep_their_place_and_references_are_left_alone() -> None:
    reference = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "own", "key": "k"}}}
    given = pod(env={"A": "1", "KEY": reference, "TOKEN": "secret", "Z": "$(TOKEN)"})
    result, values = steps.with_secret_environment(given, "ours", {"TOKEN", "KEY", "ABSENT"})
    assert values == {"TOKEN": "secret"}
    assert [steps._name(variable) for variable in result.spec.containers[0].env] == ["A", "KEY", "TOKEN", "Z"]
    assert result.spec.containers[0].env[1].value_from == {"secretKeyRef": {"name": "own", "key": "k"}}


def test_security_given_as_a_model_is_understood() -> None:
    given = pod()
    given.spec.containers[0].security_context = models.V1SecurityContext(run_as_user=5, read_only_root_filesystem=False)
    context = steps.restricted(given).spec.containers[0].security_context
    assert context["runAsUser"] == 5
    assert context["readOnlyRootFilesystem"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_without_the_sessions_container_is_an_error() -> None:
    given = pod()
    given.spec.containers[0].name = "other"
    with pytest.raises(ValueError, match="no container named 'notebook'"):
        steps.without_devices(given)
