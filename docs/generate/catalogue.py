"""The reference of the catalogue, from the models in `profiles.model`."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generate.markdown import code, prose, sentence, table
from docs.generate.types import models_in, of_field
from profiles.model import Catalogue

__all__ = ["fields", "meaning", "models", "page"]

_INTRODUCTION = """\
# Catalogue

What can be started, in YAML. With examples: [](../../how-to/catalogue.md), and of
hardware [](../../how-to/accelerators.md). Unknown keys are refused, and
every problem is reported at once with file, line, column and path. `armillary check FILE` looks at a catalogue
without starting anything; `armillary schema` prints its JSON Schema for editors.
"""

# What the same name means in every model, where the model itself says no more about it.
_EVERYWHERE = {
    "title": "Name on screen.",
    "description": "One or two sentences on screen.",
    "access": "Who may pick it; everyone where absent.",
    "environment": "Environment variables of the session.",
    "choices": "What may be picked.",
    "default": "What is taken when nothing is picked; the first choice where absent.",
    "minimum": "Smallest value of a range.",
    "maximum": "Largest value of a range.",
    "kubespawner_override": "Settings of KubeSpawner that this changes.",
    "everyone": "Everybody who may log in.",
    "tolerations": "Taints of nodes that sessions with this accelerator may run on.",
    "runtime_class": "RuntimeClass of the pod; the cluster's own default where absent.",
    "key": "Key of the taint.",
    "value": "Value of the taint.",
    "pull_policy": "When the node pulls the image.",
    "accelerators": "Kinds of hardware, by key.",
    "images": "Software of sessions, by key.",
    "profiles": "What a person can start, by key, in the order of the form; or a KubeSpawner `profile_list`.",
    "options": "What may be chosen in this profile.",
}


# What may also be written in a shorter way, which the type of the field does not say.
_WRITTEN = {
    "share": "number or fraction",
    "node_labels": "mapping of text to text or list of text",
    "product": "text or list of text",
}


def models(root: type[BaseModel] = Catalogue) -> list[type[BaseModel]]:
    """The model and every model that it is made of, each once, outermost first."""
    found = [root]
    for model in found:
        for field in model.model_fields.values():
            found += [inner for inner in models_in(field.annotation) if inner not in found]
    return found


def fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model by the name that stands in YAML."""
    for name, field in model.model_fields.items():
        yield str(field.alias or name), field


def meaning(model: type[BaseModel], key: str) -> str:
    """What a field is for."""
    name, field = next((name, field) for name, field in model.model_fields.items() if key in (name, field.alias))
    said = prose(field.description) or _EVERYWHERE.get(name, "")
    if not said and (inner := models_in(field.annotation)):
        return sentence(inner[0].__doc__)
    return said


def page() -> str:
    """The page."""
    heads = ("Key", "Type", "Meaning", "Default")
    parts = [_INTRODUCTION]
    for model in models():
        rows = [
            (code(key), _type(key, field), meaning(model, key), _default(key, field)) for key, field in fields(model)
        ]
        parts += [f"## {model.__name__}\n", prose(model.__doc__) + "\n", table(heads, rows)]
    return "\n".join(parts)


def _type(key: str, field: FieldInfo) -> str:
    return _WRITTEN.get(key) or of_field(field)


def _default(key: str, field: FieldInfo) -> str:
    if key == "default":
        return ""  # worked out from the choices; the meaning says how
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
        return ""
    if isinstance(value, BaseModel):
        return ""  # its own table says what holds where nothing is written
    return code(str(value).lower() if isinstance(value, bool) else value)
