"""A real code-server for tests, as `make vscode` installs it; made once and kept outside of the checkout."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

from tests.hub.site import ROOT
from tests.lab.packages import install

CACHE = Path.home() / ".cache" / "armillary"
_PACKAGES = ("g++", "make", "pkg-config", "libkrb5-dev", "libsecret-1-dev", "libx11-dev", "libxkbfile-dev")


def bootstrap() -> ModuleType:
    """The program that makes environments; it is in no package."""
    spec = importlib.util.spec_from_file_location("armillary_bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    CACHE.mkdir(parents=True, exist_ok=True)
    return module


def code_server() -> Path:
    """Return the program; installs it where it is not there yet, which takes some minutes."""
    before = os.umask(0o022)  # sessions run it under other accounts
    try:
        made = bootstrap().VSCode(str(CACHE))
        if not os.path.exists(made.finished):
            install(_PACKAGES)
        made.hold()
    finally:
        os.umask(before)
    return Path(made.program)
