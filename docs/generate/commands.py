"""The reference of the command line, from the parsers of `hub.cli` and the launcher."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docs.generate.markdown import code, table
from hub import cli
from hub.launch import command as launcher

__all__ = ["commands", "page"]

_INTRODUCTION = """\
# Command line

`armillary` is there once the package is installed. In a checkout, `make run` and `make clean` are `armillary run` and
`armillary clean` in an environment that they make first; anything else runs with
`python3 bootstrap.py in run python -m hub.cli …`.

The exit status is 0 when all is well, 1 when problems were found, and 2 when the command line was wrong.
"""


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """The commands of a parser, each with its own parser and its line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (inner, helps.get(name, "")) for name, inner in action.choices.items()}
    return {}


def commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every command with its parser and its line of help; those of the launcher have theirs there."""
    launched = _subparsers(launcher._parser())
    for name, (parser, text) in _subparsers(cli._parser()).items():
        if name in cli.LAUNCHER:
            yield name, launched[name][0], text
        else:
            yield from _with_those_below(name, parser, text)


def _with_those_below(
    name: str, parser: argparse.ArgumentParser, text: str
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """A command, or where it only groups others, those."""
    below = _subparsers(parser)
    if not below:
        yield name, parser, text
    for inner, (its_parser, its_text) in below.items():
        yield from _with_those_below(f"{name} {inner}", its_parser, its_text)


def page() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_entry(name, parser, text) for name, parser, text in commands())])


def _entry(name: str, parser: argparse.ArgumentParser, text: str) -> str:
    vars(parser).update(color=False)  # since Python 3.14 usage is coloured where FORCE_COLOR is set
    rows = [(code(_written(action)), action.help or "") for action in parser._actions if action.dest != "help"]
    usage = " ".join(parser.format_usage().removeprefix("usage:").split())
    parts = [f"## armillary {name}", _sentence(text), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, table(("Argument", "Meaning"), rows)])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _written(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return value
    option = action.option_strings[-1]
    return option if action.nargs == 0 else f"{option} {value}"
