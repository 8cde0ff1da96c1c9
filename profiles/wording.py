"""What pydantic found, in words for whoever writes a catalogue: what is wrong, what is legal, what was probably
meant."""

import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from profiles.document import Path
from profiles.syntax import SyntaxProblem, shown

__all__ = ["did_you_mean", "explain", "legal_keys"]

_NEEDED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def did_you_mean(written: object, legal: Iterable[str]) -> str:
    """` (did you mean x?)`, or nothing where nothing is near."""
    near = get_close_matches(str(written).lower(), sorted(legal), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def explain(error: ErrorDetails, model: type[BaseModel]) -> tuple[Path, str]:
    """Where the error lies below a value that was read as `model`, and what to say about it."""
    loc, kind, given = error["loc"], error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, SyntaxProblem):
        return (*loc, *cause.at), str(cause)
    if cause is not None:
        return loc, str(cause)
    if kind == "extra_forbidden":
        legal = legal_keys(model, loc[:-1])
        return loc, f"unknown key{did_you_mean(loc[-1], legal)}; legal here: {', '.join(legal)}"
    if kind == "missing":
        return loc[:-1], f"needs {loc[-1]!r}"
    if kind in _NEEDED:
        return loc, f"must be {_NEEDED[kind]}, {_got(given, quote=kind == 'string_type')}"
    if kind == "literal_error":
        return loc, f"must be {context['expected']}, {_got(given)}"
    return loc, f"{_lower(error['msg'])}, {_got(given)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _got(given: object, *, quote: bool = False) -> str:
    if given is None:
        return "but nothing is written here"
    if isinstance(given, Mapping):
        return "got a mapping"
    if isinstance(given, list | tuple):
        return "got a list"
    if isinstance(given, bool):
        return f"got {str(given).lower()}{'; write it in quotes' if quote else ''}"
    if quote and isinstance(given, int | float):
        return f"got the number {given}; write it in quotes"
    return f"got {shown(given)}"


def legal_keys(model: type[BaseModel], path: Path = ()) -> tuple[str, ...]:
    """The keys that are legal at a path below a model."""
    found: Any = model
    for step in path:
        found = _below(found, step)
    found = _bare(found)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return tuple(entry.alias or name for name, entry in found.model_fields.items())
    return ()


def _below(annotation: Any, step: str | int) -> Any:
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        for name, entry in bare.model_fields.items():
            if step in (name, entry.alias):
                return entry.annotation
        return None
    arguments = get_args(bare)
    if not arguments:
        return None
    return arguments[0] if isinstance(step, int) else arguments[-1]


def _bare(annotation: Any) -> Any:
    """The type below Annotated and `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(inner for inner in get_args(annotation) if inner is not type(None))
        else:
            return annotation
