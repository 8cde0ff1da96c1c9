"""The steps on a pod, each by itself; none of them changes what it was given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes_asyncio.client import models
from kubespawner.objects import make_pod

from spawner import pod as steps


def pod(**changes: Any) -> Any:
    settings: dict[str, Any] = {"name": "jupyter-ann", "cmd": None, "port": 8888, "image": "example.org/lab:1"}
    return make_pod(**{**settings, "env": {"A": "1", "TOKEN": "secret"}, "node_selector": {"pool": "users"}, **changes})


STEPS = [
    pytest.param(steps.never_restarted, id="never_restarted"),
    pytest.param(steps.restricted, id="restricted"),
    pytest.param(lambda p: steps.with_scratch(p, "1Gi"), id="with_scratch"),
    pytest.param(lambda p: steps.with_home(p, steps.Home("/home/user", "claim")), id="with_home"),
    pytest.param(lambda p: steps.with_secret_environment(p, "env", {"TOKEN"})[0], id="with_secret_environment"),
    pytest.param(lambda p: steps.with_amounts(p, {"cpu": 2}, {"cpu": 1}), id="with_amounts"),
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


def test_a_copy_is_like_what_it_is_of_and_shares_nothing_with_it_whatever_a_deployer_put_there() -> None:
    given = pod(
        volumes=[{"name": "nfs", "nfs": {"server": "s", "path": "/homes"}}],
        extra_pod_config={"tolerations": [{"key": "a", "tolerationSeconds": 5}]},
    )
    given.metadata.creation_timestamp = datetime(2026, 1, 1, tzinfo=UTC)
    given.spec.hosts = ("a", ["b"])
    made = steps.detached(given)
    assert made == given == copy.deepcopy(given)
    assert {id(one) for one in parts_of(made)}.isdisjoint(id(one) for one in parts_of(given))
    made.spec.hosts[1].append("c")
    assert given.spec.hosts == ("a", ["b"])


def parts_of(value: Any) -> Iterator[Any]:
    """Whatever of it could be changed in its place, but for the client's configuration, which is everybody's."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if hasattr(value, "openapi_types"):
        inner = [one for name, one in vars(value).items() if name != "local_vars_configuration"]
    if inner is not None:
        yield value
        for one in inner:
            yield from parts_of(one)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_done_twice_does_the_same_as_once(step: Callable[[Any], Any]) -> None:
    once = step(pod())
    assert step(once) == once


def test_amounts_that_a_deployers_container_configuration_replaced_come_back() -> None:
    given = pod(cpu_limit=2, mem_limit="4G", extra_container_config={"resources": {"limits": {"cpu": "1", "x": "3"}}})
    container = steps.with_amounts(given, {"cpu": 2, "memory": "4G"}, {"cpu": None, "memory": "4G"}).spec.containers[0]
    assert container.resources.limits == {"cpu": "1", "memory": "4G", "x": "3"}
    assert container.resources.requests == {"memory": "4G"}


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
    assert [steps.name_of(variable) for variable in result.spec.containers[0].env] == ["A", "KEY", "TOKEN", "Z"]
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
        steps.notebook(given)
