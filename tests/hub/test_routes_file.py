"""The file of routes: whatever is put in is what a reader of TOML finds, and traefik reads it, too."""

from __future__ import annotations

import threading
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.routes_file import RoutesFile, inline

# TOML has no surrogates, and its integers are of 64 bits.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGER = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.one_of(TEXT, INTEGER, st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
CONFIG = st.dictionaries(TEXT, st.dictionaries(TEXT, PLAIN | st.dictionaries(TEXT, VALUE, max_size=3), max_size=3))


def without_empty(config: dict[str, Any]) -> dict[str, Any]:
    """What is left of a configuration in the file: tables with something in them."""
    left = {table: {key: value for key, value in sections.items() if value != {}} for table, sections in config.items()}
    return {table: sections for table, sections in left.items() if sections}


@given(VALUE)
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    assert tomllib.loads(f"it = {inline(value)}") == {"it": value}


@given(CONFIG)
def test_a_file_is_read_as_it_was_written(config: dict[str, Any]) -> None:
    assert tomllib.loads(RoutesFile(Path("unused")).text(config)) == without_empty(config)


def test_nothing_is_left_out_silently_but_none() -> None:
    assert inline({"a": None, "b": [{"c": None}]}) == "{b = [{}]}"
    with pytest.raises(TypeError, match="date cannot be written as TOML"):
        inline({"since": date(2026, 1, 1)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_floats_that_are_no_numbers_are_said_as_toml_says_them(value: float) -> None:
    assert repr(tomllib.loads(f"it = {inline(value)}")["it"]) == repr(value)


def test_a_change_is_written_once_it_is_told(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path / "rules.toml")
    config = {"http": {"routers": {"a": {"rule": "old"}, "b": {"rule": "same"}}}}
    file.write(file.text(config))
    config["http"]["routers"]["a"]["rule"] = "new"
    file.forget({"http": {"routers": {"a": {}}}, "tls": "whatever", "udp": {"x": 1}})
    file.write(file.text(config))

    assert file.load() == config


def test_whoever_reads_finds_one_of_the_two(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path / "rules.toml")
    texts = [file.text({"http": {"routers": {f"r{n}": {"rule": str(kind)} for n in range(500)}}}) for kind in (1, 2)]
    file.write(texts[0])
    over, read = threading.Event(), []

    def reads() -> None:
        while not over.is_set():
            read.append(file.path.read_text())

    reader = threading.Thread(target=reads)
    reader.start()
    for n in range(200):
        file.write(texts[n % 2])
    over.set()
    reader.join()

    assert set(read) <= set(texts)
    assert [one.name for one in tmp_path.iterdir()] == ["rules.toml"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path / "rules.toml")
    file.write("a = 1")

    with pytest.raises(UnicodeEncodeError):
        file.write("\ud800")

    assert file.path.read_text() == "a = 1"
    assert [one.name for one in tmp_path.iterdir()] == ["rules.toml"]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    # The hash of the API's password is in it.
    file = RoutesFile(tmp_path / "rules.toml")
    file.write("a = 1")

    assert file.path.stat().st_mode & 0o777 == 0o600
