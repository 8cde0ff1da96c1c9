"""Where sessions run and with what: exact, required, and nothing that was not picked."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient, models

import profiles
from profiles.loader import load
from profiles.model import Catalogue
from spawner.placement import Contradiction, Placement, place, placed
from spawner.processes.spec import Defaults, Place, process_spec
from spawner.request import Request
from tests.spawner.catalogues import catalogue, contents
from tests.spawner.test_pod import pod

Golden = Callable[[str, Any], None]

_FOLDER = Path(profiles.__file__).parent
_SHIPPED = sorted([_FOLDER / "catalogue.yaml", *(_FOLDER / "examples").glob("*.yaml")])


def _device(**changes: Any) -> dict[str, Any]:
    return {"title": "Device", "kubernetes": {"resource": "nvidia.com/mig-1g.5gb", **changes}}


_SELECTOR = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA L40S'"
_DRA = {"title": "Dra", "kubernetes": {"dra": {"device_class": "gpu.nvidia.com", "selectors": [_SELECTOR]}}}
_MIG = _device(
    node_labels={"gpu": ["a100", "h100"], "zone": "x"},
    tolerations=[{"key": "gpu", "effect": "NoSchedule"}],
    runtime_class="nvidia",
)


def known(**accelerators: dict[str, Any]) -> Catalogue:
    """A catalogue with these accelerators, all of them offered by the profile "all", none by "plain"."""
    some = {"mig": _MIG, "dra": _DRA, **accelerators}
    offered = {
        "title": "All",
        "options": {"image": "lab", "accelerator": ["none", *some], "count": {"min": 1, "max": 4, "default": 1}},
    }
    plain = {"title": "Plain", "options": {"image": "lab"}}
    return catalogue(accelerators=some, profiles={"all": offered, "plain": plain})


def of(key: str | None, more: dict[str, Any] | None = None, *, count: int = 1) -> Placement:
    request = Request("all", accelerator=key, count=count if key else 0)
    return place(request, known(**(more or {})), memory=4 * 1024**3, shm_share=0.5)


async def sent(value: Any) -> Any:
    """Return an object of the pod as it is sent."""
    async with ApiClient() as client:
        return client.sanitize_for_serialization(value)


def variables(container: Any) -> dict[str, Any]:
    found = (one if isinstance(one, dict) else one.to_dict() for one in container.env or [])
    return {one["name"]: one.get("value") for one in found}


def terms(given: Any) -> list[Any]:
    found: list[Any] = (
        given.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    )
    return found


# --- nothing is changed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "mig", "dra"])
@pytest.mark.parametrize("in_kubernetes_spelling", [False, True])
def test_placing_changes_none_of_its_inputs_and_twice_is_as_once(key: str | None, in_kubernetes_spelling: bool) -> None:
    required = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
    spelled = {"extra_pod_config": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": required}}}}}  # fmt: skip
    given = pod(
        extra_containers=[{"name": "side", "image": "x", "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}],
        tolerations=[{"key": "other", "operator": "Exists"}],
        **(spelled if in_kubernetes_spelling else {"node_affinity_required": required}),
    )
    request, contents = Request("all", accelerator=key, count=2 if key else 0), known()
    dumped, before = contents.model_dump(), copy.deepcopy(given)
    placement = place(request, contents, memory=1024, shm_share=0.5)
    shown = copy.deepcopy(placement)
    once = placed(given, placement)
    assert (given, contents.model_dump(), placement) == (before, dumped, shown)
    assert request == Request("all", accelerator=key, count=2 if key else 0)
    assert placed(once, placement) == once
    once.spec.containers[0].resources.limits["x"] = "changed"
    once.spec.tolerations.clear()
    assert given == before


# --- exactly what was picked --------------------------------------------------------------------------------------


def test_a_device_is_asked_for_exactly_and_only_where_it_is() -> None:
    given = pod(cpu_limit=2, mem_limit=1024, extra_resource_guarantees={"nvidia.com/mig-1g.5gb": "1"})
    spec = placed(given, of("mig", count=2)).spec
    container = spec.containers[0]
    assert container.resources.limits == {"cpu": 2, "memory": 1024, "nvidia.com/mig-1g.5gb": "2"}
    assert container.resources.requests == {}
    assert [(e.key, e.operator, e.values) for e in terms(placed(given, of("mig")))[0].match_expressions] == [
        ("gpu", "In", ["a100", "h100"]),
        ("zone", "In", ["x"]),
    ]
    assert [(t.key, t.operator, t.effect) for t in spec.tolerations] == [("gpu", "Exists", "NoSchedule")]
    assert spec.runtime_class_name == "nvidia"


def test_labels_join_every_alternative_of_the_deployers_affinity_and_its_preferences_stay() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "p", "operator": "Exists"}]}}]
    required = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]} for n in ("n1", "n2")]
    given = pod(node_affinity_required=required, node_affinity_preferred=preferred)
    found = placed(given, of("mig"))
    assert [len(term.match_expressions) for term in terms(found)] == [2, 2]
    assert [term.match_fields[0]["values"] for term in terms(found)] == [["n1"], ["n2"]]
    affinity = found.spec.affinity.node_affinity
    assert len(affinity.preferred_during_scheduling_ignored_during_execution) == 1


async def test_labels_join_an_affinity_in_kubernetes_own_spelling_and_pod_affinity_stays() -> None:
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["7"]}]}]}}  # fmt: skip
    together: dict[str, Any] = {"preferredDuringSchedulingIgnoredDuringExecution": []}
    given = pod(extra_pod_config={"affinity": {"nodeAffinity": node, "podAffinity": together}})
    affinity = await sent(placed(given, of("mig")).spec.affinity)
    (term,) = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [one["key"] for one in term["matchExpressions"]] == ["rack", "gpu", "zone"]
    assert affinity["podAffinity"] == together


@pytest.mark.parametrize(
    "present",
    [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        models.V1Toleration(key="gpu", operator="Exists", effect="NoSchedule"),
    ],
)
def test_a_toleration_that_is_there_already_is_not_repeated(present: Any) -> None:
    given = pod()
    given.spec.tolerations = [present, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]
    assert len(placed(given, of("mig")).spec.tolerations) == 2


@pytest.mark.parametrize("key", [None, "mig"])
def test_a_profile_that_asks_for_another_accelerator_by_itself_is_an_error_not_a_surprise(key: str | None) -> None:
    other = {"other": {"title": "Other", "kubernetes": {"resource": "nvidia.com/gpu"}}}
    given = pod(extra_resource_limits={"nvidia.com/gpu": 1})
    with pytest.raises(Contradiction, match=r"asks for nvidia\.com/gpu by itself"):
        placed(given, of(key, other))


def test_a_profile_without_accelerators_may_ask_for_a_resource_by_its_own_settings() -> None:
    given = pod(extra_resource_limits={"nvidia.com/mig-1g.5gb": 1})
    found = placed(given, place(Request("plain"), known()))
    assert found.spec.containers[0].resources.limits == {"nvidia.com/mig-1g.5gb": 1}
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(found.spec.containers[0])


# --- devices of Dynamic Resource Allocation -----------------------------------------------------------------------


async def test_a_claim_comes_beside_cpu_memory_and_other_claims() -> None:
    given = pod(
        cpu_limit=2,
        mem_limit=1024,
        extra_pod_config={"resourceClaims": [{"name": "net", "resourceClaimName": "nic"}]},
        extra_container_config={"resources": {"limits": {"cpu": 2, "memory": 1024}, "claims": [{"name": "net"}]}},
    )
    placement = of("dra", count=3)
    spec = await sent(placed(given, placement).spec)
    (template,) = placement.claims
    assert template.count == 3
    assert spec["resourceClaims"] == [
        {"name": "net", "resourceClaimName": "nic"},
        {"name": "armillary-accelerator", "resourceClaimTemplateName": template.name},
    ]
    resources = spec["containers"][0]["resources"]
    assert resources["claims"] == [{"name": "net"}, {"name": "armillary-accelerator"}]
    assert resources["limits"] == {"cpu": 2, "memory": 1024}


# --- nothing that was not picked ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "nvidia"), [(None, "void"), ("mig", None), ("dra", "void"), ("amd", "void"), ("fpga", "void")]
)
def test_no_image_and_no_setting_shows_cards_that_were_not_picked(key: str | None, nvidia: str | None) -> None:
    more = {
        "amd": {"title": "MI300X", "kubernetes": {"resource": "amd.com/gpu"}},
        "fpga": {"title": "U55c", "kubernetes": {"resource": "amd.com/xilinx_u55c"}},
    }
    given = pod(env={"A": "1", "NVIDIA_VISIBLE_DEVICES": "all", "AMD_VISIBLE_DEVICES": "all"})
    found = variables(placed(given, of(key, more)).spec.containers[0])
    assert found.get("NVIDIA_VISIBLE_DEVICES") == nvidia
    assert found["AMD_VISIBLE_DEVICES"] == "void"
    assert found["A"] == "1"


def test_neighbours_of_a_session_see_no_cards_unless_they_ask() -> None:
    side = {"image": "example.org/side:1"}
    given = pod(
        extra_containers=[
            {**side, "name": "quiet"},
            {**side, "name": "asking", "resources": {"limits": {"nvidia.com/gpu": 1}}},
        ],
        init_containers=[{**side, "name": "before"}],
    )
    spec = placed(given, of("mig")).spec
    found = {
        one.name: variables(one).get("NVIDIA_VISIBLE_DEVICES") for one in [*spec.containers, *spec.init_containers]
    }
    assert found == {"notebook": None, "quiet": "void", "asking": None, "before": "void"}


def test_sessions_without_accelerator_leave_nodes_with_cards_to_others_where_they_can() -> None:
    more = {
        "labelled": _device(
            resource="x.org/a", node_labels={"x.org/a.product": "A", "topology.kubernetes.io/zone": "z"}
        )
    }
    (term,) = placed(
        pod(), of(None, more)
    ).spec.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution
    assert [(one.key, one.operator) for one in term.preference.match_expressions] == [
        ("gpu", "DoesNotExist"),
        ("nvidia.com/gpu.present", "DoesNotExist"),
        ("x.org/a.product", "DoesNotExist"),
        ("zone", "DoesNotExist"),
    ]
    assert of("mig").avoided == ()


def test_where_no_accelerator_is_known_nothing_is_avoided() -> None:
    bare = contents()["profiles"] | {"gpu": {"title": "G", "options": {"image": "lab"}}}
    assert place(Request("cpu"), catalogue(accelerators={}, profiles=bare)).avoided == ()


# --- /dev/shm -----------------------------------------------------------------------------------------------------


async def test_shared_memory_is_as_large_as_the_share_of_the_sessions_memory() -> None:
    spec = await sent(placed(pod(), of("mig")).spec)
    (volume,) = spec["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": str(2 * 1024**3)}
    assert spec["containers"][0]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]


@pytest.mark.parametrize(("memory", "share"), [(None, 0.5), (1024, 0.0)])
def test_without_a_limit_or_a_share_shared_memory_is_the_runtimes(memory: int | None, share: float) -> None:
    assert place(Request("all"), known(), memory=memory, shm_share=share).shm is None


def test_shared_memory_that_the_deployer_mounts_stays() -> None:
    given = pod(
        volumes=[{"name": "own", "emptyDir": {"medium": "Memory"}}],
        volume_mounts=[{"name": "own", "mountPath": "/dev/shm"}],
    )
    assert [one.name for one in placed(given, of("mig")).spec.volumes] == ["own"]


_HERE = re.compile(r"^    (local|simulated): ", re.MULTILINE)


# --- every entry of what is shipped -------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in _SHIPPED])
async def test_golden_every_entry_of_a_shipped_catalogue(file: Path, golden: Golden) -> None:
    contents = load(file)
    profile = next(iter(contents.profiles))
    found: dict[str, Any] = {}
    for key in [None, *contents.accelerators]:
        accelerator = contents.accelerators[key] if key else None
        if accelerator is not None and accelerator.kubernetes is None:
            continue
        request = Request(profile, accelerator=key, count=1 if key else 0)
        placement = place(request, contents, memory=8 * 1024**3, shm_share=0.5)
        given = pod(env={}, node_selector={}, cpu_limit=2, mem_limit=8 * 1024**3)
        made = await sent(placed(given, placement))
        templates = [template.manifest() for template in placement.claims]
        found[key or "none"] = {
            "pod": made["spec"],
            "environment": dict(placement.environment),
            **({"templates": templates} if templates else {}),
        }
    golden(f"placement-{file.stem}", found)


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem) for file in _SHIPPED if _HERE.search(file.read_text())]
)
def test_golden_every_entry_of_a_shipped_catalogue_on_one_machine(file: Path, golden: Golden) -> None:
    contents = load(file)
    profile = next(iter(contents.profiles))
    defaults = Defaults(("lab",), {"JUPYTERHUB_USER": "ann"})

    def environment(key: str | None, *devices: str) -> dict[str, str]:
        place_ = Place("spawn1", "ann", "", Path("/homes/ann"), 4321, "/user/ann/", devices=devices)
        request = Request(profile, accelerator=key, count=len(devices))
        return dict(process_spec(request, contents, place_, defaults).environment)

    none = environment(None)
    told = {name: none[name] for name in sorted(none) if name.endswith(("VISIBLE_DEVICES", "DEVICE_SELECTOR"))}
    found: dict[str, Any] = {"none": told}
    for key, accelerator in contents.accelerators.items():
        if accelerator.local is not None or accelerator.simulated is not None:
            uuid = f"SIMULATED-{key}-0" if accelerator.simulated is not None else "GPU-00000000-0000"
            now = environment(key, uuid)
            found[key] = {name: now[name] for name in sorted(now) if now[name] != none.get(name)}
    golden(f"process-{file.stem}", found)
