"""The file that traefik reads its routes from (TOML 1.0), written so that one more route costs one more line.

jupyterhub-traefik-proxy 2.1 writes the whole file anew with the package `toml` for each route, in the hub's loop:
0.2 to 0.4 s beside 2,000 routes. Here what was written once is kept as text.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["RoutesFile", "inline"]

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


class RoutesFile:
    """One file; for one writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[tuple[str, str, str], str] = {}

    def load(self) -> dict[str, Any]:
        """Return what it says.

        Raises
        ------
        OSError
            It cannot be read, or is not there (`FileNotFoundError`).
        tomllib.TOMLDecodeError
            It is not TOML.
        """
        with self.path.open("rb") as file:
            return tomllib.load(file)

    def forget(self, changed: Mapping[str, Any]) -> None:
        """Write anew what has these names: `{"http": {"routers": {"the name": …}}}`."""
        for table, sections in changed.items():
            for section, entries in sections.items() if isinstance(sections, Mapping) else ():
                for name in entries if isinstance(entries, Mapping) else ():
                    self._lines.pop((table, section, name), None)

    def text(self, config: Mapping[str, Any]) -> str:
        """Return the whole file: a header for each table of tables, a line for each entry; what is empty is left out,
        which traefik does not take (3.7)."""
        plain: list[str] = []
        headed: list[str] = []
        for table, sections in config.items():
            if not isinstance(sections, Mapping):
                plain.append(f"{_key(table)} = {inline(sections)}")
                continue
            for section, entries in sections.items():
                if not isinstance(entries, Mapping):
                    plain.append(f"{_key(table)}.{_key(section)} = {inline(entries)}")
                elif entries:
                    headed.append(f"\n[{_key(table)}.{_key(section)}]")
                    headed += [self._line(table, section, name, entry) for name, entry in entries.items()]
        return "\n".join([*plain, *headed, ""])

    def write(self, text: str) -> None:
        """Replace the file at once, so that nobody reads half of it; blocks."""
        number, draft = tempfile.mkstemp(prefix=f"{self.path.name}-", dir=self.path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(draft, self.path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

    def _line(self, table: str, section: str, name: str, entry: object) -> str:
        found = self._lines.get((table, section, name))
        if found is None:
            found = self._lines[table, section, name] = f"{_key(name)} = {inline(entry)}"
        return found


def inline(value: object) -> str:
    """Return a value as TOML in one line; entries of None are left out, since TOML has no such thing.

    Raises
    ------
    TypeError
        TOML cannot say this.
    """
    if isinstance(value, Mapping):
        entries = (f"{_key(str(name))} = {inline(one)}" for name, one in value.items() if one is not None)
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return _quoted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as TOML")


def _key(name: str) -> str:
    return name if _BARE.match(name) else _quoted(name)


def _quoted(text: str) -> str:
    # What JSON escapes TOML escapes alike; JSON leaves DEL as it is, which TOML does not take.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
