"""The reference of settings, from the models in `hub.settings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.generate.markdown import as_yaml, code, prose, table
from docs.generate.types import models_in, of_field
from hub.settings import Settings
from hub.settings.shape import section_of

__all__ = ["Setting", "page", "settings"]

_INTRODUCTION = """\
# Settings

One file, `armillary.yaml`, and environment variables that override it. How to use them:
[](../../how-to/settings.md). Where relative paths count from: in the file, from the file's own folder; in a
variable, from the working directory.
"""


@dataclass(frozen=True)
class Setting:
    """One setting as the reference shows it."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return "ARMILLARY_" + "__".join(self.path).upper()

    @property
    def secret(self) -> bool:
        return "SecretStr" in str(self.field.annotation)

    @property
    def example(self) -> Any:
        return (self.field.examples or [None])[0]

    @property
    def unit(self) -> str:
        extra = self.field.json_schema_extra
        return str(extra.get("unit", "")) if isinstance(extra, Mapping) else ""


def settings(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, in the order of the models; sections are not settings."""
    for key, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is None:
            yield Setting((*path, key), field)
        else:
            yield from settings(section, (*path, key))


def page() -> str:
    """The page."""
    top = [setting for setting in settings() if len(setting.path) == 1]
    parts = [_INTRODUCTION, "## General\n", *map(_entry, top)]
    for key, field in Settings.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            parts += [f"## {key}\n", prose(section.__doc__) + "\n", *map(_entry, settings(section, (key,)))]
            parts += [_model(model) for setting in settings(section, (key,)) for model in _own(setting.field)]
    return "\n".join(parts)


def _own(field: FieldInfo) -> list[type[BaseModel]]:
    """The models of a setting's values that only settings have; the others are described with the catalogue."""
    return [model for model in models_in(field.annotation) if model.__module__.startswith("hub.")]


def _model(model: type[BaseModel]) -> str:
    """What each value of a list says."""
    rows = [(code(name), of_field(field), prose(field.description)) for name, field in model.model_fields.items()]
    return f"### {model.__name__}\n\n{prose(model.__doc__)}\n\n{table(('Key', 'Type', 'Meaning'), rows)}"


def _entry(setting: Setting) -> str:
    kind = of_field(setting.field)
    if not _own(setting.field):
        kind = kind.replace("](#", "](catalogue.md#")
    facts = [f"Type: {kind}" + (f", in {setting.unit}" if _is_number(setting) else "")]
    default = _default(setting)
    if default:
        facts.append(f"Default: {default}")
    facts.append(f"Environment: `{setting.variable}`")
    if setting.secret:
        example = f"```sh\n{setting.variable}='{setting.example}'\n```"
    else:
        example = f"```yaml\n{as_yaml(setting.path, setting.example)}\n```"
    label = f"(setting-{'-'.join(setting.path).replace('_', '-')})="
    heading = f"{label}\n### {setting.name}"
    lines = [heading, prose(setting.field.description), "\n".join(f"- {fact}" for fact in facts), example]
    return "\n\n".join(lines) + "\n"


def _is_number(setting: Setting) -> bool:
    return setting.unit not in ("", "uid", "gid", "bytes")


def _default(setting: Setting) -> str:
    value = setting.field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, ""):
        return ""  # the description says what happens then
    if isinstance(value, SecretStr):
        return "`***`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`" if isinstance(value, Path | str) else f"{value}"
