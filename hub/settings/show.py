"""The settings in effect as YAML, each with where it comes from; secrets as `***`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from hub.settings.loader import Loaded
from hub.settings.source import Location

COLUMN = 60


def as_yaml(loaded: Loaded) -> str:
    """All settings, in the order of the reference: YAML that says the same, and in comments the origins.

    With its secrets left out it can be given back as a settings file.
    """
    return "".join(_lines(loaded, loaded.settings, ()))


def _lines(loaded: Loaded, section: BaseModel, prefix: Location) -> Iterator[str]:
    indent = "  " * len(prefix)
    for key in type(section).model_fields:
        value, location = getattr(section, key), (*prefix, key)
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:\n"
            yield from _lines(loaded, value, location)
            continue
        line = f"{indent}{key}: {_scalar(value)}"
        yield f"{line:<{COLUMN}}  # {loaded.origins.get(location, 'default')}\n"


def _scalar(value: Any) -> str:
    """One value on one line. JSON is YAML, and quotes whatever could be read as something else."""
    if isinstance(value, SecretStr):
        value = "***"
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    raise TypeError(f"settings cannot be shown: {type(value).__name__}")
