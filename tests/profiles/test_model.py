"""The catalogue as values: shorthands, and that nothing in it can change."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from profiles.loader import loads
from profiles.model import Accelerator, Access, Image, NamedOption, NumberOption, Options, Profile, Toleration

GI = 2**30


def option(name: str, written: Any) -> Any:
    return getattr(Options.model_validate({name: written}), name)


@pytest.mark.parametrize(
    ("written", "choices", "default"),
    [
        (2, ["2"], "2"),
        ("500m", ["0.5"], "0.5"),
        (0.5, ["0.5"], "0.5"),
        ([1, "2", 4.0], ["1", "2", "4"], "1"),
        ({"choices": [1, 2], "default": "2000m"}, ["1", "2"], "2"),
        ({"choices": [1, 2]}, ["1", "2"], "1"),
    ],
)
def test_numbers_to_pick_from(written: Any, choices: list[str], default: str) -> None:
    cpu = option("cpu", written)
    assert cpu.choices == tuple(map(Decimal, choices))
    assert cpu.default == Decimal(default)
    assert (cpu.minimum, cpu.maximum) == (None, None)
    assert cpu.allows(Decimal(default))
    assert not cpu.allows(Decimal(99))


def test_a_range() -> None:
    memory = option("memory", {"min": "512Mi", "max": "8Gi", "default": "2Gi"})
    assert (memory.choices, memory.minimum, memory.maximum, memory.default) == ((), GI // 2, 8 * GI, 2 * GI)
    assert memory.allows(Decimal(GI))
    assert memory.allows(memory.minimum)
    assert memory.allows(memory.maximum)
    assert not memory.allows(memory.maximum + 1)
    assert option("memory", {"min": "1Gi", "max": "8Gi"}).default == GI


@pytest.mark.parametrize(
    ("written", "choices", "default"),
    [("a", ("a",), "a"), (["a", "b"], ("a", "b"), "a"), ({"choices": ["a", "b"], "default": "b"}, ("a", "b"), "b")],
)
def test_named_things_to_pick_from(written: Any, choices: tuple[str, ...], default: str) -> None:
    assert option("image", written) == NamedOption(choices=choices, default=default)


def test_options_can_be_made_in_python_too() -> None:
    cpu = NumberOption(choices=(Decimal(1), Decimal(2)), default=Decimal(2))
    assert Options(cpu=cpu).cpu == cpu
    ranged = NumberOption(minimum=Decimal(1), maximum=Decimal(4), default=Decimal(1))
    assert Options(memory=None, cpu=ranged).cpu == ranged


def test_access() -> None:
    assert Access.model_validate("everyone").everyone
    assert Access.model_validate({"groups": ["a"], "users": ["b"]}) == Access(groups=("a",), users=("b",))
    assert Profile(title="P").access.everyone


@pytest.mark.parametrize(
    ("written", "share"), [(1, "1"), (0.5, "0.5"), ("0.5", "0.5"), ("1/2", "0.5"), ("3/4", "0.75")]
)
def test_share(written: Any, share: str) -> None:
    assert Accelerator.model_validate({"title": "A", "share": written}).share == Decimal(share)


def test_seven_sevenths_are_a_whole_card() -> None:
    share = Accelerator.model_validate({"title": "A", "share": "1/7"}).share
    assert round(7 * share, 20) == 1


def test_a_toleration_with_a_value_compares_it() -> None:
    assert Toleration(key="a").operator == "Exists"
    assert Toleration(key="a", value="b").operator == "Equal"


@pytest.mark.parametrize(
    "reference",
    [
        "ubuntu",
        "ubuntu:24.04",
        "a/b_c/d__e/f-g.h",
        "registry.example.org:5000/a/b:v1",
        "localhost/armillary/base:0.2.0",
        "a@sha256:" + "0" * 64,
        "a:b@sha256:" + "f" * 64,
        "[::1]:5000/a",
    ],
)
def test_image_references(reference: str) -> None:
    assert Image(title="I", reference=reference).reference == reference


@pytest.mark.parametrize(
    "reference", ["", "a:", ":a", "/a", "a/", "a//b", "A", "a b", "a@sha256:12", "a:" + "x" * 129, "a\n"]
)
def test_what_is_no_image_reference(reference: str) -> None:
    with pytest.raises(ValidationError):
        Image(title="I", reference=reference)


def test_nothing_changes_and_a_copy_is_the_thing_itself() -> None:
    catalogue = loads("profiles: {p: {title: P, environment: {A: b}, kubespawner_override: {environment: {C: d}}}}")
    profile = catalogue.profiles["p"]
    with pytest.raises(ValidationError):
        profile.title = "Q"  # type: ignore[misc]
    for mapping in (catalogue.profiles, profile.environment, profile.kubespawner_override):
        with pytest.raises(TypeError):
            mapping["x"] = "y"  # type: ignore[index]
    assert copy.deepcopy(catalogue) is catalogue
    assert copy.deepcopy({"c": [catalogue]})["c"][0] is catalogue
    assert copy.deepcopy(profile) is profile


def test_the_default_profile_is_the_marked_one_or_the_first() -> None:
    assert loads("profiles: {a: {title: A}, b: {title: B}}").default_profile == "a"
    assert loads("profiles: {a: {title: A}, b: {title: B, default: true}}").default_profile == "b"


def test_a_catalogue_can_be_written_as_json() -> None:
    catalogue = loads("profiles: {p: {title: P, options: {cpu: [1, 2]}}}\nimages: {a: {title: A, local: {}}}")
    assert '"cpu":{"choices":["1","2"]' in catalogue.model_dump_json()
