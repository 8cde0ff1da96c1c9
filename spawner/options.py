"""The one parser of options: HTML form, REST body, GET query, named servers and saved options.

All doors give the same flat mapping, which is also KubeSpawner's: ``profile``, one key an option, and
``<option>--unlisted-choice`` for the text of an unlisted choice. Whatever is not known is refused, with the
legal values; a value never reaches a message whole, only its first characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from profiles.access import Person
from profiles.model import NO_ACCELERATOR, NO_APP, Catalogue, ChoiceOption, Engine
from profiles.offers import OptionOffer, ProfileOffer, offers
from profiles.quantities import QuantityError, format_cpu, parse_quantity, say_memory
from spawner.refusal import Refusal
from spawner.request import ACCOUNT, UNLISTED_SUFFIX, Chosen, Request

__all__ = ["FORM_PREFIX", "MAX_TEXT", "from_form", "parse", "parse_saved"]

MAX_TEXT = 1000
"""Characters that any one value may have. Image references and paths are shorter; a form is not a place for files."""

FORM_PREFIX = "profile-option-"
"""Form fields are named ``profile-option-<profile>--<option>``, as KubeSpawner names them."""

_FORM_EXTRAS = frozenset({"_xsrf", "profile"})
# Fields that JupyterHub itself puts into a form.

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Line breaks and characters that turn the direction of writing: never wanted in a one-line value. Halves of a
# surrogate pair, which JSON can carry, are no text at all: no page and no environment can hold them.


def parse(options: Mapping[str, object], catalogue: Catalogue, person: Person, engine: Engine) -> Request:
    """Return what these options ask for.

    Raises
    ------
    Refusal
        400 for what does not exist or has a bad value, 403 for what this person may not start.
    """
    known = {offer.key: offer for offer in offers(catalogue, person, engine)}
    profile = _profile(options.get("profile"), known)
    answers = {key: value for key, value in options.items() if key != "profile"}
    if _says_one_card(answers, profile):
        del answers["count"]
    account = None if any(option.key == ACCOUNT for option in profile.options) else _account(answers.pop(ACCOUNT, None))
    _refuse_unknown(answers, profile)
    found: dict[str, str | Decimal | None] = {}
    choices: list[Chosen] = []
    for option in profile.options:
        if option.kind == "choice":
            choices.append(_choice(option, answers))
        elif option.kind == "number":
            found[option.key] = _number(option, answers.get(option.key))
        else:
            found[option.key] = _named(option, answers.get(option.key))
    accelerator = _text(found.get("accelerator"))
    declined = accelerator == NO_ACCELERATOR
    accelerator = None if declined else accelerator
    cpu, memory, count = found.get("cpu"), found.get("memory"), found.get("count")
    if accelerator is not None and isinstance(count, Decimal):
        _refuse_more_than_one_node_has(profile, accelerator, int(count))
    image = _text(found.get("image"))
    return Request(
        profile=profile.key,
        image=image,
        app=_app(_text(found.get("app")), image, catalogue),
        cpu=cpu if isinstance(cpu, Decimal) else None,
        memory=int(memory) if isinstance(memory, Decimal) else None,
        accelerator=accelerator,
        count=0 if accelerator is None else int(count) if isinstance(count, Decimal) else 1,
        choices=tuple(choices),
        account=account,
        declined=declined,
    )


def _account(value: object) -> str | None:
    """Return what is to be charged, in its form; whether this person may charge it is for the hub to say."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _bad_type(ACCOUNT, value, "a text such as group:NAME")
    kind, _, name = _checked(ACCOUNT, value).partition(":")
    if kind not in ("user", "group") or not name:
        raise Refusal("bad-value", f"{ACCOUNT}: {_show(value)} is no account. Write user:NAME or group:NAME.")
    return value


def _app(app: str | None, image: str | None, catalogue: Catalogue) -> str | None:
    """Return what the session opens with; a profile's images need not have the same applications."""
    if app is None or app == NO_APP or image is None:
        return None
    has = catalogue.images[image]
    if app not in has.apps:
        title = catalogue.apps[app].title
        legal = ", ".join([NO_APP, *has.apps])
        raise Refusal(
            "unknown-choice", f"Open with: “{title}” is not in the image “{has.title}”. Choose one of: {legal}."
        )
    return app


def _refuse_more_than_one_node_has(profile: ProfileOffer, accelerator: str, count: int) -> None:
    cards = (offer for option in profile.options if option.key == "accelerator" for offer in option.offers)
    card = next(offer for offer in cards if offer.key == accelerator)
    if card.at_most is not None and count > card.at_most:
        raise Refusal(
            "out-of-range",
            f"Number of accelerators: {count} is not possible. At most {card.at_most} {card.title} can be had at once.",
        )


