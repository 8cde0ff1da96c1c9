"""The table of the chart's values, from `helm.values`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from docs.generate.markdown import code, table
from helm.values import Values
from hub.settings.shape import section_of

__all__ = ["page"]

_INTRODUCTION = """\
# Values of the chart

What `helm install --values` takes. A name that is not listed here, or a value of another type, is refused before
anything is made. Below `settings` stands what [armillary.yaml](settings.md) knows, below `catalogue` a
[catalogue](catalogue.md), below `quotas` a [file of quotas](../../how-to/quotas.md). What the chart itself knows
(addresses of its parts, paths, the engine, where its secrets lie) wins over `settings`.
"""


def page() -> str:
    """The page: a table for each value at the top that has others in it, and one for those that have none."""
    single: list[tuple[str, str, str]] = []
    parts: list[str] = []
    empty = Values.model_construct()
    for name, field in Values.model_fields.items():
        key, section = field.alias or name, section_of(field.annotation)
        if section is None:
            single.append((code(key), _default(getattr(empty, name)), field.description or ""))
        else:
            rows = list(_rows(section, getattr(empty, name), (key,)))
            parts += [f"## {code(key)}\n", f"{field.description}\n", table(("Value", "Default", "Meaning"), rows)]
    return "\n".join([_INTRODUCTION, table(("Value", "Default", "Meaning"), single), *parts])


def _rows(model: type[BaseModel], value: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        below, default = (*path, field.alias or name), getattr(value, name)
        section = section_of(field.annotation)
        if section is not None:
            yield from _rows(section, default, below)
        else:
            yield code(".".join(below)), _default(default), field.description or _parent(model)


def _parent(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _default(value: Any) -> str:
    """A default as YAML would have it in one line; a long one is in the file of values."""
    text = json.dumps(value, ensure_ascii=False, default=lambda one: one.model_dump(by_alias=True, exclude_none=True))
    return code(text) if len(text) <= 80 else "see `values.yaml`"
