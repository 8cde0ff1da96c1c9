"""How much cpu and memory a request will occupy, from the catalogue alone: for whoever decides before a start. Pure.

What the deployer has configured beside the catalogue is known to the spawner only, which says it when it begins.
"""

from __future__ import annotations

import math
from typing import Any

from profiles.model import Catalogue
from profiles.quantities import QuantityError, parse_quantity
from spawner.overrides import overrides
from spawner.request import Request

__all__ = ["occupied", "share_of"]


def occupied(request: Request, catalogue: Catalogue) -> tuple[int | None, int | None]:
    """Return thousandths of a core and bytes of memory; None where only the deployer's configuration says it."""
    override = overrides(request, catalogue)
    cores = _first(request.cpu, override.get("cpu_guarantee"), override.get("cpu_limit"))
    memory = _first(request.memory, override.get("mem_guarantee"), override.get("mem_limit"))
    return (math.ceil(cores * 1000) if cores else None), (int(memory) if memory else None)


def share_of(accelerator: str | None, count: int, catalogue: Catalogue) -> float:
    """Return how much of whole cards so many of this accelerator are."""
    known = catalogue.accelerators.get(accelerator) if accelerator is not None else None
    return float(known.share * count) if known is not None else 0.0


def _first(*values: Any) -> float | None:
    """Return the first that is a number; settings are written as numbers or as Kubernetes writes quantities."""
    for value in values:
        if value is None or callable(value):
            continue
        try:
            return float(parse_quantity(value if isinstance(value, str) else str(value)))
        except QuantityError:
            continue
    return None
