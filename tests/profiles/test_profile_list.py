"""A KubeSpawner profile_list means the same here as in KubeSpawner itself, which is asked."""

import json
import re
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient

from profiles.access import Person
from profiles.loader import CatalogueError, loads
from profiles.model import Catalogue
from profiles.offers import offers
from profiles.overrides import apply, compose, substitute
from tests.profiles.upstream import kubespawner, settings_of

CONFIGURED: dict[str, Any] = {
    "image": "registry.example.org/plain:1",
    "environment": {"SITE": "here", "DROPPED": "x"},
    "extra_labels": {"team": "a"},
    "volumes": [{"name": "home"}],
    "node_selector": {"zone": "one"},
    "mem_limit": "1G",
}

SIMPLE = """
- display_name: Small machine
  description: For a look around
- display_name: Größe & Größer!
  kubespawner_override: {mem_limit: 4G, cpu_limit: 2, environment: {SIZE: big, DROPPED: null}}
- display_name: Third
  slug: gpu
  default: true
  kubespawner_override:
    image_spec: registry.example.org/gpu:1
    node_selector: {pool: gpu}
    extra_resource_limits: {nvidia.com/gpu: "1"}
    volumes: {scratch: {name: scratch, emptyDir: {}}}
    tolerations: [{key: nvidia.com/gpu, operator: Exists}]
"""

OPTIONS = """
- display_name: With options
  kubespawner_override: {environment: {FROM: profile, KEPT: "1"}, default_url: /lab}
  profile_options:
    image:
      display_name: Image
      choices:
        base: {display_name: Base, kubespawner_override: {image: "registry.example.org/base:2"}}
        full:
          display_name: Full
          default: true
          kubespawner_override: {image: "registry.example.org/full:2", environment: {FROM: image}}
      unlisted_choice:
        enabled: true
        display_name: Other image
        validation_regex: ^registry.example.org/.+:.+$
        validation_message: An image of our registry
        kubespawner_override:
          image: "{value}"
          extra_labels: {"picked": "{value}", "{value}": "x", who: "{username}"}
          environment: {PICKED: "<{value}>"}
    resources:
      display_name: Size
      choices:
        mem_1_9: {display_name: 2 GB, kubespawner_override: {mem_guarantee: 2G, mem_limit: 2G, node_selector: {zone: null}}}
        mem_3_7: {display_name: 4 GB, kubespawner_override: {mem_limit: 4G, environment: {KEPT: null, SITE: null}}}
    note:
      display_name: Note
      choices: {"Python 3.11": {display_name: P}, none: {display_name: N, kubespawner_override: {volumes: {a: {name: a}}}}}
"""


def chosen(catalogue: Catalogue, options: dict[str, str]) -> dict[str, Any]:
    """The override for these options, made of the catalogue as the spawner makes it."""
    profile = catalogue.profiles[options.get("profile") or catalogue.default_profile]
    layers = [dict(profile.kubespawner_override)]
    for name, option in profile.options.choices.items():
        typed = options.get(f"{name}--unlisted-choice")
        if typed:
            assert option.unlisted is not None
            layers.append(substitute(option.unlisted.kubespawner_override, typed))
        else:
            key = options.get(name) or option.default
            assert key is not None
            layers.append(dict(option.choices[key].kubespawner_override))
    return compose(*layers)


