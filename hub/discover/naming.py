"""Keys and titles for what was found: legal, short, and each only once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hub.discover.finding import Finding
from profiles.model import NO_ACCELERATOR

__all__ = ["key_of", "with_names"]

_LONGEST = 63


def key_of(text: str) -> str:
    """Return the text as a key of the catalogue."""
    key = re.sub(r"[^a-z0-9.]+", "-", text.lower())
    key = re.sub(r"[-.]*-[-.]*", "-", key).strip("-.")[:_LONGEST].strip("-.")
    return f"accelerator-{key}".rstrip("-") if key in ("", NO_ACCELERATOR) else key


def with_names(findings: Iterable[Finding]) -> Iterator[tuple[str, str, Finding]]:
    """Yield key, title and finding: the shortest name that only one of them wants, numbered where none is left."""
    everything = tuple(findings)
    wanted = [{key for key, _ in finding.names} for finding in everything]
    taken: set[str] = set()
    for at, finding in enumerate(everything):
        others = {key for other, keys in enumerate(wanted) if other != at for key in keys}
        free = [name for name in finding.names if name[0] not in others and name[0] not in taken]
        key, title = free[0] if free else finding.names[-1]
        count = 1
        while key in taken:
            count += 1
            suffix = f"-{count}"
            key = finding.names[-1][0][: _LONGEST - len(suffix)].rstrip("-.") + suffix
            title = f"{finding.names[-1][1]} ({count})"
        taken.add(key)
        yield key, title, finding
