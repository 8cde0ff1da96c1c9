"""A real MLflow for tests, in an environment of its own; made once and kept outside of the checkout."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hub.code_server import CACHE, bootstrap

_LOCK = Path(__file__).with_name("mlflow") / "requirements.txt"


def mlflow() -> Path:
    """Return the program; installs it where it is not there yet, which takes a minute."""
    program = bootstrap()

    class MLflow(program.Environment):  # type: ignore[misc,name-defined]
        def locks(self) -> list[str]:
            return [str(_LOCK)]

    before = os.umask(0o022)  # sessions run it under other accounts
    try:
        made = MLflow(str(CACHE), "mlflow")
        made.hold()
    finally:
        os.umask(before)
    return Path(made.folder, "bin", "mlflow")
