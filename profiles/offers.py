"""What a person may pick on an engine, and why not where not.

The form draws exactly this and the parser accepts exactly this, so that what is greyed is also refused and the other
way round.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from profiles.access import Person, reason_not_allowed
from profiles.apps import NO_APP, App
from profiles.model import (
    NO_ACCELERATOR,
    Accelerator,
    Access,
    Catalogue,
    ChoiceOption,
    Engine,
    Image,
    NamedOption,
    NumberOption,
    Profile,
    Unlisted,
)
from profiles.overrides import kubernetes_only
from profiles.quantities import format_cpu, format_memory, say_memory

__all__ = ["Offer", "OptionOffer", "ProfileOffer", "granted_apps", "most_at_once", "offers", "title_of"]


@dataclass(frozen=True)
class Offer:
    """One thing to pick; a reason says, in words for the person, why it may not be picked.

    The rest is about accelerators. A simulated one has the word in its title too, so that it is read wherever the
    title is. `at_most` is how many one session can have where the catalogue knows it, else None. `family` is what
    belongs together, such as A100.
    """

    key: str
    title: str
    description: str
    reason: str | None
    simulated: bool = field(default=False, kw_only=True)
    at_most: int | None = field(default=None, kw_only=True)
    family: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class OptionOffer:
    """One option of a profile.

    `default` is what is picked when the person says nothing: the catalogue's default where they may pick it, else the
    first offer that they may pick, else None. For a range, `offers` is empty and `minimum`, `maximum` (cores, bytes,
    cards) are set. Keys and defaults of numbers are quantities: `500m`, `2Gi`, `1`. `unlisted` is set where a text of
    one's own may be typed; where there is such a field that may not be used, an offer `unlisted-choice` gives the
    reason instead.
    """

    key: str
    title: str
    kind: Literal["named", "number", "choice"]
    offers: tuple[Offer, ...]
    default: str | None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    unlisted: Unlisted | None = None
    description: str = ""


@dataclass(frozen=True)
class ProfileOffer(Offer):
    """One profile with its options."""

    options: tuple[OptionOffer, ...]
    default: bool


def offers(catalogue: Catalogue, person: Person, engine: Engine) -> tuple[ProfileOffer, ...]:
    """Every profile of the catalogue, in its order.

    The default is the catalogue's where the person may start it, else the first that they may start.
    """
    made = [
        _profile_offer(key, profile, _Asker(catalogue, person, engine), default=key == catalogue.default_profile)
        for key, profile in catalogue.profiles.items()
    ]
    if not any(offer.default and offer.reason is None for offer in made):
        chosen = next((offer.key for offer in made if offer.reason is None), catalogue.default_profile)
        made = [_with_default(offer, offer.key == chosen) for offer in made]
    return tuple(made)


def _with_default(offer: ProfileOffer, default: bool) -> ProfileOffer:
    return ProfileOffer(offer.key, offer.title, offer.description, offer.reason, options=offer.options, default=default)


@dataclass(frozen=True)
class _Asker:
    """Who asks for what where; answers whether single things may be had."""

    catalogue: Catalogue
    person: Person
    engine: Engine

    def refuses(self, access: Access) -> str | None:
        return reason_not_allowed(access, self.person)

    def lacks(self, override: Mapping[str, Any]) -> str | None:
        """Why the engine cannot do what the override says."""
        keys = kubernetes_only(override) if self.engine == "local" else ()
        return f"only on Kubernetes: uses {', '.join(keys)}" if keys else None

    def image(self, key: str) -> Offer:
        image = self.catalogue.images[key]
        return Offer(key, image.title, image.description, self.refuses(image.access) or self._not_startable(image))

    def _not_startable(self, image: Image) -> str | None:
        if self.engine == "local":
            return "only on Kubernetes: it is a container image" if image.local is None else None
        return "only where sessions run on one machine: it is no container image" if image.reference is None else None

    def accelerator(self, key: str) -> Offer:
        if key == NO_ACCELERATOR:
            return Offer(key, "None", "CPU only", None)
        card = self.catalogue.accelerators[key]
        return Offer(
            key,
            title_of(card, self.engine),
            card.description,
            self.refuses(card.access) or self._not_handed_out(card),
            simulated=_is_simulated(card, self.engine),
            at_most=most_at_once(card, self.engine),
            family=card.family,
        )

    def apps(self, profile: Profile) -> tuple[Offer, ...]:
        """The ways to open a session of a profile: of each image that may be picked, its applications, each once."""
        keys = profile.options.image.choices if profile.options.image else ()
        images = [self.catalogue.images[key] for key in keys if self.image(key).reason is None]
        found = dict.fromkeys(name for image in images for name in image.apps)
        return tuple(self._app(name, self.catalogue.apps[name]) for name in found)

    def _app(self, key: str, app: App) -> Offer:
        return Offer(key, app.title, app.description, self.refuses(app.access))

    def _not_handed_out(self, card: Accelerator) -> str | None:
        if self.engine == "local":
            return f"this machine hands out no {card.title}" if card.local is None and card.simulated is None else None
        return "this cluster hands it out in no way that the catalogue knows" if card.kubernetes is None else None


def _is_simulated(card: Accelerator, engine: Engine) -> bool:
    return engine == "local" and card.simulated is not None


def granted_apps(catalogue: Catalogue, image: str | None, person: Person) -> dict[str, App]:
    """Return the applications that a session of this image has for this person, in the image's order."""
    names = catalogue.images[image].apps if image is not None else ()
    apps = {name: catalogue.apps[name] for name in names}
    return {name: app for name, app in apps.items() if reason_not_allowed(app.access, person) is None}


