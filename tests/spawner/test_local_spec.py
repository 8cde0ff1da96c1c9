"""From a request to a process: command, environment, limits."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from profiles.model import Catalogue
from spawner.processes.spec import Defaults, Place, ProcessSpec, process_spec
from spawner.request import Chosen, Request

PLACE = Place("spawn1", "ä n/n", "", Path("/homes/ann"), 4321, "/user/ann/")
HUB = {
    "JUPYTERHUB_API_TOKEN": "t",
    "JUPYTERHUB_SERVICE_URL": "http://elsewhere",
    "JUPYTERHUB_DEFAULT_URL": "/tree",
    "FROM_HUB": 1,
    "NOT": None,
}

NO_DEVICES = {
    "CUDA_VISIBLE_DEVICES": "",
    "NVIDIA_VISIBLE_DEVICES": "void",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "-1",
    "ONEAPI_DEVICE_SELECTOR": "*:cpu",
}


def catalogue(**override: Any) -> Catalogue:
    return Catalogue.model_validate(
        {
            "images": {
                "lab": {"title": "Lab", "local": {}},
                "torch": {
                    "title": "Torch",
                    "default_url": "/doc",
                    "local": {
                        "command": ["/opt/torch/bin/lab", "--x"],
                        "environment": {"IMAGE": "torch", "FROM_HUB": "image"},
                    },
                },
            },
            "profiles": {
                "cpu": {
                    "title": "CPU",
                    "environment": {"PROFILE": "cpu"},
                    "kubespawner_override": override,
                    "options": {
                        "image": ["lab", "torch"],
                        "choices": {
                            "say": {
                                "title": "Say",
                                "choices": {"hi": {"title": "Hi", "environment": {"SAID": "hi"}}},
                                "unlisted": {
                                    "title": "Own",
                                    "pattern": ".*",
                                    "message": "anything",
                                    "kubespawner_override": {"environment": {"SAID": "{value} {username}"}},
                                },
                            }
                        },
                    },
                }
            },
        }
    )


def made(request: Request, override: dict[str, Any] | None = None, **defaults: Any) -> ProcessSpec:
    return process_spec(
        request, catalogue(**(override or {})), PLACE, Defaults(("/venv/bin/python", "-m", "x"), HUB, **defaults)
    )


def test_the_environment_is_exactly_this() -> None:
    spec = made(Request("cpu", image="lab", cpu=Decimal("1.5"), memory=2 << 30))
    assert spec.environment == {
        "PATH": "/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/homes/ann",
        "USER": "ä n/n",
        "LOGNAME": "ä n/n",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PROFILE": "cpu",
        "CPU_LIMIT": "1.5",
        "MEM_LIMIT": "2147483648",
        "OMP_NUM_THREADS": "2",
        "FROM_HUB": "1",
        "JUPYTERHUB_API_TOKEN": "t",
        "JUPYTERHUB_DEFAULT_URL": "/tree",
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:4321/user/ann/",
        "ARMILLARY_SPAWN_ID": "spawn1",
        **NO_DEVICES,
    }
    assert (spec.argv, spec.directory, spec.cpu, spec.memory) == (
        ("/venv/bin/python", "-m", "x"),
        Path("/homes/ann"),
        Decimal("1.5"),
        2 << 30,
    )


def test_an_image_brings_its_own_command_and_page() -> None:
    spec = made(Request("cpu", image="torch"), arguments=("--more",))
    assert spec.argv == ("/opt/torch/bin/lab", "--x", "--more")
    assert spec.environment["PATH"].startswith("/opt/torch/bin:")
    assert spec.environment["JUPYTERHUB_DEFAULT_URL"] == "/doc"
    assert spec.environment["IMAGE"] == "torch"


@pytest.mark.parametrize("name", ["JUPYTERHUB_API_TOKEN", "JUPYTERHUB_SERVICE_URL", "ARMILLARY_SPAWN_ID"])
def test_what_the_hub_relies_on_cannot_be_overridden(name: str) -> None:
    spec = made(Request("cpu", image="lab"), {"environment": {name: "mine", "OTHER": "mine"}})
    assert spec.environment["OTHER"] == "mine"
    assert spec.environment[name] != "mine"


@pytest.mark.parametrize("typed", ["{username}", "{", "{{}}", "$(rm)", "{0.__class__}", "ä\tb"])
def test_text_that_a_user_typed_arrives_as_typed(typed: str) -> None:
    spec = made(Request("cpu", image="lab", choices=(Chosen("say", text=typed),)))
    assert spec.environment["SAID"] == f"{typed} _C3_A4_20n_2Fn"


def test_a_listed_choice_brings_its_environment() -> None:
    assert made(Request("cpu", image="lab", choices=(Chosen("say", choice="hi"),))).environment["SAID"] == "hi"


@pytest.mark.parametrize(
    ("request_", "override", "defaults", "cpu", "memory"),
    [
        pytest.param({}, {}, {}, None, None, id="nothing"),
        pytest.param({}, {}, {"cpu": 1.0, "memory": 5}, Decimal(1), 5, id="deployer"),
        pytest.param(
            {}, {"cpu_limit": 2, "mem_limit": "1G"}, {"cpu": 1.0, "memory": 5}, Decimal(2), 1 << 30, id="override"
        ),
        pytest.param({}, {"mem_limit": "1Gi"}, {}, None, 1 << 30, id="kubernetes-notation"),
        pytest.param(
            {"cpu": Decimal(3), "memory": 7}, {"cpu_limit": 2, "mem_limit": "1G"}, {}, Decimal(3), 7, id="request"
        ),
    ],
)
def test_limits_come_from_the_most_specific(
    request_: dict[str, Any],
    override: dict[str, Any],
    defaults: dict[str, Any],
    cpu: Decimal | None,
    memory: int | None,
) -> None:
    spec = made(Request("cpu", image="lab", **request_), override, **defaults)
    assert (spec.cpu, spec.memory) == (cpu, memory)


def test_threads_that_the_catalogue_sets_are_kept() -> None:
    spec = made(Request("cpu", image="lab", cpu=Decimal(4)), {"environment": {"OMP_NUM_THREADS": "1"}})
    assert spec.environment["OMP_NUM_THREADS"] == "1"


def test_the_other_keys_that_mean_the_same_on_both_engines() -> None:
    override = {
        "args": ["--a"],
        "debug": True,
        "disable_user_config": True,
        "cpu_guarantee": 0.5,
        "mem_guarantee": "1G",
        "default_url": "/lab/tree/{username}",
    }
    spec = made(Request("cpu", image="torch"), override, arguments=("--deployer",))
    assert spec.argv[-1] == "--a"
    wanted = {
        "JUPYTERHUB_DEBUG": "1",
        "JUPYTERHUB_DISABLE_USER_CONFIG": "1",
        "CPU_GUARANTEE": "0.5",
        "MEM_GUARANTEE": str(1 << 30),
        "JUPYTERHUB_DEFAULT_URL": "/lab/tree/_C3_A4_20n_2Fn",
    }
    assert {name: spec.environment[name] for name in wanted} == wanted


def test_inputs_stay_as_they_are() -> None:
    before = copy.deepcopy(HUB)
    made(Request("cpu", image="torch"), {"environment": {"A": "b"}})
    assert before == HUB
