"""CEL selectors of DRA devices: whether the API server and our own counting can make anything of them."""

import re

from profiles.syntax import SyntaxProblem, shown

__all__ = ["MOST", "check_selector"]

MOST = 32
"""Selectors that one request may have (Kubernetes, resource.k8s.io/v1 `DeviceSelectorsMaxSize`)."""

_LONGEST = 10 * 1024
_STRING = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
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
