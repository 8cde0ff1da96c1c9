"""CEL selectors: which are one and the same, written differently."""

from __future__ import annotations

import json

import pytest

from profiles.loader import CatalogueError, loads
from profiles.selectors import one_spelling

ONE = "device.attributes['gpu.nvidia.com'].productName == 'L40S'"


@pytest.mark.parametrize(
    "other",
    [
        'device.attributes["gpu.nvidia.com"].productName == "L40S"',
        "device.attributes['gpu.nvidia.com'].productName=='L40S'",
        "((device.attributes['gpu.nvidia.com'] . productName == 'L40S'))",
        'device.attributes[r"""gpu.nvidia.com"""].productName == \n"L40S" // the large one',
    ],
)
def test_two_accelerators_with_one_selector_in_two_spellings_are_refused(other: str) -> None:
    def card(key: str, selector: str) -> str:
        dra = f"{{device_class: gpu.nvidia.com, selectors: [{json.dumps(selector)}]}}"
        return f"  {key}: {{title: {key}, kubernetes: {{dra: {dra}}}}}\n"

    text = f"accelerators:\n{card('a', ONE)}{card('b', other)}"
    text += "images:\n  lab: {title: L, reference: r.example/l:1}\n"
    text += "profiles:\n  p: {title: P, options: {image: lab, accelerator: [none, a, b]}}\n"
    with pytest.raises(CatalogueError, match="claims the same devices as 'a'"):
        loads(text)


@pytest.mark.parametrize(
    "other",
    [
        "device.attributes['gpu.nvidia.com'].productName == 'L40 S'",
        "device.attributes['gpu.nvidia.com'].productName != 'L40S'",
        "device.attributes['gpu.nvidia.com'].productName == b'L40S'",
        "device.attributes['gpu.nvidia.com'].productName == L40S",
        "device.attributes['gpu.nvidia.com'].productName == 'L40S//'",
        "device.attributes['gpu.nvidia.com'].productName == 'l40s'",
    ],
)
def test_other_tokens_are_another_selector(other: str) -> None:
    assert one_spelling(other) != one_spelling(ONE)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("device.x == 'a\"b'", 'device.x == "a\\"b"', True),
        ("device.x == r'a\\d'", "device.x == 'a\\\\d'", True),
        ("device.x == r'a\\n'", "device.x == 'a\\n'", False),
        ("device.x == 'a\\\\\"'", "device.x == 'a\\\"'", False),
        ("(device.x) && (device.y)", "device.x && device.y", False),
        ("'a' in device.x", "'a'in device.x", True),
        ("device.x && y", "device.xy", False),
    ],
)
def test_quotes_escapes_and_brackets(one: str, other: str, same: bool) -> None:
    assert (one_spelling(one) == one_spelling(other)) is same
