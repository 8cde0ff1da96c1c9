"""The browser of the browser tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil

from tests.lab import packages
from tests.lab.errors import LabUnavailable


def path() -> str:
    """The browser's program; installs it when it is missing.

    Raises:
        LabUnavailable: it is missing and cannot be installed here.
    """
    packages.install(packages.CHROMIUM)
    found = shutil.which("chromium")
    if found is None:
        raise LabUnavailable("Debian's package chromium is installed, but its program is not on the PATH.")
    return found
