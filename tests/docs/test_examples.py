"""What the documentation shows can be used as it stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from helm.values import Values
from hub.quotas.declared import read_text
from hub.settings import SettingsError, load
from profiles.loader import loads
from tests.docs.blocks import ROOT, Block, blocks

# The API's word for what a method of the client does, as RBAC names it.
_VERBS = {"create": "create", "read": "get", "replace": "update", "patch": "patch", "delete": "delete", "list": "list"}
# Methods that only settings of KubeSpawner reach, which the page names one by one.
_ON_REQUEST = {
    ("create", "services"),
    ("delete", "services"),
    ("create", "namespaces"),
    ("delete", "persistentvolumeclaims"),
}


@pytest.mark.parametrize("block", blocks("catalogue.yaml"), ids=str)
def test_catalogues_are_accepted(block: Block) -> None:
    assert loads(block.text).profiles


@pytest.mark.parametrize("block", blocks("armillary.yaml"), ids=str)
def test_settings_are_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "armillary.yaml"
    file.write_text(block.text, encoding="utf-8")
    assert load(file, {}).model_fields_set == set(yaml.safe_load(block.text))


@pytest.mark.parametrize("block", blocks("quotas.yaml"), ids=str)
def test_quotas_are_accepted(block: Block) -> None:
    assert read_text(block.text).rows


def test_wrong_settings_are_refused_with_the_text_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wrong,), (expected,) = blocks("wrong armillary.yaml"), blocks("problems")
    monkeypatch.chdir(tmp_path)
    Path("armillary.yaml").write_text(wrong.text, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load(None, {})
    assert str(error.value) == expected.text.rstrip("\n")


@pytest.mark.parametrize("block", blocks("mine.yaml"), ids=str)
def test_values_of_the_chart_are_accepted(block: Block) -> None:
    assert Values.model_validate(yaml.safe_load(block.text)).model_fields_set


_METHOD = re.compile(r"(?P<verb>[a-z]+)_namespaced_(?P<kind>\w*)")


def _requests() -> set[tuple[str, str]]:
    """Verb and kind of every request to the Kubernetes API that the spawner makes, read from its source."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "spawner").glob("*.py"))]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    found: set[tuple[str, str]] = set()
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and (match := _METHOD.fullmatch(str(node.value))):
                kinds = [match["kind"]] if match["kind"] else _first_arguments(trees, function.name)
                found |= {(_VERBS[match["verb"]], kind.replace("_", "") + "s") for kind in kinds}
    return found


def _first_arguments(trees: list[ast.Module], name: str) -> list[str]:
    """The kinds that a method of KubeApi is called with: `create_namespaced_{kind}`."""
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == name]
    return [str(argument.value) for argument in named if isinstance(argument, ast.Constant)]


def test_the_role_names_every_request_that_the_spawner_makes_and_no_other() -> None:
    (block,) = blocks("role.yaml")
    granted = {
        (verb, resource)
        for rule in yaml.safe_load(block.text)["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    watched = {(verb, kind) for verb in ("list", "watch") for kind in ("pods", "events")}
    assert (_requests() - _ON_REQUEST) | watched == granted
