"""A request in words, for pages: what runs, with the catalogue's titles instead of keys. Pure."""

from __future__ import annotations

from profiles.model import Catalogue, Engine
from profiles.offers import title_of
from profiles.quantities import say_memory
from spawner.request import Request

__all__ = ["describe"]


def describe(request: Request, catalogue: Catalogue, engine: Engine) -> tuple[tuple[str, str], ...]:
    """Return (what, which) in the order of the form; the request must fit the catalogue."""
    profile = catalogue.profiles[request.profile]
    facts = [("Profile", profile.title)]
    if request.image is not None:
        facts.append(("Image", catalogue.images[request.image].title))
    if request.app is not None:
        facts.append(("Open with", catalogue.apps[request.app].title))
    if request.accelerator is not None:
        many = f"{request.count} × " if request.count > 1 else ""
        facts.append(("Accelerator", many + title_of(catalogue.accelerators[request.accelerator], engine)))
    if request.cpu is not None:
        facts.append(("CPU cores", f"{request.cpu.normalize():f}"))
    if request.memory is not None:
        facts.append(("Memory", say_memory(request.memory)))
    for chosen in request.choices:
        option = profile.options.choices[chosen.option]
        if chosen.text is not None:
            facts.append((option.title, chosen.text))
        elif chosen.choice is not None:
            facts.append((option.title, option.choices[chosen.choice].title))
    return tuple(facts)
