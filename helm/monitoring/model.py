"""What a dashboard is made of, apart from how Grafana writes it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EXAMPLE", "INSTALLATION", "WINDOW", "Board", "Panel", "Query"]

INSTALLATION = "INSTALLATION"
"""Stands in a query for the label that names the installation, and is replaced before anybody asks it."""

WINDOW = "WINDOW"
"""Stands in a panel's query for the time over which a rate is taken."""

EXAMPLE = "armillary"
"""The installation in the files of alerts; the chart puts its own there."""

Unit = Literal["short", "s", "percentunit", "bytes", "ops", "reqps", "h"]


@dataclass(frozen=True)
class Query:
    """One query, and how each of its series is called (`{{label}}` for a label's value)."""

    text: str
    legend: str

    def shown(self, matcher: str, window: str) -> str:
        """Return it as it is asked, for instance with `installation="lab"` and `5m`."""
        return self.text.replace(INSTALLATION, matcher).replace(WINDOW, window)


@dataclass(frozen=True)
class Panel:
    """One picture; `text` says what it shows and what is worth noticing. `stacked` where the series add up."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    stacked: bool = False
    single: bool = False
    """One number, instead of a course over time."""


@dataclass(frozen=True)
class Board:
    """One dashboard. `key` is its file's name and, after `armillary-`, its uid in Grafana."""

    key: str
    title: str
    text: str
    panels: tuple[Panel, ...]
