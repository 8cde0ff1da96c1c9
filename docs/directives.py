"""Our own directives: screenshots and tables that tests have made, where they have; a drawing in the page's colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.other import TocTree
from sphinx.util.docutils import SphinxDirective

SCREENSHOTS = Path(__file__).resolve().parent / "screenshots"


class Screenshot(SphinxDirective):
    """`{screenshot} form.png` with its description as content: nothing where the picture has not been taken.

    `:dark:` names the picture for dark mode. The description is alternative text and caption in one.
    """

    required_arguments = 1
    has_content = True
    option_spec = {"dark": directives.unchanged, "width": directives.unchanged}  # docutils' way

    def run(self) -> list[nodes.Node]:
        light, dark = self.arguments[0], self.options.get("dark")
        for name in filter(None, (light, dark)):
            self.env.note_dependency(str(SCREENSHOTS / name))
        if not (SCREENSHOTS / light).is_file():
            return []
        text = " ".join(self.content)
        if dark is None or not (SCREENSHOTS / dark).is_file():
            return [self._figure(light, text, [])]
        return [self._figure(light, text, ["only-light"]), self._figure(dark, text, ["only-dark"])]

    def _figure(self, name: str, text: str, classes: list[str]) -> nodes.figure:
        image = nodes.image(uri=f"/screenshots/{name}", alt=text, classes=["screenshot"])
        if "width" in self.options:
            image["width"] = self.options["width"]
        return nodes.figure("", image, nodes.caption(text, text), classes=classes)


class Drawing(SphinxDirective):
    """`{drawing} architecture.svg`: the SVG inside the page, where the theme's colours reach it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        svg = Path(path).read_text(encoding="utf-8")
        return [nodes.raw("", f'<div class="drawing">{svg}</div>', format="html")]


class Measured(TocTree):
    """`{measured}` with patterns of pages: a toctree of those that are there, which may be none yet."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        if not any(list(folder.glob(f"{pattern}.md")) for pattern in self.content):
            return []
        self.options["glob"] = None
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directives known."""
    app.add_directive("screenshot", Screenshot)
    app.add_directive("drawing", Drawing)
    app.add_directive("measured", Measured)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
