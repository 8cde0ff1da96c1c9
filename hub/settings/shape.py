"""Questions about the settings model: which settings exist, and of what kind they are."""

import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

Kind = Literal["section", "secret", "path", "list", "mapping", "value"]


@dataclass(frozen=True)
class Shape:
    """One setting: its dotted name, what kind of value it takes, and whether that is a list of paths."""

    name: tuple[str, ...]
    kind: Kind
    paths: bool = False

    @property
    def dotted(self) -> str:
        return ".".join(self.name)


def _parts(annotation: Any) -> Iterator[Any]:
    """Every class named in an annotation, through Optional, Annotated and tuple[…]."""
    yield annotation
    for inner in typing.get_args(annotation):
        if not isinstance(inner, str | int | float):
            yield from _parts(inner)


def _kind(annotation: Any) -> Kind:
    origins = [typing.get_origin(part) or part for part in _parts(annotation)]
    # The outermost decides: a mapping of lists is a mapping.
    outermost = next((origin for origin in origins if origin in (tuple, list, dict)), None)
    if outermost is not None:
        return "mapping" if outermost is dict else "list"
    if SecretStr in origins:
        return "secret"
    if Path in origins:
        return "path"
    return "value"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a setting holds, if it is a section."""
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def shapes(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[Shape]:
    """Every setting of a model, sections before what is in them."""
    for key, field in model.model_fields.items():
        name = (*prefix, key)
        section = section_of(field.annotation)
        if section is not None:
            yield Shape(name, "section")
            yield from shapes(section, name)
            continue
        paths = any(part is Path for part in _parts(field.annotation))
        yield Shape(name, _kind(field.annotation), paths)
