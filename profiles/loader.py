"""A catalogue from YAML; every problem at once, each with file, line, column and path."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from profiles import checks
from profiles.document import Document, Mark, Path, Unreadable, read
from profiles.model import Accelerator, App, Catalogue, Image, Profile
from profiles.overlaps import overlaps
from profiles.profile_list import ListedProfile, check_listed, slug_of, source_path, translate
from profiles.salvage import salvage
from profiles.wording import did_you_mean, explain, legal_keys

__all__ = ["CatalogueError", "Problem", "load", "loads"]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a catalogue."""

    file: str
    line: int
    column: int
    path: str
    """Keys from the root, `profiles.gpu.options.cpu`; empty for the file as a whole."""
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place} {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


class CatalogueError(ValueError):
    """The catalogue cannot be used; `problems` says all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: FilePath, *, allow_weaker_security: bool = False) -> Catalogue:
    """Read a catalogue from a file.

    Args:
        path: UTF-8 YAML.
        allow_weaker_security: accept overrides that weaken a pod's security (`profiles.security` lists them).

    Raises:
        CatalogueError: the file cannot be read, or something in it is wrong.
    """
    name = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CatalogueError([Problem(name, 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        said = f"is not UTF-8 text: the byte 0x{content[error.start]:02x} is not part of a character"
        raise CatalogueError([Problem(name, line, column, "", said)]) from None
    return loads(text, name=name, allow_weaker_security=allow_weaker_security)


def loads(text: str, *, name: str = "catalogue.yaml", allow_weaker_security: bool = False) -> Catalogue:
    """Read a catalogue from text; `name` stands for the file in problems. Otherwise as `load`."""
    try:
        document = read(text)
    except Unreadable as error:
        raise CatalogueError([Problem(name, error.mark.line, error.mark.column, "", error.text)]) from None
    reading = _Reading(document, allow_weaker_security)
    catalogue = reading.catalogue()
    if catalogue is None or reading.problems or document.problems:
        raise CatalogueError(_placed(name, document, reading.problems))
    return catalogue


class _Reading:
    """One pass over a document: what could be read, and what is wrong."""

    def __init__(self, document: Document, allow_weaker_security: bool) -> None:
        self._root = document.value
        self._allow_weaker = allow_weaker_security
        self._accelerators: Mapping[str, Accelerator] = {}
        self.problems: list[tuple[Path, str]] = []

    def catalogue(self) -> Catalogue | None:
        if not isinstance(self._root, Mapping):
            empty = "is empty" if self._root is None else "is no mapping"
            self.problems.append(((), f"{empty}: a catalogue has `profiles`, and mostly `images` and `accelerators`"))
            return None
        legal = legal_keys(Catalogue)
        for key in self._root:
            if key not in legal:
                self._add((key,), f"unknown key{did_you_mean(key, legal)}; legal here: {', '.join(legal)}")
        accelerators = self._accelerators = self._section("accelerators", Accelerator)
        self._extend(list(overlaps(self._sound(accelerators))))
        apps = self._section("apps", App)
        images = self._section("images", Image)
        for key, image in images.items():
            self._extend(checks.check_apps(("images", key, "apps"), image, apps, self._keys("apps")))
        profiles = self._profiles()
        if self.problems:
            return None
        return Catalogue(accelerators=accelerators, apps=apps, images=images, profiles=profiles)

    def _add(self, path: Path, text: str) -> None:
        self.problems.append((path, text))

    def _extend(self, found: Iterable[tuple[Path, str]]) -> None:
        self.problems.extend(found)

    def _section(self, section: str, model: type[M]) -> dict[str, M]:
        entries = self._root.get(section)
        if entries is None:
            return {}
        if not isinstance(entries, Mapping):
            self._add((section,), "must be a mapping from keys to entries")
            return {}
        self._extend(checks.check_keys(section, entries))
        read = {key: self._part((section, key), entry, model) for key, entry in entries.items()}
        return {key: part for key, part in read.items() if part is not None}

    def _sound(self, accelerators: Mapping[str, Accelerator]) -> Mapping[str, Accelerator]:
        """Those that were read whole: what is left of the others may look alike."""
        broken = {path[1] for path, _ in self.problems if path[:1] == ("accelerators",) and len(path) > 2}
        return {key: card for key, card in accelerators.items() if key not in broken}

    def _part(self, path: Path, entry: object, model: type[M]) -> M | None:
        if not isinstance(entry, Mapping):
            self._add(path, f"must be a mapping with {', '.join(legal_keys(model))}")
            return None
        try:
            return model.model_validate(entry)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            for found in errors:
                inner, text = explain(found, model)
                self._add((*path, *inner), text)
            return salvage(entry, errors, model)

    def _profiles(self) -> dict[str, Profile]:
        entries = self._root.get("profiles")
        if not entries and (entries is None or isinstance(entries, Mapping | list)):
            self._add(("profiles",) if "profiles" in self._root else (), "needs at least one profile, in `profiles`")
            return {}
        if isinstance(entries, list):
            return self._listed(entries)
        profiles = self._section("profiles", Profile)
        if isinstance(entries, Mapping) and any(
            "display_name" in e for e in entries.values() if isinstance(e, Mapping)
        ):
            self._add(("profiles",), "a KubeSpawner profile_list is a list here: start each profile with '- '")
        self._check({("profiles", key): profile for key, profile in profiles.items()}, lambda inner: inner)
        for key, profile in profiles.items():
            self._extend(checks.check_names(("profiles", key), profile))
        return profiles

    def _listed(self, entries: list[Any]) -> dict[str, Profile]:
        """The profiles of a KubeSpawner profile_list."""
        read = {index: self._part(("profiles", index), entry, ListedProfile) for index, entry in enumerate(entries)}
        listed = {index: part for index, part in read.items() if part is not None}
        for path, text in check_listed(listed, allow_weaker_security=self._allow_weaker):
            self._add(("profiles", *path), text)
        translated = dict(self._translated(listed))
        self._check({("profiles", index): profile for index, profile in translated.items()}, source_path)
        return {slug_of(listed[index]): profile for index, profile in translated.items()}

    def _translated(self, listed: Mapping[int, ListedProfile]) -> Iterator[tuple[int, Profile]]:
        for index, part in listed.items():
            try:
                yield index, translate(part)
            except ValidationError:
                if not self.problems:  # what does not translate was found before, in the words of a profile_list
                    raise

    def _keys(self, section: str) -> tuple[str, ...]:
        """The keys of a section as written, those of entries that could not be read among them."""
        entries = self._root.get(section)
        return tuple(entries) if isinstance(entries, Mapping) else ()

    def _check(self, profiles: Mapping[Path, Profile], source: Callable[[Path], Path]) -> None:
        """What concerns several parts, each problem where the file has it."""
        accelerators, images = self._keys("accelerators"), self._keys("images")
        for path, profile in profiles.items():
            found = [
                *checks.check_profile((), profile, accelerators, images),
                *checks.check_count((), profile, self._accelerators),
                *checks.check_overrides((), profile, allow_weaker_security=self._allow_weaker),
            ]
            self._extend(((*path, *source(inner)), text) for inner, text in found)
        self._extend(checks.check_default(profiles))


def _placed(name: str, document: Document, found: Iterable[tuple[Path, str]]) -> list[Problem]:
    """The problems with their places, in the order of the file, each once."""
    placed = {Problem(name, mark.line, mark.column, _say(path), text) for path, mark, text in document.problems}
    for path, text in found:
        known, mark = _place(document, path)
        placed.add(Problem(name, mark.line, mark.column, _say(known), text))
    return sorted(placed, key=lambda problem: (problem.line, problem.column, problem.path, problem.text))


def _place(document: Document, path: Path) -> tuple[Path, Mark]:
    """The nearest path that the file has: values that a shorthand or default stands for have no place of their own."""
    known: Path = ()
    for step in path:
        if (*known, step) in document.marks:
            known = (*known, step)
    return known, document.marks.get(known, Mark(1, 1))


def _say(path: Path) -> str:
    said = ""
    for step in path:
        if isinstance(step, int):
            said += f"[{step}]"
        else:
            plain = step.replace("-", "").replace("_", "").replace("/", "").isalnum()
            said += f"{'.' if said else ''}{step if plain else repr(step)}"
    return said