def parse_saved(
    options: Mapping[str, object], catalogue: Catalogue, person: Person, engine: Engine
) -> tuple[Request, str | None]:
    """Return the request that was saved, or the default one and a notice where it is no longer possible.

    A profile that is taken out of the catalogue must not lock anybody out (kubespawner#902).
    """
    try:
        return parse(options, catalogue, person, engine), None
    except Refusal as refusal:
        request = parse({}, catalogue, person, engine)
        title = catalogue.profiles[request.profile].title
        return request, f"Your last choice is no longer possible: {refusal.text} Starting “{title}” instead."


def from_form(form: Mapping[str, Sequence[object]], catalogue: Catalogue) -> dict[str, object]:
    """Return the options in a submitted form or query; each field arrives as a list of its values.

    A form without script sends the fields of every profile, so those of the profiles not picked are left out;
    but a field that no profile has is refused, as are files and fields given twice.
    """
    picked = _single("profile", form["profile"]) if "profile" in form else None
    options: dict[str, object] = {} if picked is None else {"profile": picked}
    for name, values in form.items():
        if name in _FORM_EXTRAS:
            continue
        if not name.startswith(FORM_PREFIX):
            # the plain name of an option, as in a link: /hub/spawn?opt-profile=gpu&opt-cpu=4
            options[name] = _single(name, values)
            continue
        profile, _, option = name.removeprefix(FORM_PREFIX).partition("--")
        if profile not in catalogue.profiles or not option:
            raise Refusal("unknown-option", f"The form has no field {_show(name)}. Reload the page and choose again.")
        if profile == picked:
            value = _single(name, values)
            if value != "":  # an empty number or text field means "not filled in"
                options[option] = value
    return _without_hidden_texts(options)


def _without_hidden_texts(options: dict[str, object]) -> dict[str, object]:
    """A form sends the field for an unlisted choice also while a listed one is picked: then it does not count."""
    picked = {key for key, value in options.items() if value != ChoiceOption.UNLISTED}
    return {
        key: value
        for key, value in options.items()
        if not (key.endswith(UNLISTED_SUFFIX) and key.removesuffix(UNLISTED_SUFFIX) in picked)
    }


def _profile(value: object, known: Mapping[str, ProfileOffer]) -> ProfileOffer:
    if value is None or value == "":
        return _default_profile(list(known.values()))
    profile = known.get(value) if isinstance(value, str) else None
    if profile is None:
        open_to_you = [key for key, offer in known.items() if offer.reason is None]
        raise Refusal("unknown-profile", f"There is no profile {_show(value)}. Choose one of: {_list(open_to_you)}.")
    if profile.reason is not None:
        raise _not_offered(f"The profile “{profile.title}”", profile.reason)
    return profile


def _default_profile(all_offers: Sequence[ProfileOffer]) -> ProfileOffer:
    open_to_you = [offer for offer in all_offers if offer.reason is None]
    if not open_to_you:
        reasons = "; ".join(f"{offer.title}: {offer.reason}" for offer in all_offers)
        raise Refusal("nothing-to-start", f"There is nothing that you may start here. {reasons}.", status=403)
    return next((offer for offer in open_to_you if offer.default), open_to_you[0])


def _refuse_unknown(answers: Mapping[str, object], profile: ProfileOffer) -> None:
    legal = {option.key for option in profile.options}
    legal |= {option.key + UNLISTED_SUFFIX for option in profile.options if option.unlisted is not None}
    unknown = sorted(str(key) for key in answers if key not in legal)
    if unknown:
        offered = f"It has: {_list(sorted(legal))}." if legal else "It has no options."
        raise Refusal(
            "unknown-option",
            f"The profile “{profile.title}” has no option {_list([_show(key) for key in unknown[:5]])}. {offered}",
        )


def _says_one_card(answers: Mapping[str, object], profile: ProfileOffer) -> bool:
    """Whether the options name the one card that a profile without the option `count` gives, as saved ones do."""
    offered = {option.key for option in profile.options}
    return "accelerator" in offered and "count" not in offered and answers.get("count") == "1"


def _named(option: OptionOffer, value: object) -> str | None:
    picked = option.default if value is None else value
    for offer in option.offers:
        if isinstance(picked, str) and picked == offer.key:
            if offer.reason is not None:
                raise _not_offered(f"{option.title}: “{offer.title}”", offer.reason)
            return offer.key
    if picked is None:
        return None
    raise _unknown_choice(option, picked)


