"""The reference pages, made from the code: nobody has to keep them in step."""

from __future__ import annotations

from docs.generate import (
    alerts,
    api,
    catalogue,
    commands,
    metrics,
    overrides,
    refusals,
    rights,
    settings,
    traits,
    values,
)

__all__ = ["pages"]


def pages() -> dict[str, str]:
    """Every generated page: its name without ending, and its Markdown."""
    return {
        "settings": settings.page(),
        "catalogue": catalogue.page(),
        "values": values.page(),
        "traits": traits.page(),
        "commands": commands.page(),
        "refusals": refusals.page(),
        "rights": rights.page(),
        "metrics": metrics.page(),
        **alerts.pages(),
        "overrides": overrides.page(),
        "api": api.page(),
    }
