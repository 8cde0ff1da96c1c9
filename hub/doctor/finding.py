"""What was looked at, how it is, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Finding", "Grade", "as_json", "as_lines", "good", "problem", "unseen", "warning"]

Grade = Literal["good", "warning", "problem", "unseen"]


@dataclass(frozen=True)
class Finding:
    """One thing. `unseen`: it could not be looked at from here, which need not mean anything."""

    area: str
    grade: Grade
    text: str
    to_do: str = ""


def good(area: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(area, "good", text)


def warning(area: str, text: str, to_do: str) -> Finding:
    """It works, or will for a while."""
    return Finding(area, "warning", text, to_do)


def problem(area: str, text: str, to_do: str) -> Finding:
    """Something that people need does not work."""
    return Finding(area, "problem", text, to_do)


def unseen(area: str, text: str) -> Finding:
    """It could not be looked at."""
    return Finding(area, "unseen", text)


def as_lines(findings: list[Finding]) -> list[str]:
    """Return lines for a terminal: an area's findings together, problems with what to do below them."""
    words = {"good": "ok      ", "warning": "warning ", "problem": "PROBLEM ", "unseen": "unseen  "}
    lines, area = [], ""
    for one in findings:
        if one.area != area:
            area = one.area
            lines.append(f"{area}")
        lines.append(f"  {words[one.grade]} {one.text}")
        if one.to_do:
            lines.append(f"           -> {one.to_do}")
    return lines


def as_json(findings: list[Finding]) -> list[dict[str, str]]:
    """Return the findings for programs."""
    return [asdict(one) for one in findings]
