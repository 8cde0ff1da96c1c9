"""Where settings come from: a YAML file, of which every value's line and column is kept, and environment variables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from hub.settings.shape import Shape
from profiles import document

PREFIX = "ARMILLARY_"
FILE_VARIABLE = "ARMILLARY_SETTINGS"
# Variables with our prefix that are no settings: they belong to the launcher, to a session or to the tests.
OTHERS = (
    FILE_VARIABLE,
    "ARMILLARY_CACHE",
    "ARMILLARY_LAB_",
    "ARMILLARY_LAUNCH_",
    "ARMILLARY_SPAWN_",
    "ARMILLARY_TEST_",
)

Location = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: `armillary.yaml:3:5`, or the name of an environment variable (line 0)."""

    line: int
    column: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with the settings, and where it was written; problems sort in the order of the file."""

    where: Place
    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.where} {self.setting}: {self.text}" if self.setting else f"{self.where}: {self.text}"


@dataclass
class Source:
    """Values as nested dicts, and for each of them where it was written."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, location: Location) -> Place:
        """Where a value, or the nearest thing around it, was written."""
        for end in range(len(location), -1, -1):
            if found := self.origins.get(location[:end]):
                return found
        return Place(0, 0, "defaults")


def one_line(error: BaseException) -> str:
    """An exception's text without its line breaks."""
    return " ".join(str(error).split())


def dotted(location: Iterable[str | int]) -> str:
    """`("login", "scopes", 0)` as `login.scopes[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def from_yaml(text: str, name: str) -> Source:
    """Read the settings file's text; every problem that YAML itself can have is in `problems`."""
    source = Source()
    try:
        found = document.read(text)
    except document.Unreadable as error:
        source.problems.append(Problem(_place(name, error.mark), "", _reworded(error.text)))
        return source
    source.origins = {path: _place(name, mark) for path, mark in found.marks.items()}
    for path, mark, said in found.problems:
        source.problems.append(Problem(_place(name, mark), dotted(path), _reworded(said)))
    if isinstance(found.value, dict):
        # A section whose every line is commented out is empty, not wrong.
        source.values = {key: value for key, value in found.value.items() if value is not None}
    elif found.value is not None:
        text = "settings must be a mapping of names to values, such as 'engine: local'"
        source.problems.append(Problem(_place(name, found.marks[()]), "", text))
    return source


def _place(name: str, mark: document.Mark) -> Place:
    return Place(mark.line, mark.column, name)


def _reworded(text: str) -> str:
    """The reader of YAML was written for catalogues, and says so."""
    return text.replace("a catalogue", "a settings file")


def refuse_inline_secrets(source: Source, known: Iterable[Shape]) -> None:
    """Take secrets out of what the file says and tell, for each, where it belongs instead."""
    for shape in known:
        if shape.kind != "secret":
            continue
        holder: Any = source.values
        for key in shape.name[:-1]:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and holder.get(shape.name[-1]) is not None:
            del holder[shape.name[-1]]
            text = (
                "a secret must not stand in this file: write it into a file of its own (mode 0600) and name that as "
                f"{shape.dotted}_file, or set the environment variable {variable_of(shape)}"
            )
            source.problems.append(Problem(source.where(shape.name), shape.dotted, text))


def variable_of(shape: Shape) -> str:
    """The environment variable that overrides a setting: `ARMILLARY_LOGIN__ISSUER`."""
    return PREFIX + "__".join(shape.name).upper()


def override(source: Source, known: Iterable[Shape], environ: Mapping[str, str]) -> None:
    """Put the `ARMILLARY_…` variables over the file's values.

    Lists are comma-separated or a YAML list, mappings are YAML, everything else is taken as it is; paths count from the
    working directory, because a variable has no folder of its own.
    """
    legal = {variable_of(shape): shape for shape in known if shape.kind != "section"}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable.startswith(OTHERS):
            continue
        shape = legal.get(variable)
        if shape is None:
            near = get_close_matches(variable, legal, n=1, cutoff=0.6)
            text = f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"
            source.problems.append(Problem(Place(0, 0, variable), "", text))
            continue
        try:
            value = _parse(shape, environ[variable])
        except yaml.YAMLError as error:
            source.problems.append(Problem(Place(0, 0, variable), shape.dotted, f"not YAML: {one_line(error)}"))
            continue
        _set(source, shape, variable, value)


def _set(source: Source, shape: Shape, variable: str, value: object) -> None:
    holder = source.values
    for key in shape.name[:-1]:
        inner = holder.get(key)
        if not isinstance(inner, dict):
            inner = {}
            holder[key] = inner
        holder = inner
    for location in [known for known in source.origins if known[: len(shape.name)] == shape.name]:
        del source.origins[location]
    holder[shape.name[-1]] = value
    source.origins[shape.name] = Place(0, 0, variable)


def _parse(shape: Shape, text: str) -> Any:
    """The text of a variable as the kind of value its setting takes. Raises yaml.YAMLError."""
    if shape.kind == "list" and not text.lstrip().startswith("["):
        items: list[Any] = [item.strip() for item in text.split(",") if item.strip()]
    elif shape.kind in ("list", "mapping"):
        parsed = yaml.safe_load(text)
        if shape.kind == "mapping" or not isinstance(parsed, list):
            return parsed
        items = parsed
    else:
        return Path.cwd() / text if shape.paths else text
    return [Path.cwd() / item if shape.paths and isinstance(item, str) else item for item in items]
