"""Build the documentation: generate the reference, then run Sphinx with warnings as errors.

    python -m docs.build

The pages are in docs/_build/html. The exit status is Sphinx's.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from docs.generate import pages

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "reference" / "generated"
OUTPUT = HERE / "_build"


def write_reference(folder: Path = GENERATED) -> None:
    """Write the generated pages; pages of an earlier build are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def main() -> int:
    """Generate and build; returns the exit status."""
    write_reference()
    # -E: Sphinx repeats a warning only for pages that it reads again.
    flags = ["-W", "-n", "-E", "--keep-going", "-q", "-b", "html", "-d", str(OUTPUT / "doctrees")]
    status = sphinx([*flags, str(HERE), str(OUTPUT / "html")])
    if status == 0:
        print(f"docs: {OUTPUT / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
