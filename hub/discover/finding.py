"""What was found, before it is written down: one accelerator with the evidence for each of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "Inventory", "named", "plain"]

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One kind of hardware.

    Parameters
    ----------
    names
        What to call it, each as (key, title), the shortest first: the first one that is still free is taken.
    entry
        What follows the title in the catalogue, in the order in which it is written.
    evidence
        Why a line says what it says, by the path to it within `entry`.
    notes
        What else there is to know, a line each.
    """

    names: tuple[tuple[str, str], ...]
    entry: Mapping[str, Any]
    evidence: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """All that was found, where (`source`), and what was left out with the reason (`remarks`)."""

    source: str
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()


def plain(text: object, longest: int = 120) -> str:
    """Return text from a cluster as one printable line that is not too long, so that it cannot leave the comment or
    the value in which it is shown.
    """
    line = " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def named(names: Iterable[str], what: str = "node") -> str:
    """Return `3 nodes: a, b, …`."""
    found = sorted(names)
    shown = ", ".join(plain(name, 40) for name in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}: {shown}"
