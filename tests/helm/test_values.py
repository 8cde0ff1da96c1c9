"""The chart's values: what is written is what the models say, and what they refuse is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from docs.generate.settings import settings as documented
from helm.values import FIXED, Values, fixed, schema
from helm.write import CHART, files
from hub.settings import Settings
from hub.settings.shape import shapes

EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))
SCHEMA = Draft202012Validator(schema())
HERE = {"publicUrl": "https://hub.example.org/"}


def problems(values: dict[str, Any]) -> list[str]:
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in SCHEMA.iter_errors(values)]


@pytest.mark.parametrize("path", [*files()], ids=lambda path: path.name)
def test_what_is_written_is_what_the_models_say(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run: python -m helm.write"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_file_of_values_has_every_value_and_only_the_address_is_missing() -> None:
    said = yaml.safe_load((CHART / "values.yaml").read_text())
    assert problems({**said, **HERE}) == []
    [missing] = problems(said)
    assert missing.startswith("publicUrl: ")
    assert Values.model_validate({**said, **HERE}) == Values.model_validate(HERE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_legal_for_the_schema_and_the_model(path: Path) -> None:
    said = yaml.safe_load(path.read_text())
    assert problems(said) == []
    Values.model_validate(said)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"puplicUrl": "x"}, "'puplicUrl'"),
        ({"hub": {"replicas": 2}}, "'replicas'"),
        ({"users": {"namespace": {"nam": "x"}}}, "'nam'"),
        ({"settings": {"quueue": {}}}, "'quueue'"),
        ({"settings": {"queue": {"slots": 3}}}, "'slots'"),
        ({"catalogue": {"images": {}, "profile": {}}}, "'profile'"),
        ({"service": {"replicas": "two"}}, "service.replicas"),
        ({"service": {"replicas": 0}}, "service.replicas"),
        ({"settings": {"queue": {"tickets": -1}}}, "settings.queue.tickets"),
        ({"hub": {"resources": {"limits": {"memory": "lots"}}}}, "hub.resources.limits.memory"),
        ({"publicUrl": "hub.example.org"}, "publicUrl"),
        ({"images": {"hub": {"repository": "x", "digest": "sha256:1"}}}, "images.hub.digest"),
        ({"images": {"lab": {"repository": "x"}}}, "lab"),
        ({"users": {"namespace": {"name": "Users"}}}, "users.namespace.name"),
    ],
)
def test_unknown_keys_and_wrong_values_are_refused_and_named(values: dict[str, Any], where: str) -> None:
    said = problems({**HERE, **values})
    assert any(where in one for one in said), said


def test_what_the_chart_sets_cannot_be_said_below_settings() -> None:
    known = {shape.dotted for shape in shapes(Settings)}
    assert set(FIXED) <= known
    for name in fixed():
        *sections, last = name.split(".")
        said: dict[str, Any] = {last: None}
        for section in reversed(sections):
            said = {section: said}
        assert problems({**HERE, "settings": said}), f"{name} is accepted"


def _settings_with_examples() -> Iterator[Any]:
    known = set(fixed())
    for one in documented():
        if one.name not in known and not one.secret and one.example is not None:
            yield pytest.param(one.name, one.example, id=one.name)


@pytest.mark.parametrize(("name", "example"), [*_settings_with_examples()])
def test_every_other_setting_can_be_said_there(name: str, example: Any) -> None:
    *sections, last = name.split(".")
    said: dict[str, Any] = {last: example}
    for section in reversed(sections):
        said = {section: said}
    assert problems({**HERE, "settings": said}) == []
