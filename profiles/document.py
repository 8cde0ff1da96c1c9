"""YAML as plain values that remember where they stood.

Only what JSON can say comes out: mappings with text keys, lists, text, numbers, truth values, nothing. Anchors,
aliases and merge keys (`<<`) work, within limits that make a "billion laughs" a plain error. Two things differ from
YAML 1.1 on purpose: dates stay text, and so do numbers with `_` or `:` in them (1:30 is no 90), which nobody means in
a catalogue.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

__all__ = ["Document", "Mark", "Path", "Unreadable", "read"]

Path = tuple[str | int, ...]

MAX_CHARACTERS = 2**20
MAX_DEPTH = 40
MAX_VALUES = 50_000

_TAG = "tag:yaml.org,2002:"
_KINDS = {"int": "a number", "float": "a number", "bool": "a truth value (yes, no, on and off are)", "null": "empty"}


@dataclass(frozen=True, order=True)
class Mark:
    """A place in the file, counted from 1."""

    line: int
    column: int


class Unreadable(Exception):
    """The text is no YAML that can be worked with; nothing more can be said about it."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


@dataclass
class Document:
    """The value of a file, where its parts stand, and what is wrong with the writing (not the meaning) of it."""

    value: Any = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    """Where each value stands: what has a key, at the key; an item of a list, at itself."""
    problems: list[tuple[Path, Mark, str]] = field(default_factory=list)


def read(text: str) -> Document:
    """Read one YAML document.

    Raises:
        Unreadable: no YAML, several documents, or beyond the limits of size and depth.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(Mark(1, 1), f"is larger than {MAX_CHARACTERS} characters, too large for a catalogue")
    document = Document()
    try:
        node = _Loader(text).get_single_node()
        if node is not None:
            document.value = _Reader(document).value(node, ())
            document.marks[()] = _mark(node)
    except ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Unreadable(mark, f"holds the character {_code(error.character)}, which YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)
        raise Unreadable(mark, _say(error)) from None
    return document


def _code(character: object) -> str:
    return f"U+{ord(character) if isinstance(character, str) else int(str(character)):04X}"


def _say(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or error.context or "is no YAML").replace("but found another document", "found two")
    if "'\\t'" in problem:
        return "a tab cannot indent in YAML: use spaces"
    if error.context == "expected a single document in the stream":
        return "holds more than one document ('---'): a catalogue is one"
    if "mapping values are not allowed here" in problem:
        return "is no YAML: ':' is not allowed here (quote a text that holds ': ', and check the indentation)"
    context = f" ({error.context})" if error.context and error.context != problem else ""
    return f"is no YAML: {problem}{context}"


def _mark(node: Node | yaml.Event) -> Mark:
    start = node.start_mark
    return Mark(start.line + 1, start.column + 1) if start else Mark(1, 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes, down to a limited depth."""

    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.depth > MAX_DEPTH:
            event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
            raise Unreadable(_mark(event), f"is nested deeper than {MAX_DEPTH} levels, too deep for a catalogue")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reader:
    """Makes values of nodes and writes down where they stand."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MAX_VALUES
        self._within: set[int] = set()
        self._scalars = SafeConstructor()

    def value(self, node: Node, path: Path) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Unreadable(
                _mark(node), f"holds more than {MAX_VALUES} values, aliases followed: too many for a catalogue"
            )
        self._document.marks.setdefault(path, _mark(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._within:
            raise Unreadable(_mark(node), "holds itself: an alias (*) points to what it is part of")
        self._within.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
        finally:
            self._within.discard(id(node))
        self._meaningless(path, node)
        return None

    def _say(self, path: Path, mark: Mark, text: str) -> None:
        self._document.problems.append((path, mark, text))

    def _meaningless(self, path: Path, node: Node) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._say(path, _mark(node), f"the tag {tag} means nothing in a catalogue; leave it out")

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for name, key, value in self._pairs(node, path):
            inner = (*path, name)
            self._document.marks[inner] = _mark(key)
            mapping[name] = self.value(value, inner)
        return mapping

    def _pairs(self, node: MappingNode, path: Path) -> list[tuple[str, Node, Node]]:
        """Keys and values, those merged in by `<<` last and only where the mapping has no such key itself."""
        own: dict[str, tuple[str, Node, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged.append(value)
                continue
            name = self._key(key, path)
            if name in own:
                first = _mark(own[name][1])
                self._say((*path, name), _mark(key), f"the key was given before, in line {first.line}")
            elif name is not None:
                own[name] = (name, key, value)
        for source in merged:
            for mapping in self._merged(source, path):
                for name, key, value in mapping:
                    own.setdefault(name, (name, key, value))
        return list(own.values())

    def _merged(self, source: Node, path: Path) -> Iterator[list[tuple[str, Node, Node]]]:
        for node in source.value if isinstance(source, SequenceNode) else [source]:
            self._left -= 1
            if self._left < 0 or id(node) in self._within:
                raise Unreadable(_mark(node), "merges too much, or itself, by '<<'")
            if not isinstance(node, MappingNode):
                self._say(path, _mark(node), "'<<' merges mappings only")
                continue
            self._within.add(id(node))
            try:
                yield self._pairs(node, path)
            finally:
                self._within.discard(id(node))

    def _key(self, key: Node, path: Path) -> str | None:
        if not isinstance(key, ScalarNode):
            self._say(path, _mark(key), "a key must be text, not a list or mapping")
            return None
        kind = key.tag.removeprefix(_TAG)
        if kind in _KINDS and not self._stays_text(key):
            self._say(
                (*path, key.value), _mark(key), f"the key {key.value or '?'} is {_KINDS[kind]}: write it in quotes"
            )
        elif kind not in {"str", "timestamp", "value", *_KINDS}:
            self._meaningless(path, key)
        return str(key.value)

    @staticmethod
    def _stays_text(node: ScalarNode) -> bool:
        """Whether a number is written as only YAML 1.1 writes it."""
        number = node.tag in {_TAG + "int", _TAG + "float"}
        return number and ("_" in node.value or ":" in node.value or len(node.value) > 100)

    def _scalar(self, node: ScalarNode, path: Path) -> str | int | float | bool | None:
        kind = node.tag.removeprefix(_TAG)
        if kind in {"str", "timestamp", "value"} or self._stays_text(node):
            return str(node.value)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return bool(self._scalars.construct_yaml_bool(node))
            if kind == "int":
                return int(self._scalars.construct_yaml_int(node))
            if kind == "float":
                return float(self._scalars.construct_yaml_float(node))
        except (ValueError, KeyError, ConstructorError):
            self._say(path, _mark(node), f"{node.value!r} is not what its tag says")
            return None
        self._meaningless(path, node)
        return None
