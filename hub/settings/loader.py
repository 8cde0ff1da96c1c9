"""Load settings: file, then environment over it, then checks; every problem at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hub.settings.model import Settings
from hub.settings.shape import shapes
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
from profiles.syntax import shown
from profiles.wording import explain

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
    """Pydantic's errors as problems with a place, the bad value, and what is legal."""
    problems = []
    for item in error.errors(include_url=False):
        location, text = explain(item, Settings)
        if _confidential(location, item["input"]):
            text = str(item["msg"]).removeprefix("Value error, ")
        elif item["type"] == "value_error":
            text = f"{text}{_found(item['input'])}"
        problems.append(Problem(source.where(location), dotted(location), text))
    return problems


def _found(value: object) -> str:
    return f" (found {shown(value)})" if isinstance(value, str | int | float) else ""


def _confidential(location: Location, value: object) -> bool:
    """Whether a value must not be repeated: secrets, and URLs with a password in them, which are refused everywhere."""
    secrets = {shape.name for shape in shapes(Settings) if shape.kind == "secret"}
    return location in secrets or (isinstance(value, str) and "@" in value and "//" in value)
