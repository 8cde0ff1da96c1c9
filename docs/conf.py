"""Sphinx' configuration. Build with `python -m docs.build`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "Armillary"
copyright = "the Armillary contributors"  # Sphinx' name
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "docs.directives"]
exclude_patterns = ["_build", "README.md"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Armillary {release}"
html_static_path = ["static"]
html_css_files = ["armillary.css"]
html_copy_source = False
html_show_sphinx = False
