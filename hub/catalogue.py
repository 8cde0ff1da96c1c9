"""The catalogue of a site, the same for hub, service and controller: on one machine without what is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import profiles
from hub.settings import Settings
from profiles.loader import load
from profiles.model import Catalogue, Image, LocalImage
from spawner.processes.spec import search_path

__all__ = ["SHIPPED", "load_catalogue", "with_apps_that_are_here"]

SHIPPED = Path(profiles.__file__).parent / "catalogue.yaml"
"""The catalogue of a site that names none."""

_EXTENSION = "armillary_lab"  # makes the session's applications of what the hub tells it


def load_catalogue(settings: Settings) -> Catalogue:
    """Return what can be asked for on this site. Reads files.

    Raises
    ------
    profiles.loader.CatalogueError
        With every problem of the catalogue.
    """
    catalogue = load(settings.catalogue or SHIPPED, allow_weaker_security=settings.allow_weaker_security)
    return with_apps_that_are_here(catalogue) if settings.engine == "local" else catalogue


def with_apps_that_are_here(catalogue: Catalogue, which: Callable[..., str | None] = shutil.which) -> Catalogue:
    """Return a catalogue whose images have those applications only that sessions on this machine can start.

    Sessions look for programs where the local engine tells them to; and they need the server half of the JupyterLab
    extension, of the hub's own environment or of one that an image names by `PYTHONPATH`.
    """
    images = {
        key: image.model_copy(
            update={"apps": tuple(name for name in image.apps if _is_here(catalogue, image, name, which))}
        )
        for key, image in catalogue.images.items()
    }
    return catalogue.model_copy(update={"images": images})


def _is_here(catalogue: Catalogue, image: Image, name: str, which: Callable[..., str | None]) -> bool:
    local = image.local
    if local is None:
        return False
    found = which(catalogue.apps[name].command[0], path=search_path(local))
    return found is not None and _has_extension(local)


def _has_extension(local: LocalImage) -> bool:
    if local.command:
        return True  # another environment: whoever wrote the catalogue knows what is in it
    named = local.environment.get("PYTHONPATH", "").split(os.pathsep)
    return any(Path(folder, _EXTENSION).is_dir() for folder in named if folder) or bool(
        importlib.util.find_spec(_EXTENSION)
    )
