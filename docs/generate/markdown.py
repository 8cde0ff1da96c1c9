"""Pieces of Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

__all__ = ["as_yaml", "cell", "code", "prose", "sentence", "table"]


def code(value: object) -> str:
    """A value as inline code."""
    text = str(value)
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def cell(text: str) -> str:
    """Text that can stand in a table: one line, no bar."""
    return " ".join(text.split()).replace("|", "\\|")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def prose(text: str | None) -> str:
    """A docstring or help text as paragraphs, each on one line."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("``", "`")


def sentence(text: str | None) -> str:
    """The first paragraph of a docstring, with a full stop."""
    first = prose(text).split("\n\n", 1)[0]
    return first if not first or first.endswith((".", "!", "?", ":")) else first + "."


def as_yaml(path: Sequence[str], value: Any) -> str:
    """A setting as it stands in a YAML file."""
    for key in reversed(path):
        value = {key: value}
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).rstrip("\n")
