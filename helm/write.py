"""Write what is made from the models: `python -m helm.write` after a change of values or settings.

    armillary/values.yaml           every value with its default, its legal values and what it is for
    armillary/values.schema.json    what helm checks values by
    armillary/monitoring/           dashboards for Grafana, and rules for Prometheus

A test compares them with the models, so that they cannot drift.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from pydantic import BaseModel

from helm.monitoring.boards import BOARDS
from helm.monitoring.grafana import dashboard
from helm.monitoring.rules import written
from helm.values import Values, schema
from hub.settings.shape import section_of

__all__ = ["files"]

CHART = Path(__file__).parent / "armillary"
_WIDTH = 118
_HEAD = """\
# Values of the chart, with their defaults. Written by `python -m helm.write`; do not edit.
#
# Give yours in a file of your own: helm install armillary helm/armillary --values mine.yaml
# Below `settings` stands what armillary.yaml knows, below `catalogue` a catalogue: their references say what that is.
"""


def files() -> dict[Path, str]:
    """Return the text of every file that is written, by its path."""
    return {
        CHART / "values.yaml": _HEAD + "\n".join(_said(Values, Values.model_construct(), 0)) + "\n",
        CHART / "values.schema.json": json.dumps(schema(), indent=1, sort_keys=True) + "\n",
        CHART / "monitoring" / "alerts.yaml": written(),
        **{CHART / "monitoring" / "dashboards" / f"{board.key}.json": dashboard(board) for board in BOARDS},
    }


def _said(model: type[BaseModel], value: BaseModel, depth: int) -> Iterator[str]:
    """Yield the lines of one model, each field with its description above it."""
    indent = "  " * depth
    for name, field in model.model_fields.items():
        key = field.alias or name
        default = getattr(value, name)
        yield ""
        for line in wrap(field.description or "", _WIDTH - len(indent)):
            yield f"{indent}# {line}"
        section = section_of(field.annotation)
        if section is not None:
            yield f"{indent}{key}:"
            yield from _said(section, default, depth + 1)
        else:
            yield from _value(key, default, indent)


def _value(key: str, value: Any, indent: str) -> Iterator[str]:
    plain = _plain(value)
    text = yaml.safe_dump({key: plain}, default_flow_style=False, sort_keys=False, width=1000, allow_unicode=True)
    for line in text.rstrip().splitlines():
        yield f"{indent}{line}"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_none=True)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them; with `--check` only say which are not what they should be, and return 1 then."""
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    wrong = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        if check:
            print(f"{path.relative_to(CHART.parent)} is not what the models say: python -m helm.write")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files()[path], encoding="utf-8")
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
