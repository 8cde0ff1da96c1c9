"""From options to the pod that is sent: golden files, security, and no trace in what is shared."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from traitlets import TraitError

from spawner.refusal import Refusal
from tests.spawner.kube_spawners import make, manifest

Golden = Callable[[str, Any], None]


async def test_golden_default(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    golden("pod-default", await manifest(make(monkeypatch), profile="cpu"))


async def test_golden_accelerator(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    pod = await manifest(make(monkeypatch), profile="gpu", accelerator="t4", count="2", dataset="large", cpu="4")
    golden("pod-accelerator", pod)


async def test_golden_named_server_of_a_difficult_name(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    spawner = make(monkeypatch, name="Ann.O'Neil@example.org", server="two", groups=("fpga-users",))
    golden("pod-named", await manifest(spawner, profile="gpu", accelerator="u55c"))


async def test_golden_everything_a_deployer_can_set(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    spawner = make(
        monkeypatch,
        home_path="/home/jovyan",
        scratch_limit="",
        cpu_overcommit=4.0,
        storage_pvc_ensure=False,
        secret_environment=["S3_KEY"],
        environment={"S3_KEY": "very-secret", "PLACE": "home of {username}"},
        node_selector={"pool": "users"},
        node_affinity_required=[
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
        ],
        tolerations=[{"key": "users", "operator": "Exists"}],
        init_containers=[{"name": "fetch", "image": "example.org/fetch:1"}],
        volumes={"data": {"name": "data", "nfs": {"server": "nfs", "path": "/data"}}},
        volume_mounts={"data": {"name": "data", "mountPath": "/data"}},
        extra_labels={"team": "{username}"},
    )
    golden("pod-deployer", await manifest(spawner, profile="gpu", accelerator="t4"))


async def test_the_token_and_secret_variables_are_only_in_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, secret_environment=["S3_KEY"], environment={"S3_KEY": "very-secret"})
    pod = json.dumps(await manifest(spawner, profile="cpu"))
    assert "a-secret-token" not in pod
    assert "very-secret" not in pod
    assert spawner.secret_manifest()["stringData"] == {
        "JUPYTERHUB_API_TOKEN": "a-secret-token",
        "S3_KEY": "very-secret",
    }


async def test_every_container_satisfies_pod_security_restricted(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = [{"name": "side", "image": "example.org/side:1"}]
    spawner = make(monkeypatch, extra_containers=extra, init_containers=[{**extra[0], "name": "before"}])
    spec = (await manifest(spawner, profile="cpu"))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    for container in [*spec["containers"], *spec["initContainers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]


async def test_what_the_deployer_weakens_stays_weakened(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, container_security_context={"readOnlyRootFilesystem": False})
    container = (await manifest(spawner, profile="cpu"))["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def overriding(override: dict[str, Any], **profile: Any) -> dict[str, Any]:
    changed = {"title": "Changed", "options": {"image": "lab"}, "kubespawner_override": override, **profile}
    return {"profiles": {"changed": changed, "plain": {"title": "Plain", "options": {"image": "lab"}}}}


async def test_an_override_merges_into_dictionaries_and_replaces_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    override = {"node_selector": {"pool": "large"}, "extra_labels": {"a": None, "b": "2"}, "mem_limit": "3G"}
    spawner = make(
        monkeypatch, catalogue_changes=overriding(override), node_selector={"zone": "a"}, extra_labels={"a": "1"}
    )
    pod = await manifest(spawner, profile="changed")
    assert pod["spec"]["nodeSelector"] == {"pool": "large", "zone": "a"}
    assert pod["metadata"]["labels"]["b"] == "2"
    assert "a" not in pod["metadata"]["labels"]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == 3 * 1024**3


async def test_a_request_changes_neither_configuration_nor_catalogue_nor_the_next_spawner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override = {"node_selector": {"pool": "large"}, "volumes": {"x": {"name": "x", "emptyDir": {}}}}
    shared = {"zone": {"deep": ["a"]}}
    spawner = make(monkeypatch, catalogue_changes=overriding(override), extra_pod_config={}, environment={"A": "1"})
    config, contents = copy.deepcopy(spawner.config), spawner.catalogue.model_dump()
    first = await manifest(spawner, profile="changed")
    assert first["spec"]["nodeSelector"] == {"pool": "large"}
    assert spawner.config == config
    assert spawner.catalogue.model_dump() == contents
    other = make(monkeypatch, catalogue_changes=overriding(override))
    assert "nodeSelector" not in (await manifest(other, profile="plain"))["spec"]
    assert shared == {"zone": {"deep": ["a"]}}


async def test_changing_the_pod_does_not_change_the_traits(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, node_selector={"zone": "a"}, extra_labels={"x": "y"})
    spawner.user_options = {"profile": "cpu"}
    await spawner.load_user_options()
    pod = await spawner.get_pod_manifest()
    pod.spec.node_selector["zone"] = "changed"
    pod.metadata.labels["x"] = "changed"
    pod.spec.security_context["runAsNonRoot"] = False
    assert spawner.node_selector == {"zone": "a"}
    assert spawner.extra_labels == {"x": "y"}
    assert "runAsNonRoot" not in spawner.pod_security_context


async def test_braces_in_a_typed_text_arrive_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    option = {
        "title": "Text",
        "choices": {"none": {"title": "None"}},
        "unlisted": {
            "title": "Own",
            "pattern": ".{1,50}",
            "environment": {"TYPED": "{value}"},
            "kubespawner_override": {"extra_annotations": {"example.org/typed": "{value}"}},
        },
    }
    changes = overriding({}, options={"image": "lab", "choices": {"text": option}})
    spawner = make(monkeypatch, catalogue_changes=changes)
    typed = "{userid:>2000}{x}{{"
    pod = await manifest(spawner, profile="changed", **{"text--unlisted-choice": typed})
    assert pod["metadata"]["annotations"]["example.org/typed"] == typed
    environment = {variable["name"]: variable.get("value") for variable in pod["spec"]["containers"][0]["env"]}
    assert environment["TYPED"] == typed


def with_accelerator(override: dict[str, Any] | None = None, **accelerator: Any) -> dict[str, Any]:
    card = {"title": "Card", "kubernetes": {"resource": "example.org/card"}, **accelerator}
    other = {"title": "Other", "kubernetes": {"resource": "example.org/other"}}
    options = {"image": "lab", "memory": ["4Gi", "8Gi"], "accelerator": ["card", "other", "none"]}
    changed = {"title": "Changed", "options": options, "kubespawner_override": override or {}}
    return {"accelerators": {"card": card, "other": other}, "profiles": {"changed": changed}}


async def test_the_environment_of_an_accelerator_is_literal_and_no_setting_shows_other_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    override = {"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}}
    changes = with_accelerator(override, environment={"CARD": "{username} $HOME"})
    spec = (await manifest(make(monkeypatch, catalogue_changes=changes), profile="changed", accelerator="card"))["spec"]
    found = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
    assert found["CARD"] == "{username} $HOME"
    assert found["NVIDIA_VISIBLE_DEVICES"] == "void"
    other = await manifest(make(monkeypatch, catalogue_changes=changes), profile="changed", accelerator="other")
    assert "CARD" not in {variable["name"] for variable in other["spec"]["containers"][0]["env"]}


async def test_an_override_that_asks_for_another_accelerator_is_told_as_a_mistake_of_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = with_accelerator({"extra_resource_limits": {"example.org/other": 1}})
    spawner = make(monkeypatch, catalogue_changes=changes)
    with pytest.raises(Refusal) as caught:
        await manifest(spawner, profile="changed", accelerator="card")
    assert caught.value.code == "profile"
    assert "asks for example.org/other by itself" in caught.value.log_message


async def test_an_override_may_ask_for_more_beside_the_accelerator_but_not_for_more_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {"example.org/card": 4, "example.org/network": 1}
    container = {"resources": {"limits": {"ephemeral-storage": "1Gi"}}}
    changes = with_accelerator({"extra_resource_limits": asked, "extra_container_config": container})
    pod = await manifest(make(monkeypatch, catalogue_changes=changes), profile="changed", accelerator="card")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {
        "ephemeral-storage": "1Gi",
        "example.org/card": "1",
        "example.org/network": 1,
        "memory": 4 * 1024**3,
    }


@pytest.mark.parametrize(("share", "size"), [(0.5, str(4 * 1024**3)), (0.25, str(2 * 1024**3)), (0.0, None)])
async def test_shared_memory_follows_the_picked_memory(
    monkeypatch: pytest.MonkeyPatch, share: float, size: str | None
) -> None:
    spawner = make(monkeypatch, catalogue_changes=with_accelerator(), shm_share=share)
    volumes = (await manifest(spawner, profile="changed", memory="8Gi"))["spec"]["volumes"]
    found = [volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == "armillary-shm"]
    assert found == ([size] if size else [])


async def test_a_profile_may_have_a_namespace_of_its_own_and_the_next_start_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawner = make(monkeypatch, catalogue_changes=overriding({"namespace": "remote"}))
    await manifest(spawner, profile="changed")
    assert spawner.namespace == "remote"
    assert spawner.dns_name == "jupyter-ann.remote.svc.cluster.local"
    spawner.clear_state()
    assert spawner.namespace == "hub"


async def test_a_profile_that_is_written_wrongly_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, catalogue_changes=overriding({"cpu_limit": "many"}))
    with pytest.raises(Refusal) as caught:
        await manifest(spawner, profile="changed")
    assert caught.value.text == (
        "The profile 'changed' is written wrongly. Choose another one and tell your administrators."
    )
    assert "cpu_limit" in caught.value.log_message


async def test_a_start_of_a_profile_with_more_time_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, catalogue_changes=overriding({}, start_timeout_s=1800), start_timeout=60)
    future = spawner.start()
    assert spawner.start_timeout == 1830, "JupyterHub reads it now, before the profile is known"
    future.cancel()


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("profile_list", [{"display_name": "x"}], "Write the profiles into the catalogue"),
        ("slow_spawn_message", "hold on", "The form and the progress messages are Armillary's own"),
        ("home_path", "relative", "must be an absolute path"),
        ("home_path", "/tmp", "must be an absolute path"),
        ("cpu_overcommit", 0.5, "cpu_overcommit"),
    ],
)
async def test_settings_without_effect_or_sense_are_refused_when_the_hub_loads_them(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: object, text: str
) -> None:
    with pytest.raises(TraitError, match=text):
        make(monkeypatch, **{setting: value}).trait_values()
