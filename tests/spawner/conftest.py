"""Golden files: `pytest tests/spawner --update-golden` writes them anew, to be read before they are committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Return a check that a value is what the golden file of this name holds."""
    update = request.config.getoption("--update-golden", default=False)

    def check(name: str, value: Any) -> None:
        path = _GOLDEN / f"{name}.json"
        if update:
            path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        assert value == json.loads(path.read_text(encoding="utf-8")), f"{path.name}: see --update-golden"

    return check
