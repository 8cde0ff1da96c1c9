"""KubeSpawner's `profile_list`, read with the meaning that KubeSpawner 7.1 gives it, as profiles of a catalogue.

Kept from upstream: slugs made from `display_name`, the first profile and the first choice as defaults, the order in
which overrides are applied, `unlisted_choice` with `{value}`. Different on purpose: a regular expression must match
the whole text that was typed (upstream leaves the end open), texts are shown as text (upstream inserts them as HTML),
and what upstream would ignore or fail on at a start, such as an unknown key or two profiles with one slug, is a
problem when the catalogue is loaded.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from slugify import slugify

from profiles.checks import WEAKER
from profiles.choices import Pattern
from profiles.document import Path
from profiles.model import Choice, ChoiceOption, Options, Profile, Unlisted
from profiles.parts import Frozen, Overrides, Part, Text, Title
from profiles.syntax import shown

__all__ = ["ListedProfile", "check_listed", "slug_of", "source_path", "translate"]

ANYTHING = ".+"
"""What may be typed where no `validation_regex` says otherwise."""


def _nothing() -> Mapping[str, Any]:
    return {}


class _Listed(Part):
    default: Annotated[bool, Field(strict=True)] = False
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner that this changes."""


class ListedChoice(_Listed):
    """One entry of `choices`."""

    display_name: Title | None = None


class ListedUnlisted(Part):
    """`unlisted_choice`: a field for a text of one's own."""

    enabled: Annotated[bool, Field(strict=True)] = False
    display_name: Title | None = None
    display_name_in_choices: Title = "Other..."
    validation_regex: Pattern | None = None
    """Regular expression; the whole text must match it."""
    validation_message: Text = ""
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner; `{value}` stands for what was typed."""


class ListedOption(Part):
    """One entry of `profile_options`."""

    display_name: Title | None = None
    choices: Frozen[str, ListedChoice] = Field(default_factory=_nothing, validate_default=True)
    unlisted_choice: ListedUnlisted = Field(default_factory=ListedUnlisted)


class ListedProfile(_Listed):
    """One entry of a `profile_list`."""

    display_name: Title
    description: Text = ""
    slug: Title | None = None
    """Made from `display_name` where absent."""
    profile_options: Frozen[str, ListedOption] = Field(default_factory=_nothing, validate_default=True)


def slug_of(listed: ListedProfile) -> str:
    """The key of the profile: its slug, or the one that upstream makes of its name."""
    return slugify(listed.display_name) if listed.slug is None else listed.slug


def check_listed(profiles: Mapping[int, ListedProfile], *, allow_weaker_security: bool) -> Iterator[tuple[Path, str]]:
    """What is wrong in a profile_list beyond the single values, as paths within the list.

    Profiles come by their index in the list, as some may be missing that could not be read.
    """
    slugs: dict[str, int] = {}
    for index, listed in profiles.items():
        slug = slug_of(listed)
        at: Path = (index, "display_name" if listed.slug is None else "slug")
        if not slug:
            yield at, f"no slug can be made from {shown(listed.display_name)}: write `slug`"
        elif slug in slugs:
            yield at, f"the slug {shown(slug)} is the one of another profile in the list: write a `slug` of its own"
        yield from ((at, text) for text in _bad_key(slug, "slug") if slug)
        slugs.setdefault(slug, index)
        for name, option in listed.profile_options.items():
            yield from _check_option((index, "profile_options", name), name, option, allow_weaker_security)


def _bad_key(key: str, what: str) -> Iterator[str]:
    if key != key.strip() or len(key) > 200 or not key.isprintable():
        yield f"{shown(key)} is no {what}: up to 200 printable characters, no space at either end"
    if "--" in key:
        yield f"the {what} {shown(key)} holds '--', which separates the parts of a form field's name; use one '-'"


def _check_option(path: Path, name: str, option: ListedOption, allow_weaker: bool) -> Iterator[tuple[Path, str]]:
    yield from ((path, text) for text in _bad_key(name, "option"))
    if name == "profile":
        yield path, "'profile' means something else in a request; name this option differently"
    for key in option.choices:
        at = (*path, "choices", key)
        if key != key.strip() or len(key) > 200 or not key.isprintable():
            yield at, f"{shown(key)} is no choice: up to 200 printable characters, no space at either end"
        if key == ChoiceOption.UNLISTED:
            yield at, f"{key!r} means a text field in a form; name it differently"
    marked = [key for key, choice in option.choices.items() if choice.default]
    for key in marked[1:]:
        yield (*path, "choices", key, "default"), f"there is a default already: {marked[0]!r}; keep one of the two"
    unlisted = option.unlisted_choice
    if not option.choices and not unlisted.enabled:
        yield path, "lets nobody choose anything: write `choices`, or an `unlisted_choice` with `enabled: true`"
    if unlisted.enabled and unlisted.validation_regex is None and unlisted.kubespawner_override and not allow_weaker:
        reason = "whatever a user types is put into " + ", ".join(unlisted.kubespawner_override)
        yield (*path, "unlisted_choice"), WEAKER.format(reason).replace("take it out", "write a `validation_regex`")


def translate(listed: ListedProfile) -> Profile:
    """The profile that means the same, without options in which nothing can be chosen: `check_listed` names those."""
    options = {
        name: _option(name, option)
        for name, option in listed.profile_options.items()
        if option.choices or option.unlisted_choice.enabled
    }
    return Profile(
        title=listed.display_name,
        description=listed.description,
        default=listed.default,
        options=Options(choices=options),
        kubespawner_override=listed.kubespawner_override,
    )


def _option(name: str, option: ListedOption) -> ChoiceOption:
    unlisted = option.unlisted_choice
    marked = (key for key, choice in option.choices.items() if choice.default)
    return ChoiceOption(
        title=option.display_name or name,
        choices={
            key: Choice(title=choice.display_name or key, kubespawner_override=choice.kubespawner_override)
            for key, choice in option.choices.items()
        },
        default=next(marked, next(iter(option.choices), None)),
        unlisted=Unlisted(
            title=unlisted.display_name or unlisted.display_name_in_choices,
            in_choices=unlisted.display_name_in_choices,
            pattern=unlisted.validation_regex or ANYTHING,
            message=unlisted.validation_message,
            kubespawner_override=unlisted.kubespawner_override,
        )
        if unlisted.enabled
        else None,
    )


def source_path(path: Path) -> Path:
    """Where a profile_list holds what a translated profile holds at a path below the profile."""
    if path[:2] != ("options", "choices"):
        return path
    option, rest = path[2:3], path[3:]
    return ("profile_options", *option, *(("unlisted_choice", *rest[1:]) if rest[:1] == ("unlisted",) else rest))
