"""The form: what may be picked, as cards. Server-rendered, works without script, everything escaped.

The template is compiled once a process, not once a view (KubeSpawner's form took 39-47 ms of the hub's loop).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from profiles.model import Catalogue
from profiles.offers import ProfileOffer
from profiles.quantities import format_cpu, format_memory
from spawner.capacity.availability import Availability
from spawner.options import FORM_PREFIX
from spawner.request import UNLISTED_SUFFIX

__all__ = ["render", "visible"]

_UNITS = {"cpu": "cores", "memory": "memory, such as 4Gi", "count": "how many"}


def visible(shown: Sequence[ProfileOffer], *, hide_not_allowed: bool) -> tuple[ProfileOffer, ...]:
    """Return the offers for the form: all of them, or only those that may be picked."""
    if not hide_not_allowed:
        return tuple(shown)
    return tuple(
        replace(
            profile,
            options=tuple(
                replace(option, offers=tuple(offer for offer in option.offers if offer.reason is None))
                for option in profile.options
            ),
        )
        for profile in shown
        if profile.reason is None
    )


def render(
    shown: Sequence[ProfileOffer],
    *,
    selected: Mapping[str, Any],
    notices: Sequence[str],
    catalogue: Catalogue | None = None,
    availability: Availability | None = None,
    user: str = "",
) -> Markup:
    """Return the inside of JupyterHub's form element.

    Parameters
    ----------
    shown
        Profiles with their options, each open or with the reason why not.
    selected
        Options to pre-select, as `Request.options` returns them.
    notices
        Sentences for the top.
    catalogue, availability, user
        What is free, of what, and for whom; None: nobody counts.
    """
    picked = selected.get("profile") or next((offer.key for offer in shown if offer.reason is None), None)
    html = (
        _environment()
        .get_template("form.html")
        .render(profiles=shown, picked=picked, selected=selected, notices=notices)
    )
    return Markup(html)  # noqa: S704  # rendered with autoescape on


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spawner"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(field=_field, unlisted_suffix=UNLISTED_SUFFIX, units=_UNITS, number=_number)
    return environment


def _field(profile: str, option: str) -> str:
    return f"{FORM_PREFIX}{profile}--{option}"


def _number(option: str, value: Decimal | None) -> str:
    if value is None:
        return ""
    return format_memory(int(value)) if option == "memory" else format_cpu(value) if option == "cpu" else f"{value:f}"