def _number(option: OptionOffer, value: object) -> Decimal:
    number = _quantity(option, option.default if value is None else value)
    if option.offers:
        for offer in option.offers:
            if parse_quantity(offer.key) == number:
                if offer.reason is not None:
                    raise _not_offered(f"{option.title}: {offer.title}", offer.reason)
                return number
        raise _unknown_choice(option, value)
    low, high = option.minimum, option.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        raise Refusal(
            "out-of-range", f"{option.title}: {_show(value)} is not possible. Choose {_range(option, low, high)}."
        )
    if option.key != "cpu" and number != number.to_integral_value():
        unit = "bytes" if option.key == "memory" else "cards"
        raise Refusal("bad-value", f"{option.title}: {_show(value)} is not a whole number of {unit}.")
    return number


def _quantity(option: OptionOffer, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise _bad_type(option.key, value, "a number, such as 2 or 1.5" if option.key == "cpu" else "a number")
    try:
        return parse_quantity(_checked(option.key, value) if isinstance(value, str) else value)
    except QuantityError:
        example = {"cpu": "2 or 500m", "memory": "4Gi"}.get(option.key, "1")
        raise Refusal(
            "bad-value", f"{option.title}: {_show(value)} is not a number as Kubernetes writes them, such as {example}."
        ) from None


def _choice(option: OptionOffer, answers: Mapping[str, object]) -> Chosen:
    text = answers.get(option.key + UNLISTED_SUFFIX)
    value = answers.get(option.key)
    if text is None or text == "":
        if option.unlisted is not None and (value == ChoiceOption.UNLISTED or (value is None and not option.offers)):
            raise Refusal("bad-value", f"{option.title}: fill in the text, or choose one of the list.")
        return Chosen(option.key, choice=_named(option, value))
    if option.unlisted is None:
        raise _unknown_choice(option, text)
    if value not in (None, "", ChoiceOption.UNLISTED):
        raise Refusal("bad-value", f"{option.title}: choose one of the list or fill in the text, not both.")
    if not isinstance(text, str):
        raise _bad_type(option.key, text, "a text")
    if re.fullmatch(option.unlisted.pattern, _checked(option.key, text)) is None:
        rule = option.unlisted.message or f"It must match {option.unlisted.pattern}"
        raise Refusal("bad-value", f"{option.title}: {_show(text)} is not possible. {rule}")
    return Chosen(option.key, text=text)


def _not_offered(what: str, reason: str) -> Refusal:
    return Refusal("not-offered", f"{what} is not open to you: {reason}.", status=403)


def _unknown_choice(option: OptionOffer, value: object) -> Refusal:
    legal = [offer.key for offer in option.offers if offer.reason is None]
    return Refusal("unknown-choice", f"{option.title} has no choice {_show(value)}. Choose one of: {_list(legal)}.")


def _bad_type(key: str, value: object, wanted: str) -> Refusal:
    return Refusal("bad-value", f"{key} must be {wanted}, not {_type(value)}.")


def _type(value: object) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", type(None): "nothing", bytes: "a file"}
    return names.get(type(value), type(value).__name__)


def _single(name: str, values: Sequence[object]) -> str:
    if len(values) != 1:
        raise Refusal("bad-value", f"{_show(name)} was sent {len(values)} times; once is expected.")
    if not isinstance(values[0], str):
        raise Refusal("bad-value", f"{_show(name)} must be a text, not a file.")
    return _checked(name, values[0])


def _checked(name: str, value: str) -> str:
    if len(value) > MAX_TEXT:
        raise Refusal("too-long", f"{_show(name)} has {len(value)} characters; at most {MAX_TEXT} are possible.")
    if _CONTROL.search(value):
        raise Refusal("bad-value", f"{_show(name)} must be one line without control characters.")
    return value


def _show(value: object) -> str:
    """Return a value for a message: its first characters, quoted, with nothing unprintable in it."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float, Decimal)) else None
    if text is None:
        return _type(value)
    short = text if len(text) <= 40 else text[:40] + "…"
    return "'" + "".join(char if char.isprintable() else "�" for char in short) + "'"


def _list(values: Iterable[str]) -> str:
    return ", ".join(values) or "nothing"


def _range(option: OptionOffer, low: Decimal | None, high: Decimal | None) -> str:
    def say(number: Decimal) -> str:
        if option.key == "memory":
            return say_memory(int(number))
        return format_cpu(number) if option.key == "cpu" else f"{number:f}"

    if low is not None and high is not None:
        return f"{say(low)} to {say(high)}"
    return f"{say(low)} or more" if low is not None else f"at most {say(high)}" if high is not None else "a number"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