def title_of(card: Accelerator, engine: Engine) -> str:
    """What an accelerator is called on the engine's pages: its title, and that it is simulated where it is."""
    return f"{card.title} (simulated)" if _is_simulated(card, engine) else card.title


def most_at_once(card: Accelerator, engine: Engine) -> int | None:
    """How many one session can have at most as far as the catalogue knows; None: it does not say."""
    known = [card.per_node, card.simulated.count if card.simulated and engine == "local" else None]
    return min((number for number in known if number is not None), default=None)


def _profile_offer(key: str, profile: Profile, asker: _Asker, *, default: bool) -> ProfileOffer:
    options = tuple(_option_offers(profile, asker))
    reason = (
        asker.refuses(profile.access) or asker.lacks(profile.kubespawner_override) or next(_dead_ends(options), None)
    )
    return ProfileOffer(key, profile.title, profile.description, reason, options=options, default=default)


def _dead_ends(options: Iterable[OptionOffer]) -> Iterator[str]:
    """Reasons of options in which nothing may be picked, so that the profile cannot be started at all."""
    for option in options:
        if option.offers and option.unlisted is None and all(offer.reason for offer in option.offers):
            reasons = dict.fromkeys(offer.reason for offer in option.offers if offer.reason)
            yield f"{option.title}: {'; '.join(reasons)}"


def _option_offers(profile: Profile, asker: _Asker) -> Iterator[OptionOffer]:
    options = profile.options
    if options.image:
        yield _named("image", "Image", options.image, asker.image)
    if apps := asker.apps(profile):
        made = (Offer(NO_APP, "JupyterLab", "", None), *apps)
        yield OptionOffer("app", "Open with", "named", made, NO_APP)
    if options.accelerator:
        yield _named("accelerator", "Accelerator", options.accelerator, asker.accelerator)
    if options.count:
        yield _number("count", "Number of accelerators", options.count, _say_plain, _say_plain)
    if options.cpu:
        yield _number("cpu", "CPU cores", options.cpu, format_cpu, _say_plain)
    if options.memory:
        yield _number("memory", "Memory", options.memory, _memory_key, lambda size: say_memory(int(size)))
    for key, option in options.choices.items():
        yield _choice(key, option, asker)


def _say_plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _memory_key(size: Decimal) -> str:
    return format_memory(int(size))


def _named(key: str, title: str, option: NamedOption, offer: Callable[[str], Offer]) -> OptionOffer:
    made = tuple(offer(choice) for choice in option.choices)
    return OptionOffer(key, title, "named", made, _default(made, option.default))


def _number(
    key: str, title: str, option: NumberOption, to_key: Callable[[Decimal], str], say: Callable[[Decimal], str]
) -> OptionOffer:
    made = tuple(Offer(to_key(choice), say(choice), "", None) for choice in option.choices)
    return OptionOffer(key, title, "number", made, to_key(option.default), option.minimum, option.maximum)


def _choice(key: str, option: ChoiceOption, asker: _Asker) -> OptionOffer:
    made = [
        Offer(
            name,
            choice.title,
            choice.description,
            asker.refuses(choice.access) or asker.lacks(choice.kubespawner_override),
        )
        for name, choice in option.choices.items()
    ]
    unlisted = option.unlisted
    reason = asker.lacks(unlisted.kubespawner_override) if unlisted else None
    if unlisted and reason:
        made.append(Offer(ChoiceOption.UNLISTED, unlisted.in_choices, "", reason))
        unlisted = None
    default = _default(tuple(made), option.default) if option.choices else None
    return OptionOffer(
        key, option.title, "choice", tuple(made), default, unlisted=unlisted, description=option.description
    )


def _default(made: tuple[Offer, ...], wanted: str | None) -> str | None:
    """The wanted one where it may be picked, else the first that may be picked."""
    free = [offer.key for offer in made if offer.reason is None]
    return wanted if wanted in free else next(iter(free), None)
