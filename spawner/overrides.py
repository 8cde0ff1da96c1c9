"""What a request changes beside image, cpu, memory and accelerator: the catalogue's overrides, merged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiles.model import Catalogue, Unlisted
from profiles.overrides import compose, substitute
from spawner.request import Request

__all__ = ["environment", "overrides"]


def overrides(request: Request, catalogue: Catalogue) -> dict[str, Any]:
    """Return the `kubespawner_override` of profile and choices as one, in the order of definition.

    To be applied setting by setting with `profiles.overrides.apply`; None in a mapping deletes what was configured.
    """
    profile = catalogue.profiles[request.profile]
    parts = [profile.kubespawner_override]
    for chosen in request.choices:
        option = profile.options.choices[chosen.option]
        if chosen.text is not None:
            parts.append(substitute(_unlisted(option.unlisted).kubespawner_override, chosen.text))
        elif chosen.choice is not None:
            parts.append(option.choices[chosen.choice].kubespawner_override)
    return compose(*parts)


def environment(request: Request, catalogue: Catalogue) -> dict[str, str]:
    """Return the environment variables that the catalogue gives to this request; later ones win."""
    profile = catalogue.profiles[request.profile]
    variables: dict[str, str] = dict(profile.environment)
    for chosen in request.choices:
        option = profile.options.choices[chosen.option]
        if chosen.text is not None:
            variables |= _with_text(_unlisted(option.unlisted).environment, chosen.text)
        elif chosen.choice is not None:
            variables |= option.choices[chosen.choice].environment
    return variables


def _with_text(template: Mapping[str, str], text: str) -> dict[str, str]:
    return {name: value.replace("{value}", text) for name, value in template.items()}


def _unlisted(unlisted: Unlisted | None) -> Unlisted:
    if unlisted is None:  # the parser lets a text through only where the option has an unlisted choice
        raise ValueError("a text for an option without an unlisted choice")
    return unlisted
