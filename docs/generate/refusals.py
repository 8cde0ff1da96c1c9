"""The table of refusals and failures, read from the source: every code, its status, and the text a user sees."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from docs.generate.markdown import code, table
from hub.quotas.budgets import Used
from hub.quotas.check import Broken, breaks
from hub.quotas.holdings import Holdings
from hub.quotas.model import HEADS, Limit, Limits, parse_field

__all__ = ["Code", "codes", "page"]

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("spawner", "hub")
DYNAMIC = "…"
KINDS = {"Refusal": "400", "StartFailed": "502", "Reason": ""}
"""The calls that make a code, and the status where none is given."""

_DEPENDS = "The text depends on the case."
_INTRODUCTION = """\
# Refusals and failures

Every "no" has a short, stable code. It is sent as the header `Armillary-Refusal` and written to the log. `…` stands for
a name or value. The texts of limits (`quota-…`, `budget-spent`, `queue-full`) are examples.
"""


@dataclass
class Code:
    """One code, with everything that is said under it."""

    name: str
    statuses: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Call:
    kind: str
    code: str
    status: str
    texts: list[str]


class _Reader(ast.NodeVisitor):
    """Finds the calls that make refusals and reads codes and texts from them."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[_Call] = []
        self._tables = _tables(tree)
        self._constants = _constants(tree)
        self._row: dict[str, ast.expr] = {}
        self._function: ast.AST = tree

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._function = self._function, node
        self.generic_visit(node)
        self._function = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # ast's name

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in KINDS and node.args:
            given = {word.arg: word.value for word in node.keywords}
            text = node.args[1] if len(node.args) > 1 else given.get("text")
            status = given.get("status")
            said = str(status.value) if isinstance(status, ast.Constant) else KINDS[name]
            self.found += [_Call(name, code, said, texts) for code, texts in self._pairs(node.args[0], text)]
        self.generic_visit(node)

    def _pairs(self, code: ast.expr, text: ast.expr | None) -> Iterator[tuple[str, list[str]]]:
        """Codes with their texts; where both stand in one row of a table, each code has the texts of its own row."""
        rows = self._rows_of(code) if isinstance(code, ast.Name) else []
        for row in rows or [{}]:
            self._row = row
            texts = self._texts(text) if text is not None else []
            for one in self._texts(code):
                if one and DYNAMIC not in one:
                    yield one, texts
        self._row = {}

    def _texts(self, node: ast.expr) -> list[str]:
        """The texts that an expression can have; `…` where it depends on the moment."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.IfExp):
            return [*self._texts(node.body), *self._texts(node.orelse)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _products([self._texts(node.left), self._texts(node.right)])
        if isinstance(node, ast.JoinedStr):
            pieces = (piece.value if isinstance(piece, ast.FormattedValue) else piece for piece in node.values)
            return _products([self._texts(piece) for piece in pieces])
        if isinstance(node, ast.Name):
            return self._named(node) or [DYNAMIC]
        return [DYNAMIC]

    def _named(self, name: ast.Name) -> list[str]:
        if name.id in self._row:
            return self._texts(self._row[name.id])
        if name.id in self._constants:
            return [self._constants[name.id]]
        texts: list[str] = []
        for value in self._values(name):
            texts += [text for text in self._texts(value) if text not in texts]
        return texts

    def _values(self, name: ast.Name) -> list[ast.expr]:
        """What a local name can hold where it is used: its nearest assignment, or all those of the nearest `if`."""
        assigned = [(node, value) for node, value in _assignments(self._function, name.id) if node.lineno < name.lineno]
        if not assigned:
            return []
        nearest, value = assigned[-1]
        for branch in ast.walk(self._function):
            if isinstance(branch, ast.If) and _spans(branch, nearest) and not _spans(branch, name):
                return [one for node, one in assigned if _spans(branch, node)]
        return [value]

    def _rows_of(self, code: ast.Name) -> list[dict[str, ast.expr]]:
        """For `code, text = TABLE[key]`: what each name holds, row by row."""
        for node in ast.walk(self._function):
            if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)):
                continue
            names = [item.id if isinstance(item, ast.Name) else "" for item in node.targets[0].elts]
            value = node.value
            if code.id in names and isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
                return [dict(zip(names, row.elts, strict=True)) for row in self._tables.get(value.value.id, [])]
        return []


def _assignments(function: ast.AST, name: str) -> list[tuple[ast.Assign, ast.expr]]:
    """Every assignment to a local name, by line."""
    found = []
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == name:
            found.append((node, node.value))
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = zip(target.elts, node.value.elts, strict=True)
            found += [(node, value) for item, value in pairs if isinstance(item, ast.Name) and item.id == name]
    return sorted(found, key=lambda pair: pair[0].lineno)


def _spans(outer: ast.stmt, inner: ast.stmt | ast.expr) -> bool:
    return outer.lineno <= inner.lineno <= (outer.end_lineno or outer.lineno)


def _products(pieces: list[list[str]]) -> list[str]:
    return ["".join(choice) for choice in itertools.product(*pieces)]


def _tables(tree: ast.Module) -> Mapping[str, list[ast.Tuple]]:
    """Module-level mappings whose values are tuples, such as code and text by Kubernetes' word for it."""
    found: dict[str, list[ast.Tuple]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found[target.id] = [value for value in node.value.values if isinstance(value, ast.Tuple)]
    return found


def _constants(tree: ast.Module) -> Mapping[str, str]:
    """Module-level texts."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def read(source: str) -> list[_Call]:
    """Every call in a module's source that makes a code."""
    tree = ast.parse(source)
    reader = _Reader(tree)
    reader.visit(tree)
    return reader.found


def codes() -> dict[str, list[Code]]:
    """Codes by the kind of thing that carries them: `Refusal`, `StartFailed` and `Reason`."""
    kinds: dict[str, dict[str, Code]] = {}
    for file in sorted(file for folder in _FOLDERS for file in (_ROOT / folder).rglob("*.py")):
        for call in read(file.read_text(encoding="utf-8")):
            entry = kinds.setdefault(call.kind, {}).setdefault(call.code, Code(call.code))
            entry.statuses.add(call.status)
            said = [re.sub("…+", DYNAMIC, text).strip() for text in call.texts]
            known = [text if text.strip(" .…") else _DEPENDS for text in said]
            entry.texts += [text for text in dict.fromkeys(known) if text not in entry.texts]
    for broken in _limits():
        entry = kinds["Refusal"].setdefault(broken.code, Code(broken.code, {"409"}))
        entry.texts.append(broken.text)
    return {kind: sorted(found.values(), key=lambda one: one.name) for kind, found in kinds.items()}


def _limits() -> Iterator[Broken]:
    """Every limit, broken: their codes and texts are made by `hub.quotas.check`, from what is limited.

    As an example of each, somebody who has all of a small limit asks for one more.
    """
    have = Holdings(1, Decimal(1), {}, 1000, 2**30, 1, 1)
    for head in HEADS:
        field = parse_field("hours:week" if head == "hours" else head)
        value = Decimal(0) if head == "session_s" else max(have.amount(field), Decimal(1))
        small = Limits({field: Limit(value, "default")})
        used: Used = {("week", ""): 3600.0}
        yield from breaks(small, have, used, have)


def page() -> str:
    """The page."""
    found = codes()
    parts = [_INTRODUCTION]
    for kind, title, text in (
        ("Refusal", "Refusals", "The request was not granted; nothing was started or changed."),
        ("StartFailed", "Failed starts", "The request was granted, but the server could not be started."),
        (
            "Reason",
            "What keeps a pod from running",
            "Found in the pod's status and events (kubernetes engine). A start that cannot heal fails with this code.",
        ),
    ):
        rows = [_row(one) for one in found.get(kind, [])]
        parts += [f"## {title}\n", f"{text}\n", table(("Code", "HTTP status", "What the user reads"), rows)]
    return "\n".join(parts)


def _row(one: Code) -> tuple[str, str, str]:
    return code(one.name), ", ".join(sorted(one.statuses)), "<br>".join(one.texts)
