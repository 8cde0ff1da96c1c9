"""Named code blocks of the documentation, so that tests can try them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"^```\{code-block\} \w+\n:caption: (?P<caption>[^\n]+)\n\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One block: where it stands, and what it holds."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def pages() -> list[Path]:
    """Every hand-written page of the documentation, and the texts at the top of the repository."""
    written = [page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.relative_to(DOCS).parts)]
    return sorted([*written, *ROOT.glob("*.md")])


def blocks(caption: str) -> list[Block]:
    """The blocks with this caption."""
    return list(_blocks(caption))


def _blocks(caption: str) -> Iterator[Block]:
    for page in pages():
        found = (match for match in _BLOCK.finditer(page.read_text(encoding="utf-8")) if match["caption"] == caption)
        for number, match in enumerate(found, 1):
            yield Block(str(page.relative_to(ROOT)), number, match["text"])