@pytest.mark.parametrize(
    ("profile_list", "options"),
    [
        (SIMPLE, {}),
        (SIMPLE, {"profile": "small-machine"}),
        (SIMPLE, {"profile": "grosse-grosser"}),
        (SIMPLE, {"profile": "gpu"}),
        (OPTIONS, {}),
        (OPTIONS, {"profile": "with-options"}),
        (OPTIONS, {"profile": "with-options", "image": "base"}),
        (OPTIONS, {"profile": "with-options", "image": "base", "resources": "mem_3_7", "note": "none"}),
        (OPTIONS, {"profile": "with-options", "resources": "mem_1_9", "note": "Python 3.11"}),
        (OPTIONS, {"profile": "with-options", "image--unlisted-choice": "registry.example.org/own:3"}),
        (
            OPTIONS,
            {"profile": "with-options", "image--unlisted-choice": "registry.example.org/o:3", "resources": "mem_3_7"},
        ),
    ],
)
async def test_settings_afterwards_are_those_that_kubespawner_sets(
    profile_list: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = kubespawner(monkeypatch, {**CONFIGURED, "profile_list": yaml.safe_load(profile_list)})
    theirs.user_options = options
    await theirs.load_user_options()

    ours = kubespawner(monkeypatch, CONFIGURED)
    untouched = settings_of(ours)
    for name, value in chosen(loads(f"profiles:{profile_list}"), options).items():
        setattr(ours, name, apply(getattr(ours, name), value))

    assert settings_of(ours) == settings_of(theirs)
    assert settings_of(theirs) != untouched or options.get("profile") == "small-machine"


@pytest.mark.parametrize("profile_list", [SIMPLE, OPTIONS])
def test_names_and_defaults_are_those_that_kubespawner_shows(
    profile_list: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = kubespawner(monkeypatch, {})
    theirs = spawner._get_initialized_profile_list(yaml.safe_load(profile_list))
    ours = offers(loads(f"profiles:{profile_list}"), Person("u"), "kubernetes")
    assert [offer.key for offer in ours] == [profile["slug"] for profile in theirs]
    assert [offer.default for offer in ours] == [profile.get("default", False) for profile in theirs]
    for offer, profile in zip(ours, theirs, strict=True):
        assert (offer.title, offer.description) == (profile["display_name"], profile.get("description", ""))
        for option in offer.options:
            upstream = profile["profile_options"][option.key]
            assert option.title == upstream["display_name"]
            assert {one.key: one.title for one in option.offers} == {
                key: choice["display_name"] for key, choice in upstream["choices"].items()
            }
            assert option.default == next(key for key, one in upstream["choices"].items() if one.get("default"))
            assert (option.unlisted is not None) == upstream["unlisted_choice"]["enabled"]


async def test_braces_that_a_user_types_reach_the_pod_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    override = {
        "image": "i-{value}",
        "extra_annotations": {"a": "{value}"},
        "extra_labels": {"a": "{value}"},
        "environment": {"A": "{value}"},
        "volumes": [{"name": "{value}", "emptyDir": {}}],
        "volume_mounts": [{"name": "{value}", "mountPath": "/x"}],
        "init_containers": [{"name": "i", "image": "{value}"}],
        "extra_containers": [{"name": "s", "image": "{value}"}],
        "extra_pod_config": {"hostname": "{value}"},
        "service_account": "{value}",
        "default_url": "/{value}",
        "node_selector": {"a": "{value}"},
        "priority_class_name": "{value}",
        "extra_container_config": {"workingDir": "{value}"},
        "tolerations": [{"key": "{value}"}],
        "lifecycle_hooks": {"preStop": {"exec": {"command": ["{value}"]}}},
        "args": ["{value}"],
        "extra_resource_limits": {"x/y": "{value}"},
    }
    spawner = kubespawner(monkeypatch, {"cmd": ["run"]})
    typed = "a{username}{b"
    for name, value in substitute(override, typed).items():
        setattr(spawner, name, apply(getattr(spawner, name), value))
    manifest = await spawner.get_pod_manifest()
    text = json.dumps(ApiClient.sanitize_for_serialization(ApiClient.__new__(ApiClient), manifest))
    assert "{{" not in text
    # each of the settings once; service_account stands in the pod under two names, default_url in a variable
    assert text.count(typed) >= len(override)


def test_a_regular_expression_must_match_the_whole_text() -> None:
    unlisted = loads(f"profiles:{OPTIONS}").profiles["with-options"].options.choices["image"].unlisted
    assert unlisted is not None
    assert re.fullmatch(unlisted.pattern, "registry.example.org/own:3")
    assert not re.fullmatch(unlisted.pattern, "registry.example.org/own:3\n")
    assert not re.fullmatch(unlisted.pattern, "evil/registry.example.org/own:3")


def test_what_only_kubernetes_can_is_disabled_on_one_machine_with_the_reason() -> None:
    catalogue = loads(f"profiles:{SIMPLE}")
    local = {offer.key: offer.reason for offer in offers(catalogue, Person("u"), "local")}
    assert local["small-machine"] is None
    assert local["grosse-grosser"] is None
    assert local["gpu"] == (
        "only on Kubernetes: uses image, node_selector, extra_resource_limits, volumes, tolerations"
    )
    assert not any(offer.reason for offer in offers(catalogue, Person("u"), "kubernetes"))


def test_a_single_choice_that_only_kubernetes_can_is_disabled_alone() -> None:
    (offer,) = offers(loads(f"profiles:{OPTIONS}"), Person("u"), "local")
    image, resources, _ = offer.options
    assert offer.reason == "Image: only on Kubernetes: uses image; only on Kubernetes: uses image, extra_labels"
    assert image.default is None
    assert image.unlisted is None
    assert image.offers[-1].key == "unlisted-choice"
    assert [one.reason for one in resources.offers] == ["only on Kubernetes: uses node_selector", None]
    assert resources.default == "mem_3_7"


def problems(text: str, *, allow_weaker_security: bool = False) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        loads(text, name="c.yaml", allow_weaker_security=allow_weaker_security)
    return [str(problem) for problem in refused.value.problems]


BAD = [
    ("{}", "profiles[0]: needs 'display_name'"),
    ("5", "profiles[0]: must be a mapping"),
    ("{display_name: '!'}", "profiles[0].display_name: no slug can be made from '!': write `slug`"),
    ("{display_name: A, slug: a--b}", "profiles[0].slug: the slug 'a--b' holds '--'"),
    ('{display_name: A, slug: "a\\tb"}', "profiles[0].slug: 'a\\tb' holds a line break or control character"),
    ("{display_name: A}, {display_name: a}", "profiles[1].display_name: the slug 'a' is the one of another profile"),
    ("{display_name: A, allowed_groups: [x]}", "profiles[0].allowed_groups: unknown key"),
    (
        "{display_name: A, kubespawner_override: null}",
        "kubespawner_override: must be a mapping, but nothing is written",
    ),
    ("{display_name: A, kubespawner_override: {imagee: x}}", "did you mean image?"),
    ("{display_name: A, kubespawner_override: {modify_pod_hook: x}}", "its value is a Python function"),
    ("{display_name: A, profile_options: {o: {display_name: O}}}", "lets nobody choose anything"),
    (
        "{display_name: A, profile_options: {o: {choices: []}}}",
        "profile_options.o.choices: must be a mapping, got a list",
    ),
    ("{display_name: A, profile_options: {a--b: {choices: {x: {}}}}}", "the option 'a--b' holds '--'"),
    ("{display_name: A, profile_options: {profile: {choices: {x: {}}}}}", "'profile' means something else"),
    ("{display_name: A, profile_options: {o: {choices: {unlisted-choice: {}}}}}", "means a text field in a form"),
    ("{display_name: A, profile_options: {o: {choices: {'a ': {}}}}}", "no space at either end"),
    (
        "{display_name: A, profile_options: {o: {choices: {a: {default: true}, b: {default: true}}}}}",
        "profile_options.o.choices.b.default: there is a default already: 'a'",
    ),
    ("{display_name: A, profile_options: {o: {unlisted_choice: {enabled: 1}}}}", "must be true or false, got 1"),
    (
        "{display_name: A, profile_options: {o: {unlisted_choice: {enabled: true, validation_regex: '['}}}}",
        "profile_options.o.unlisted_choice.validation_regex: '[' is no regular expression",
    ),
    (
        "{display_name: A, profile_options: {o: {unlisted_choice: {enabled: true, kubespawner_override: {image: '{'}}}}}",
        "unlisted_choice.kubespawner_override.image: '{' cannot be filled in",
    ),
    (
        "{display_name: A, default: true}, {display_name: B, default: true}",
        "profiles[1].default: there is a default already",
    ),
]


@pytest.mark.parametrize(("entries", "said"), BAD)
def test_bad_profile_lists_are_refused(entries: str, said: str) -> None:
    found = problems(f"profiles: [{entries}]")
    assert any(said in problem for problem in found), found


WEAK = """
profiles:
- display_name: A
  kubespawner_override: {privileged: true}
  profile_options:
    image:
      choices: {a: {kubespawner_override: {uid: 0}}}
      unlisted_choice: {enabled: true, kubespawner_override: {image: "{value}"}}
"""


def test_weaker_security_is_refused_unless_allowed() -> None:
    assert problems(WEAK) == [
        "c.yaml:4:26 profiles[0].kubespawner_override.privileged: weakens security: gives the container every right on its "
        "node; take it out, or set allow_weaker_security",
        "c.yaml:7:44 profiles[0].profile_options.image.choices.a.kubespawner_override.uid: weakens security: runs the "
        "session as root; take it out, or set allow_weaker_security",
        "c.yaml:8:7 profiles[0].profile_options.image.unlisted_choice: weakens security: whatever a user types is put into "
        "image; write a `validation_regex`, or set allow_weaker_security",
    ]
    assert loads(WEAK, allow_weaker_security=True).profiles["a"].kubespawner_override == {"privileged": True}


def test_html_in_names_stays_text() -> None:
    catalogue = loads("profiles: [{display_name: '<b>A</b>', description: '<script>'}]")
    (profile,) = catalogue.profiles.values()
    assert (profile.title, profile.description) == ("<b>A</b>", "<script>")


def test_a_pattern_that_is_too_long_is_a_problem_of_the_catalogue() -> None:
    text = f"""
profiles:
  - display_name: One
    profile_options:
      image: {{unlisted_choice: {{enabled: true, validation_regex: {"x" * 2001}}}}}
"""
    with pytest.raises(CatalogueError, match=r"validation_regex: string should have at most 2000 characters"):
        loads(text)
