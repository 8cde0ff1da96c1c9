"""What all sections of the chart's values have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

__all__ = ["Model", "Objects", "Text"]

Text = dict[str, str]
Objects = list[dict[str, Any]]


class Model(BaseModel):
    """A section: unknown keys are refused, names are helm's (camelCase)."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)
