"""What is wrong between the parts of a catalogue: references that lead nowhere, options that make no sense together."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from profiles import syntax
from profiles.apps import NO_APP, TAKEN_PATHS, App
from profiles.choices import ChoiceOption, Unlisted
from profiles.document import Path
from profiles.kubespawner_settings import unusable
from profiles.model import NO_ACCELERATOR, Accelerator, Image, NamedOption, Profile
from profiles.offers import most_at_once
from profiles.override_values import wrong_values
from profiles.overrides import substitute, weaker_security
from profiles.syntax import SyntaxProblem, shown
from profiles.wording import did_you_mean

__all__ = [
    "check_apps",
    "check_count",
    "check_default",
    "check_keys",
    "check_names",
    "check_overrides",
    "check_profile",
]

Found = Iterator[tuple[Path, str]]

WEAKER = "weakens security: {}; take it out, or set allow_weaker_security"


def check_keys(section: str, keys: Iterable[str]) -> Found:
    """Keys of accelerators, applications, images and profiles."""
    for key in keys:
        yield from _key(key, (section, key))
        if section == "profiles":
            yield from _double_dash(key, (section, key))
        if section == "accelerators" and key == NO_ACCELERATOR:
            yield (section, key), f"{NO_ACCELERATOR!r} stands for no accelerator; name this one differently"
        if section == "apps" and key == NO_APP:
            yield (section, key), f"{NO_APP!r} stands for no application; name this one differently"
        if section == "apps" and key in TAKEN_PATHS:
            yield (section, key), f"/{key}/ is a path of JupyterLab or JupyterHub; name this application differently"


def _key(key: str, path: Path) -> Found:
    try:
        syntax.check_key(key)
    except SyntaxProblem as problem:
        yield path, str(problem)


def check_names(path: Path, profile: Profile) -> Found:
    """Keys of a profile's free-form options and choices, which become fields of a form."""
    for name, option in profile.options.choices.items():
        inner = (*path, "options", "choices", name)
        yield from _key(name, inner)
        yield from _double_dash(name, inner)
        if name in ChoiceOption.RESERVED:
            yield inner, f"{name!r} means something else in a request (options.{name}); name this option differently"
        for choice in option.choices:
            yield from _key(choice, (*inner, "choices", choice))
            if choice == ChoiceOption.UNLISTED:
                yield (
                    (*inner, "choices", choice),
                    f"{choice!r} is what a form says for a text field; name it differently",
                )


def _double_dash(name: str, path: Path) -> Found:
    if "--" in name:
        yield path, f"{shown(name)} holds '--', which separates the parts of a form field's name; use one '-'"


def check_profile(path: Path, profile: Profile, accelerators: Iterable[str], images: Iterable[str]) -> Found:
    """What the options of a profile refer to. `path` leads to the profile."""
    options = profile.options
    yield from _references((*path, "options", "image"), options.image, "image", images)
    known = [*accelerators, NO_ACCELERATOR]
    yield from _references((*path, "options", "accelerator"), options.accelerator, "accelerator", known)
    cards = options.accelerator.choices if options.accelerator else ()
    if options.count and not set(cards) - {NO_ACCELERATOR}:
        yield (*path, "options", "count"), "counts accelerators, but the profile offers none: add `accelerator`"


def check_count(path: Path, profile: Profile, accelerators: Mapping[str, Accelerator]) -> Found:
    """Whether somebody can have as many accelerators as the profile lets them ask for. `path` leads to the profile."""
    options = profile.options
    keys = [key for key in (options.accelerator.choices if options.accelerator else ()) if key in accelerators]
    most = {key: _most_anywhere(accelerators[key]) for key in keys}
    known = [number for number in most.values() if number is not None]
    if options.count is None or not known:
        return
    limit = max(known) if len(known) == len(most) else None
    if limit is None or any(choice <= limit for choice in options.count.choices or (options.count.default,)):
        yield from _too_few(path, profile, most)
    if limit is None:
        return
    text = (
        f"is more than any accelerator of this profile has: {', '.join(f'{key} at most {most[key]}' for key in keys)}"
    )
    here = (*path, "options", "count")
    for index, choice in enumerate(options.count.choices):
        if choice > limit:
            yield (*here, "choices", index), f"{choice:f} {text}"
    if options.count.maximum is not None and options.count.maximum > limit:
        yield (*here, "max"), f"{options.count.maximum:f} {text}"


