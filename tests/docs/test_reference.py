"""The generated reference is complete: nothing is offered that it does not explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.build import write_reference
from docs.generate import catalogue, overrides, pages, refusals, traits
from docs.generate.markdown import as_yaml
from docs.generate.settings import Setting, settings
from hub.settings import load
from profiles.overrides import weaker_security
from profiles.security import REASONS

SETTINGS = list(settings())
TRAITS = [
    (kind, name, trait) for kind, declaring in traits.classes() for name, trait in traits.own_traits(declaring).items()
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_a_description_and_an_example(setting: Setting) -> None:
    assert len(setting.field.description or "") > 20
    assert setting.example is not None


@pytest.mark.parametrize("setting", [one for one in SETTINGS if not one.secret], ids=lambda setting: setting.name)
def test_every_example_is_accepted(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "armillary.yaml"
    # Not enough alone: the hub's address must be one that pods reach, the site's a name that others can be below.
    together: dict[str, Any] = {
        "engine": {"hub": {"bind_url": "http://10.0.0.1:8081"}},
        "user_subdomains": {"public_url": "https://hub.example.org/"},
    }.get(setting.name, {})
    file.write_text(as_yaml((), together | yaml.safe_load(as_yaml(setting.path, setting.example))), encoding="utf-8")
    assert setting.path[0] in load(file, {}).model_fields_set


@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.unit], ids=lambda setting: setting.name)
def test_names_of_settings_in_seconds_say_so(setting: Setting) -> None:
    assert setting.path[-1].endswith("_s") == (setting.unit == "seconds")


@pytest.mark.parametrize(
    ("model", "key"),
    [(model, key) for model in catalogue.models() for key, _ in catalogue.fields(model)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_key_of_the_catalogue_has_a_meaning(model: Any, key: str) -> None:
    assert len(catalogue.meaning(model, key)) > 8


@pytest.mark.parametrize(("kind", "name", "trait"), TRAITS, ids=[f"{kind.__name__}.{name}" for kind, name, _ in TRAITS])
def test_every_trait_of_ours_has_help(kind: type, name: str, trait: Any) -> None:
    assert len(trait.help or "") > 40, f"{kind.__name__}.{name} has no help"


def test_both_spawners_and_the_authenticator_are_in_the_reference() -> None:
    named = [kind.__name__ for kind, _ in traits.classes()]
    assert named == ["RequestSpawner", "ArmillarySpawner", "LocalSpawner", "OIDCAuthenticator"]
    assert all(f"## {name}\n" in traits.page() for name in named)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_to_refuse_an_override_is_shown_with_an_example(reason: str) -> None:
    found = [why for _, why in weaker_security(overrides.EXAMPLES[reason])]
    assert found == [REASONS[reason]]


def test_examples_of_overrides_show_no_reason_that_is_gone() -> None:
    assert set(overrides.EXAMPLES) == set(REASONS)


def test_every_refusal_has_a_code_in_words_with_dashes_and_a_text() -> None:
    for kind, found in refusals.codes().items():
        for code in found:
            assert code.name.replace("-", "").isalpha(), code
            assert code.name == code.name.lower(), code
            assert code.texts, f"{kind} {code.name} has no text in the reference"


def test_the_refusals_of_every_limit_are_in_the_reference_with_a_text_as_it_is_read() -> None:
    found = {one.name: one for one in refusals.codes()["Refusal"]}
    wanted = {"budget-spent", "queue-full", "quota-session"}
    wanted |= {f"quota-{head}" for head in ("servers", "accelerators", "cpu", "memory", "jobs")}
    assert wanted <= found.keys()
    assert all(found[code].statuses == {"409"} for code in wanted)
    assert "the limit is 1 at once" in found["quota-servers"].texts[0]


def test_texts_of_refusals_are_read_from_branches_tables_and_constants() -> None:
    source = """
ADVICE = "Ask."
TABLE = {"A": ("first", "is gone"), "B": ("second", "is full")}

def make(why, much):
    if much:
        what = "disk"
    else:
        what = "memory"
    code, text = TABLE[why]
    raise Refusal(code, f"It {text}. {ADVICE}")

def other(name):
    text = f"No {name}."
    return StartFailed("late" if name else "early", text, status=503)
"""
    found = [(call.kind, call.code, call.status, call.texts) for call in refusals.read(source)]
    assert found == [
        ("Refusal", "first", "400", ["It is gone. Ask."]),
        ("Refusal", "second", "400", ["It is full. Ask."]),
        ("StartFailed", "late", "503", ["No …."]),
        ("StartFailed", "early", "503", ["No …."]),
    ]


def test_pages_are_written_and_those_of_an_earlier_build_are_gone(tmp_path: Path) -> None:
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "old.md").write_text("# Old")
    write_reference(tmp_path / "generated")
    written = {file.stem: file.read_text(encoding="utf-8") for file in (tmp_path / "generated").iterdir()}
    assert written == pages()
    assert all(text.startswith("# ") for text in written.values())


def test_the_settings_page_has_every_setting_with_its_variable() -> None:
    text = pages()["settings"]
    for setting in SETTINGS:
        assert f"### {setting.name}\n" in text
        assert f"`{setting.variable}`" in text


def test_yaml_of_an_example_reads_back() -> None:
    assert yaml.safe_load(as_yaml(("login", "scopes"), ["openid"])) == {"login": {"scopes": ["openid"]}}
