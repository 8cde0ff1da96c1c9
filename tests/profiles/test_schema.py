"""The JSON Schema accepts what the loader accepts in shape, and refuses what has a wrong shape."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import profiles
from profiles.loader import CatalogueError, loads
from profiles.schema import json_schema

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHIPPED = Path(profiles.__file__).with_name("catalogue.yaml").read_text()
EXAMPLES = [path.read_text() for path in sorted(Path(profiles.__file__).with_name("examples").glob("*.yaml"))]


def whole(profile: str = "", *, accelerator: str = "", image: str = "") -> str:
    return (
        f"accelerators: {{t4: {{title: T4{accelerator}}}}}\n"
        f"images: {{lab: {{title: Lab, local: {{}}{image}}}}}\n"
        f"profiles: {{p: {{title: P{profile}}}}}\n"
    )


GOOD = [
    SHIPPED,
    *EXAMPLES,
    whole(),
    "profiles: {p: {title: P}}\nimages:\naccelerators:\n",
    whole(", access: everyone"),
    whole(", access: {groups: [a], users: [b]}"),
    whole(", access: {everyone: true}"),
    whole(", options: {cpu: 2}"),
    whole(", options: {cpu: 0.5, memory: 2Gi}"),
    whole(", options: {cpu: [500m, 1, '2']}"),
    whole(", options: {cpu: {choices: [1, 2]}}"),
    whole(", options: {cpu: {choices: [1, 2], default: 2}}"),
    whole(", options: {cpu: {min: 1, max: 2}, memory: {min: 1Gi, max: 2Gi, default: 1.5Gi}}"),
    whole(", options: {cpu: null, image: null}"),
    whole(", options: {image: lab, accelerator: [none, t4], count: [1, 2]}"),
    whole(", options: {image: {choices: [lab], default: lab}}"),
    whole(", options: {choices: {a: {title: A, choices: {b: {title: B}}, default: b}}}"),
    whole(", options: {choices: {a: {title: A, unlisted: {title: U, pattern: x}}}}"),
    whole(", environment: {A: b}, kubespawner_override: {tolerations: [{key: a}]}, start_timeout_s: 60, default: true"),
    whole(accelerator=", share: 3/7, memory: 40Gi, kubernetes: {resource: a.b/c, node_labels: {x: y, z: [a, b]}}"),
    whole(
        accelerator=", share: 0.5, kubernetes: {resource: a.b/c, tolerations: [{key: a, value: b}], runtime_class: r}"
    ),
    whole(accelerator=", kubernetes: {dra: {device_class: gpu.nvidia.com}}"),
    whole(accelerator=", kubernetes: {resource: null, dra: {device_class: a.b, selectors: [device.driver == 'a.b']}}"),
    whole(accelerator=", local: {product: Tesla T4, replicas: 2}, per_node: 4"),
    whole(accelerator=", local: {product: [A, B], mig: 1g.10gb+me}, simulated: null"),
    whole(accelerator=", simulated: {count: 4}, local: null"),
    whole(accelerator=", kubernetes: {resource: a.b/c, tolerations: [{key: a, operator: Equal, value: b}]}"),
    whole(image=", reference: a/b:c, pull_policy: Always, default_url: /lab"),
    "profiles: [{display_name: A}]",
    "profiles: [{display_name: A, slug: a, default: true, kubespawner_override: {image: x}}]",
    "profiles: [{display_name: A, profile_options: {a_b: {display_name: O, choices: {x_1: {display_name: X}}}}}]",
    "profiles: [{display_name: A, profile_options: {o: {unlisted_choice: {enabled: true, validation_regex: x}}}}]",
]

BAD_SHAPE = [
    whole(accelerator=", kubernetes: {resource: a.b/c, dra: {device_class: a.b}}"),
    whole(accelerator=", kubernetes: {dra: {selectors: [device.driver == 'a.b']}}"),
    whole(accelerator=", kubernetes: {dra: {device_class: a.b, selectors: ['']}}"),
    whole(accelerator=", kubernetes: {dra: {device_class: a.b, selectors: device}}"),
    whole(accelerator=", kubernetes: {resource: a.b/c, tolerations: [{key: a, operator: Equal}]}"),
    whole(accelerator=", kubernetes: {resource: a.b/c, tolerations: [{key: a, operator: Exists, value: b}]}"),
    whole(accelerator=", local: {product: []}"),
    whole(accelerator=", local: {product: T4, mig: large}"),
    whole(accelerator=", local: {product: T4, replicas: 0}"),
    whole(accelerator=", local: {product: T4}, simulated: {count: 1}"),
    whole(accelerator=", simulated: {count: 0}"),
    whole(accelerator=", simulated: {}"),
    whole(accelerator=", per_node: 0"),
    "",
    "[]",
    "images: {}",
    "profiles: {}",
    "profiles: []",
    "profiles: {P: {title: P}}",
    "profiles: {p: {}}",
    "profiles: {p: {title: 5}}",
    "profiles: {p: {title: P}}\nextra: 1",
    whole(", titel: Q"),
    whole(", access: all"),
    whole(", access: {group: [a]}"),
    whole(", access: {groups: a}"),
    whole(", options: {gpu: 1}"),
    whole(", options: {cpu: two}"),
    whole(", options: {cpu: true}"),
    whole(", options: {cpu: -1}"),
    whole(", options: {cpu: 0}"),
    whole(", options: {cpu: []}"),
    whole(", options: {cpu: {}}"),
    whole(", options: {cpu: {min: 1}}"),
    whole(", options: {cpu: {min: 1, max: 2, choices: [1]}}"),
    whole(", options: {cpu: {minimum: 1, maximum: 2}}"),
    whole(", options: {memory: 2GB}"),
    whole(", options: {memory: 1 Gi}"),
    whole(", options: {image: []}"),
    whole(", options: {image: 5}"),
    whole(", options: {image: {default: lab}}"),
    whole(", options: {choices: {A_B: {title: A, choices: {b: {title: B}}}}}"),
    whole(", options: {choices: {a: {title: A, unlisted: {title: U}}}}"),
    whole(", environment: {A: 1}"),
    whole(", start_timeout_s: 5"),
    whole(", default: maybe"),
    whole(accelerator=", share: 2"),
    whole(accelerator=", share: half"),
    whole(accelerator=", kubernetes: {}"),
    whole(accelerator=", kubernetes: {resource: a.b/c, node_labels: {x: []}}"),
    whole(accelerator=", kubernetes: {resource: a.b/c, tolerations: [{operator: Exists}]}"),
    whole(image=", pull_policy: Sometimes"),
    "images: {a: {title: A}}\nprofiles: {p: {title: P}}",
    "profiles: [{}]",
    "profiles: [{display_name: A, allowed_groups: [x]}]",
    "profiles: [{display_name: A, profile_options: []}]",
]


def accepted(text: str) -> bool:
    return not list(VALIDATOR.iter_errors(yaml.safe_load(text)))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("text", GOOD)
def test_schema_and_loader_both_accept(text: str) -> None:
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []
    assert loads(text).profiles


@pytest.mark.parametrize("text", BAD_SHAPE)
def test_schema_and_loader_both_refuse(text: str) -> None:
    assert not accepted(text)
    with pytest.raises(CatalogueError):
        loads(text)


def test_editors_are_told_what_a_key_is_for() -> None:
    definitions: dict[str, Any] = SCHEMA["$defs"]
    for name in ("Accelerator", "Image", "Options", "Profile", "KubernetesDevice"):
        described = [entry for entry in definitions[name]["properties"].values() if "description" in entry]
        assert described, name
    assert "first is the default" in definitions["Options"]["properties"]["cpu"]["description"]


def test_each_call_gives_a_schema_of_its_own() -> None:
    json_schema()["properties"].clear()
    assert json_schema()["properties"]
