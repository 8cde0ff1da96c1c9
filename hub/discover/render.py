"""Findings as a section of a catalogue: YAML that loads, each line with the evidence it came from.

What is written comes from a cluster and may hold anything: values are quoted as YAML quotes them, comments are made
printable, and an entry that the catalogue would refuse becomes a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from hub.discover.finding import Finding, Inventory, plain
from hub.discover.naming import with_names
from profiles.model import Accelerator
from profiles.wording import explain

__all__ = ["catalogue", "section"]

_COLUMN = 64
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*")
_WORDS = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null")

_REST = """\
images:
  jupyterlab:
    title: JupyterLab
    reference: {reference}  # put your own image here
    local: {{}}
    default_url: /lab
profiles:
  jupyterlab:
    title: JupyterLab
    options:
      image: jupyterlab
      cpu: {{choices: [1, 2, 4], default: 1}}
      memory: {{choices: [2Gi, 4Gi, 8Gi], default: 2Gi}}
"""


def section(inventory: Inventory) -> str:
    """Return the section `accelerators`, ready to be put into a catalogue."""
    return "".join(f"{line}\n" for line in _section(*_checked(inventory), inventory))


def catalogue(inventory: Inventory, reference: str) -> str:
    """Return a whole catalogue: what was found, one image (`reference`) and one profile that offers all of it."""
    good, bad = _checked(inventory)
    choices = ", ".join(["none", *(_scalar(key) for key, _, _ in good)])
    rest = _REST.format(reference=_scalar(reference)) + f"      accelerator: [{choices}]\n"
    return "".join(f"{line}\n" for line in _section(good, bad, inventory)) + rest


_Named = tuple[str, str, Finding]


def _checked(inventory: Inventory) -> tuple[list[_Named], list[str]]:
    """Entries that a catalogue accepts, and why not for the others."""
    good, bad = [], []
    for key, title, finding in with_names(inventory.findings):
        try:
            Accelerator.model_validate({"title": title, **finding.entry})
        except ValidationError as error:
            path, text = explain(error.errors()[0], Accelerator)
            bad.append(f"{plain(title)}: {plain('.'.join(map(str, path)))}: {plain(text, 200)}")
        else:
            good.append((key, title, finding))
    return good, bad


def _section(good: Sequence[_Named], bad: Sequence[str], inventory: Inventory) -> Iterator[str]:
    yield f"# Found by `armillary discover`: {plain(inventory.source, 200)}"
    yield from (f"# Left out: {plain(remark, 300)}" for remark in (*inventory.remarks, *bad))
    if not good:
        yield "accelerators: {}"
        return
    yield "accelerators:"
    for key, title, finding in good:
        yield from (f"  # {plain(note, 300)}" for note in finding.notes)
        yield f"  {_scalar(key)}:"
        yield f"    title: {_scalar(title)}"
        yield from _mapping(finding.entry, finding.evidence, (), 4)


def _mapping(
    values: Mapping[str, Any], evidence: Mapping[tuple[str, ...], str], path: tuple[str, ...], indent: int
) -> Iterator[str]:
    for key, value in values.items():
        here = (*path, key)
        start = f"{' ' * indent}{_scalar(key)}:"
        why = evidence.get(here, "")
        if isinstance(value, Mapping):
            yield _with(start, why)
            yield from _mapping(value, evidence, here, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield _with(start, why)
            yield from (f"{' ' * indent}  - {_flow(item)}" for item in value)
        elif isinstance(value, list):
            yield _with(f"{start} [{', '.join(map(_scalar, value))}]", why)
        else:
            yield _with(f"{start} {_scalar(value)}", why)


def _with(line: str, why: str) -> str:
    return f"{line:<{_COLUMN}}  # {plain(why, 300)}" if why else line


def _flow(item: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{_scalar(key)}: {_scalar(value)}" for key, value in item.items()) + "}"


def _scalar(value: object) -> str:
    """One value on one line."""
    if isinstance(value, bool | int):
        return str(value).lower()
    text = str(value)
    if _BARE.fullmatch(text) and not _WORDS.fullmatch(text):
        return text
    if re.fullmatch(r"[1-9][0-9]*(?:[KMGT]i|/[1-9][0-9]*)", text):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=10**6)
    return quoted.strip()
