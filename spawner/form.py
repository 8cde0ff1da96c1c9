"""The form: what may be picked, as cards. Server-rendered, works without script, everything escaped.

The template is compiled when this module is loaded, not once a view (KubeSpawner's form took 39-47 ms of the loop).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from profiles.model import NO_ACCELERATOR, Catalogue
from profiles.offers import OptionOffer, ProfileOffer
from profiles.quantities import format_cpu, format_memory
from spawner.capacity.availability import Availability
from spawner.capacity.card import Card, card, fits_line
from spawner.capacity.grant import placed_by_hand
from spawner.capacity.shown import shown as counts
from spawner.capacity.shown import utc_text
from spawner.options import FORM_PREFIX
from spawner.request import UNLISTED_SUFFIX

__all__ = ["render", "visible"]

_LONGEST_COUNT = 9
"""Digits of a number of accelerators; what else was typed is shown again, and refused when it is sent."""

_UNITS = {"cpu": " cores", "memory": ", such as 4Gi"}


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
    server: str = "",
    nodes_may_appear: bool = False,
    by_hand: bool = False,
) -> Markup:
    """Return the inside of JupyterHub's form element.

    Parameters
    ----------
    shown
        Profiles with their options, each open or with the reason why not.
    selected
        Options to pre-select, as `Request.options` returns them, or as a refused form gave them; what is not
        possible is passed over.
    notices
        Sentences for the top.
    catalogue, availability, user
        What is free, of what, and for whom; None: nobody counts.
    server
        Name of the server that is started; empty for the default one.
    nodes_may_appear
        The cluster makes nodes when pods wait, so that a full accelerator may be asked for.
    by_hand
        Only the scheduler knows what fits, whichever profile it is.
    """
    picked = _picked(shown, selected)
    html = _TEMPLATE.render(
        profiles=shown,
        picked=picked,
        server=server,
        selected=selected if selected.get("profile", picked) == picked else {},
        notices=notices,
        live=None
        if availability is None or catalogue is None
        else _Live(shown, availability, catalogue, user, by_hand),
        nodes_may_appear=nodes_may_appear,
    )
    return Markup(html)  # noqa: S704  # rendered with autoescape on


def _picked(shown: Sequence[ProfileOffer], selected: Mapping[str, Any]) -> str | None:
    possible = [offer for offer in shown if offer.reason is None]
    keys = [offer.key for offer in possible]
    if selected.get("profile") in keys:
        return str(selected["profile"])
    return next((offer.key for offer in possible if offer.default), next(iter(keys), None))


def _value(option: OptionOffer, selected: Mapping[str, Any]) -> str:
    """Return what the option's control shows: the selected value where it is possible, else the default."""
    value = selected.get(option.key)
    possible = {offer.key for offer in option.offers if offer.reason is None}
    if value is None or (option.offers and str(value) not in possible):
        value = option.default
    return "" if value is None else str(value)


@dataclass(frozen=True)
class _Live:
    """The counts, as the template asks for them. Only accelerators that may be picked have any."""

    shown: Sequence[ProfileOffer]
    availability: Availability
    catalogue: Catalogue
    user: str
    all_by_hand: bool

    def _titles(self) -> Iterator[tuple[str, str]]:
        yield NO_ACCELERATOR, ""
        for profile in self.shown:
            for option in profile.options:
                if option.key == "accelerator":
                    yield from (
                        (offer.key, offer.title)
                        for offer in option.offers
                        if offer.reason is None and offer.key != NO_ACCELERATOR
                    )

    @property
    def json(self) -> Markup:
        """The same as the service's API gives, for the script."""
        return htmlsafe_json_dumps(counts(self.availability, self.user, dict(self._titles())))

    @property
    def fresh(self) -> bool:
        """Whether they may be taken for the truth."""
        return self.availability.fresh

    @property
    def as_of(self) -> str:
        """When they were true, as `2026-11-21T15:00:00Z`; empty: never."""
        return utc_text(self.availability.as_of) if self.availability.as_of else ""

    def card(self, accelerator: str) -> Card | None:
        """What a card says; None for sessions without accelerator."""
        return None if accelerator == NO_ACCELERATOR else card(self.availability, accelerator, self.user)

    def fits(self, profile: ProfileOffer, selected: Mapping[str, Any]) -> str:
        """What fits beside the accelerator that is picked when the form opens."""
        if self.by_hand(profile):
            return ""
        values = {option.key: _value(option, selected) for option in profile.options}
        picked = values.get("accelerator", NO_ACCELERATOR)
        if picked == NO_ACCELERATOR or picked not in self.catalogue.accelerators:
            return fits_line(self.availability, None, "", 0)
        count = values.get("count", "1")
        title = dict(self._titles()).get(picked, self.catalogue.accelerators[picked].title)
        readable = count.isdecimal() and len(count) <= _LONGEST_COUNT
        return fits_line(self.availability, picked, title, int(count) if readable else 1)

    def by_hand(self, profile: ProfileOffer) -> bool:
        """Whether only the scheduler knows what fits."""
        return self.all_by_hand or placed_by_hand(self.catalogue.profiles.get(profile.key))


def _compiled() -> Template:
    environment = Environment(
        loader=PackageLoader("spawner"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        field=_field, unlisted_suffix=UNLISTED_SUFFIX, units=_UNITS, number=_number, value_of=_value
    )
    return environment.get_template("form.html")


def _field(profile: str, option: str) -> str:
    return f"{FORM_PREFIX}{profile}--{option}"


def _number(option: str, value: Decimal | None) -> str:
    if value is None:
        return ""
    return format_memory(int(value)) if option == "memory" else format_cpu(value) if option == "cpu" else f"{value:f}"


_TEMPLATE = _compiled()  # while the hub is loaded: it takes as long as twenty views
