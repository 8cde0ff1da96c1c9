"""What can still be read of a broken entry, so that the problems of its sound parts are told in the same breath."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["salvage"]

M = TypeVar("M", bound=BaseModel)

_ROUNDS = 8
_PLACEHOLDER = "x"
"""Stands for what is missing; every text that the models require may be this."""


def salvage(entry: Mapping[str, Any], errors: Iterable[ErrorDetails], model: type[M]) -> M | None:
    """The entry without its bad values, or None where nothing is left.

    For finding further problems only: what pruning itself breaks is pruned too, without a word.
    """
    pruned = copy.deepcopy(dict(entry))
    for _ in range(_ROUNDS):
        for error in errors:
            if not _prune(pruned, error):
                return None
        try:
            return model.model_validate(pruned)
        except ValidationError as failed:
            errors = failed.errors(include_url=False)
    return None


def _prune(root: dict[str, Any], error: ErrorDetails) -> bool:
    """Take out of the nearest mapping what the error is about; whether there was such a thing."""
    path = error["loc"]
    if error["type"] == "missing" and (holder := _mapping_at(root, path[:-1])) is not None:
        holder[str(path[-1])] = _PLACEHOLDER
        return True
    for length in range(len(path), 0, -1):
        holder = _mapping_at(root, path[: length - 1])
        if holder is not None:
            holder.pop(str(path[length - 1]), None)  # absent where an earlier error has taken it out
            return True
    return False


def _mapping_at(root: dict[str, Any], path: tuple[int | str, ...]) -> dict[str, Any] | None:
    found: Any = root
    for step in path:
        if isinstance(found, dict):
            found = found.get(str(step))
        elif isinstance(found, list) and isinstance(step, int) and step < len(found):
            found = found[step]
        else:
            return None
    return found if isinstance(found, dict) else None