def _too_few(path: Path, profile: Profile, most: Mapping[str, int | None]) -> Found:
    """Accelerators of which a session can never have what it must ask for, and a default that is always refused."""
    cards, count = profile.options.accelerator, profile.options.count
    if cards is None or count is None:
        return
    least = min(count.choices) if count.choices else count.minimum
    for index, key in enumerate(cards.choices):
        has = most.get(key)
        if has is None:
            continue
        if least is not None and least > has:
            text = f"a session has at most {has} {key}, and this profile lets nobody ask for fewer than {least:f}"
            yield (*path, "options", "accelerator", "choices", index), text
        elif key == cards.default and count.default > has:
            text = f"the default of {count.default:f} is refused with {key}, the default accelerator: at most {has}"
            yield (*path, "options", "count", "default"), text


def _most_anywhere(card: Accelerator) -> int | None:
    """How many a session can have on the engine that has most; None: the catalogue does not say."""
    only_simulated = card.kubernetes is None and card.local is None
    return most_at_once(card, "local" if only_simulated else "kubernetes")


def check_apps(path: Path, image: Image, apps: Mapping[str, App], known: Iterable[str]) -> Found:
    """What an image says of its applications. `path` leads to its list; `known` are all keys, also of broken ones."""
    legal = tuple(known)
    for index, name in enumerate(image.apps):
        if name not in legal:
            defined = ", ".join(legal) or "none"
            yield (
                (*path, index),
                f"there is no application {shown(name)}{did_you_mean(name, legal)}; defined: {defined}",
            )
        elif name in image.apps[:index]:
            yield (*path, index), "the same application was given before"
        elif image.local is not None and name in apps and not apps[name].listens_at_socket:
            yield (
                (*path, index),
                f"{shown(name)} listens at a port, which on one machine everybody reaches, without the hub's login: "
                "let it listen at {unix_socket}, or give this image no `local`",
            )


def _references(path: Path, option: NamedOption | None, what: str, known: Iterable[str]) -> Found:
    legal = tuple(known)
    for index, name in enumerate(option.choices if option else ()):
        if name not in legal:
            defined = ", ".join(legal) or "none"
            text = f"there is no {what} {shown(name)}{did_you_mean(name, legal)}; defined: {defined}"
            yield (*path, "choices", index), text


def check_default(profiles: Mapping[Path, Profile]) -> Found:
    """At most one profile is the default."""
    marked = [path for path, profile in profiles.items() if profile.default]
    for path in marked[1:]:
        yield (*path, "default"), f"there is a default already: {profiles[marked[0]].title!r}; keep one of the two"


def check_overrides(path: Path, profile: Profile, *, allow_weaker_security: bool) -> Found:
    """Every `kubespawner_override` of a profile."""
    for where, override in _overrides(profile):
        here = (*path, *where, "kubespawner_override")
        for inner, reason in unusable(override):
            yield (*here, *inner), f"cannot be set: {reason}"
        yield from (((*here, *inner), text) for inner, text in wrong_values(override))
        for inner, reason in () if allow_weaker_security else weaker_security(override):
            yield (*here, *inner), WEAKER.format(reason)
    for name, option in profile.options.choices.items():
        if option.unlisted:
            yield from _templates((*path, "options", "choices", name, "unlisted"), option.unlisted)


def _overrides(profile: Profile) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    yield (), profile.kubespawner_override
    for name, option in profile.options.choices.items():
        here = ("options", "choices", name)
        for key, choice in option.choices.items():
            yield (*here, "choices", key), choice.kubespawner_override
        if option.unlisted:
            yield (*here, "unlisted"), option.unlisted.kubespawner_override


def _templates(path: Path, unlisted: Unlisted) -> Found:
    """Whether what a user types can be put in place, tried here so that it cannot fail when somebody starts a
    server."""
    for name, template in unlisted.kubespawner_override.items():
        try:
            substitute({name: template}, "x")
        except ValueError as error:
            yield (*path, "kubespawner_override", name), str(error)
