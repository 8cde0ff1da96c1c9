"""What kind of value a field takes, in words."""

from __future__ import annotations

import collections.abc
import types
import typing
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

__all__ = ["describe", "models_in", "of_field"]

_NAMES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    Decimal: "number",
    Path: "path",
    SecretStr: "secret",
    Any: "any value",
    object: "any value",
}
_LISTS = (tuple, list, frozenset, set)
_MAPPINGS = (dict, collections.abc.Mapping)


def of_field(field: FieldInfo) -> str:
    """The type of a field of a model, with its limits."""
    limits = field.metadata
    if _quantity(limits):
        return "quantity"
    if not limits and typing.get_origin(field.annotation) in (Union, types.UnionType):
        # Limits of an optional value are on its one alternative.
        return describe(field.annotation)
    return describe(field.annotation) + _limits(limits)


def describe(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return "quantity" if _quantity(arguments[1:]) else describe(arguments[0]) + _limits(arguments[1:])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments if part is not type(None))
    if origin in _LISTS:
        return f"list of {describe(arguments[0])}" if arguments else "list"
    if origin in _MAPPINGS:
        return f"mapping of {describe(arguments[0])} to {describe(arguments[1])}"
    if annotation in _NAMES:
        return _NAMES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return str(getattr(annotation, "__name__", annotation))


def _quantity(metadata: Any) -> bool:
    """Whether a number may also be written with a unit, as Kubernetes does: its JSON Schema says so."""
    for piece in metadata:
        kinds = getattr(piece, "json_schema", None) or {}
        if {kind.get("type") for kind in kinds.get("anyOf", ())} == {"number", "string"}:
            return True
    return False


def _limits(metadata: Any) -> str:
    low = high = None
    for piece in metadata:
        for limit in getattr(piece, "metadata", None) or [piece]:
            if isinstance(limit, annotated_types.Ge):
                low = f"{limit.ge:,}"
            elif isinstance(limit, annotated_types.Gt):
                low = f"above {limit.gt}"
            elif isinstance(limit, annotated_types.Le):
                high = f"{limit.le:,}"
    if low and high:
        return f", {low} to {high}".replace(",", " ").replace("  ", ", ", 1)
    if low:
        return f", {low} or more" if not low.startswith("above") else f", {low}"
    return f", at most {high}" if high else ""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type names, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for part in typing.get_args(annotation):
        found += [model for model in models_in(part) if model not in found]
    return found
