"""A real code-server for tests, as `make vscode` installs it; made once and kept outside of the checkout."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from tests.hub.site import ROOT
from tests.lab.packages import install

_CACHE = Path.home() / ".cache" / "armillary"
_PACKAGES = ("g++", "make", "pkg-config", "libkrb5-dev", "libsecret-1-dev", "libx11-dev", "libxkbfile-dev")


def code_server() -> Path:
    """Return the program; installs it where it is not there yet, which takes some minutes."""
    spec = importlib.util.spec_from_file_location("armillary_bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    _CACHE.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o022)
    try:
        made = bootstrap.VSCode(str(_CACHE))
        if not os.path.exists(made.finished):
            install(_PACKAGES)
        made.hold()
    finally:
        os.umask(before)
    return Path(made.program)
