"""Our tables of settings against the installed KubeSpawner."""

import pytest
from kubespawner import KubeSpawner
from traitlets import Callable

from profiles.kubespawner_settings import EXPANDED, FUNCTIONS, RENAMED, SETTINGS, canonical, unusable
from profiles.overrides import LOCAL_KEYS
from profiles.security import REASONS


def test_every_setting_of_kubespawner_is_known() -> None:
    assert set(KubeSpawner.class_traits(config=True)) == SETTINGS


def test_every_old_name_leads_to_the_same_new_name() -> None:
    # One of upstream's names is two that a missing comma joined; nobody can have meant it.
    upstream = {old: new for old, (new, _) in KubeSpawner._deprecated_traits.items() if len(old) < 50}
    assert dict(RENAMED) == {**upstream, "singleuser_image_spec": upstream["singleuser_image_spec"]}


def test_settings_that_can_only_be_functions_are_known() -> None:
    traits = KubeSpawner.class_traits(config=True)
    assert {name for name, trait in traits.items() if isinstance(trait, Callable)} <= FUNCTIONS
    assert {name for name in traits if name.endswith("_hook")} <= FUNCTIONS


def test_the_other_tables_name_settings_only() -> None:
    assert EXPANDED | LOCAL_KEYS <= SETTINGS
    assert all(REASONS.values())


def test_canonical_names_and_the_later_of_two() -> None:
    assert canonical({"image_spec": "a", "uid": 1}) == {"image": "a", "uid": 1}
    assert list(canonical({"image": "a", "uid": 1, "singleuser_image_spec": "b"}).items()) == [
        ("uid", 1),
        ("image", "b"),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("node_selecter", "did you mean node_selector?"),
        ("modify_pod_hook", "Python function"),
        ("singleuser_lifecycle_hooks", "did you mean lifecycle_hooks?"),
        ("zzz", "no such setting"),
    ],
)
def test_what_cannot_take_effect(name: str, said: str) -> None:
    ((path, reason),) = unusable({name: "x", "image": "y"})
    assert path == (name,)
    assert said in reason
