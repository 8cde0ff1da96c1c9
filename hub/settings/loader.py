"""Load settings: file, then environment over it, then checks; every problem at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hub.settings.model import Settings
from hub.settings.shape import did_you_mean, section_of, shapes
from hub.settings.source import (
    FILE_VARIABLE,
    Location,
    Place,
    Problem,
    Source,
    dotted,
    from_yaml,
    override,
    refuse_inline_secrets,
)

DEFAULT_FILE = "armillary.yaml"
LARGEST_FILE_BYTES = 1_000_000


class SettingsError(ValueError):
    """The settings cannot be used; `problems` has every reason, `str()` one line each."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Loaded:
    """Settings together with where each value was written; what is in neither file nor environment is a default."""

    settings: Settings
    file: Path | None
    origins: Mapping[Location, Place]


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this installation.

    `path` is the settings file; without it `$ARMILLARY_SETTINGS`, else `armillary.yaml` in the working directory where
    there is one, else defaults. Raises SettingsError with every problem of file and environment.
    """
    return load_with_origins(path, environ).settings


def load_with_origins(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """As `load`, and tells where each value comes from."""
    file = _find(path, environ)
    name = _short(file) if file else DEFAULT_FILE
    source = from_yaml(_read(file, name), name) if file else Source()
    known = list(shapes(Settings))
    refuse_inline_secrets(source, known)
    override(source, known, environ)
    base = file.absolute().parent if file else Path.cwd()
    problems = list(source.problems)
    settings = None
    try:
        settings = Settings.model_validate(source.values, context={"base": base})
    except ValidationError as error:
        problems += _translate(error, source)
    if problems or settings is None:
        raise SettingsError(sorted(problems))
    return Loaded(settings, file, dict(source.origins))


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    here = Path(DEFAULT_FILE)
    return here if here.is_file() else None


def _short(file: Path) -> str:
    """The file's name as it is easiest to find: relative where it lies below the working directory."""
    absolute = file.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _read(file: Path, name: str) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError([Problem(Place(0, 0, name), "", f"cannot be read: {error.strerror}")]) from error
    if len(raw) > LARGEST_FILE_BYTES:
        raise SettingsError(
            [Problem(Place(0, 0, name), "", f"larger than {LARGEST_FILE_BYTES} bytes: not a settings file")]
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError([Problem(Place(0, 0, name), "", f"not UTF-8 text: byte {error.start} is wrong")]) from error


def _translate(error: ValidationError, source: Source) -> list[Problem]:
    """Pydantic's errors as problems with a place and, for unknown names, the nearest legal one."""
    problems = []
    for item in error.errors(include_url=False, include_context=True):
        location: Location = item["loc"]
        problems.append(Problem(source.where(location), dotted(location), _say(item, location, source)))
    return problems


def _say(item: Any, location: Location, source: Source) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown setting; {did_you_mean(str(location[-1]), _legal(location[:-1]))}"
    text = str(item["msg"]).removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    found = _value_at(source.values, location)
    # A URL with a password in it is one of the things that are refused: not to be repeated in a log.
    if _secret(location) or isinstance(found, dict | list) or found is None or "@" in str(found):
        return text
    return f"{text} (found {str(found)!r:.80})"


def _secret(location: Location) -> bool:
    return any(shape.kind == "secret" and shape.name == location for shape in shapes(Settings))


def _legal(location: Location) -> list[str]:
    model: type[BaseModel] = Settings
    for key in location:
        section = section_of(model.model_fields[str(key)].annotation)
        if section is None:
            break
        model = section
    return list(model.model_fields)


def _value_at(values: Any, location: Location) -> Any:
    for key in location:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values
