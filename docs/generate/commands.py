"""The reference of the command line, from the parsers of `hub.cli`."""

from __future__ import annotations


def page() -> str:
    return "# Command line\n"
