"""CEL selectors of DRA devices: whether the API server and our own counting can make anything of them."""

import json
import re
from collections.abc import Iterator, Sequence

from profiles.syntax import SyntaxProblem, shown

__all__ = ["MOST", "check_selector", "one_spelling"]

MOST = 32
"""Selectors that one request may have (Kubernetes, resource.k8s.io/v1 `DeviceSelectorsMaxSize`)."""

_LONGEST = 10 * 1024
_STRING = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_TOKEN = re.compile(
    r"""
    (?P<nothing>\s+|//[^\n]*)
    | (?P<prefix>[rRbB]{0,2})(?P<quote>\"""|\'\'\'|"|')
    | [A-Za-z_0-9]+(?:\.[0-9]+)? | && | \|\| | [=!<>]= | .
    """,
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DEVICE = re.compile(r"\bdevice\b")
_PLACE = re.compile(r"<input>:(?P<line>\d+):(?P<column>\d+): (?P<said>[^\n]*)")
_EXAMPLE = "write one such as device.attributes['gpu.nvidia.com'].productName == 'NVIDIA L40S'"


def check_selector(expression: str) -> str:
    """An expression that a device must meet, in the Common Expression Language.

    Only the grammar is checked: which attributes a device has, only its driver knows.
    """
    if not expression.strip():
        raise SyntaxProblem(f"is empty; {_EXAMPLE}")
    if len(expression.encode()) > _LONGEST:
        raise SyntaxProblem(f"has more than {_LONGEST} bytes, too long for Kubernetes")
    _parse(expression)
    if not _DEVICE.search(_STRING.sub("", expression)):
        raise SyntaxProblem(f"{shown(expression)} says nothing about the device; {_EXAMPLE}")
    return expression


def one_spelling(expression: str) -> str:
    """Return the same for expressions that differ only in quotes, blanks, comments and brackets around the whole."""
    tokens = list(_tokens(expression))
    while tokens and _is_bracketed(tokens):
        tokens = tokens[1:-1]
    return " ".join(tokens)


def _tokens(expression: str) -> Iterator[str]:
    """Yield the tokens (CEL specification, "Syntax"), strings in one style."""
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            break
        at = found.end()
        quote = found["quote"]
        if quote:
            prefix = found["prefix"].lower()
            end = _end(expression, at, quote, raw="r" in prefix)
            yield prefix.replace("r", "") + json.dumps(_content(expression[at:end], raw="r" in prefix))
            at = end + len(quote)
        elif not found["nothing"]:
            yield found[0]


def _end(expression: str, at: int, quote: str, *, raw: bool) -> int:
    """Return where the string ends whose content begins here."""
    while at < len(expression) and not expression.startswith(quote, at):
        at += 2 if expression[at] == "\\" and not raw else 1
    return min(at, len(expression))


def _content(text: str, *, raw: bool) -> str:
    """Return a string's content with its escape sequences, of which quotes and backslashes can need none."""
    if raw:
        return text.replace("\\", "\\\\")
    return _ESCAPED.sub(lambda found: found[1] if found[1] in "\"'`?" else found[0], text)


def _is_bracketed(tokens: Sequence[str]) -> bool:
    depth = 0
    for place, part in enumerate(tokens):
        depth += (part == "(") - (part == ")")
        if depth == 0:
            return part == ")" and place == len(tokens) - 1
    return False


def _parse(expression: str) -> None:
    import cel  # only catalogues with DRA devices need it

    try:
        cel.compile(expression)
    except ValueError as error:
        found = _PLACE.search(str(error))
        if found is None:
            raise SyntaxProblem(f"{shown(expression)} is no CEL expression") from None
        if found["said"].startswith("unsupported syntax"):
            return  # optional fields (`.?`), which Kubernetes knows and this parser does not
        place = f"at line {found['line']}, column {found['column']}"
        raise SyntaxProblem(f"{shown(expression)} is no CEL expression: {found['said'][:200]} {place}") from None
