"""Sessions that wait, are warned, kept, switched and ended: real sessions with the extension, on a real site.

The site has one T4 that does not exist.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import waiting
from tests.browser.conftest import Shots
from tests.browser.lab import install
from tests.browser.test_capacity import people
from tests.browser.waiting import SETTINGS
from tests.hub.site import Site

pytestmark = pytest.mark.timeout(900)

CATALOGUE = """\
accelerators:
  t4: {{title: T4, simulated: {{count: 1}}}}
  slice: {{title: A100 slice, share: 1/7, simulated: {{count: 7}}}}
  fpga: {{title: Alveo U55c, simulated: {{count: 1}}}}
images:
  jupyterlab:
    title: JupyterLab
    default_url: /lab
    local:
      environment: {{JUPYTER_PATH: {share}, JUPYTER_CONFIG_PATH: {etc}, PYTHONPATH: {lib}}}
profiles:
  jupyterlab: {{title: JupyterLab, options: {{image: jupyterlab, accelerator: [none, t4, slice, fpga]}}}}
"""


class _Machine(Site):
    def end_session(self, name: str) -> None:
        """End somebody's session."""
        self.api("DELETE", f"/users/{name}/server")


@pytest.fixture(scope="module")
def site() -> Iterator[_Machine]:
    """A site whose sessions have the extension, as those of an image have it."""
    folder = Path(tempfile.mkdtemp(prefix="armillary-waiting-"))
    folder.chmod(0o755)  # sessions run under accounts of their own
    try:
        share = install(folder / "installed")
        [lib] = (folder / "installed").glob("lib/python*/site-packages")
        catalogue = CATALOGUE.format(share=share, etc=folder / "installed" / "etc" / "jupyter", lib=lib)
        often = 'c.Spawner.environment = {"ARMILLARY_MEASURE_SECONDS": "2"}\n'
        with _Machine(folder / "site", settings=SETTINGS, catalogue=catalogue, config=often).running() as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_an_idle_session_is_warned_and_kept_from_jupyterlab_and_from_the_page(
    browser: Browser, site: _Machine, shots: Shots
) -> None:
    with people(browser, site, "instructor") as (lab,):
        waiting.idle_session_is_warned_and_kept(lab, site, shots)


def test_a_budget_that_ends_stops_a_session_and_who_waited_to_switch_gets_its_card(
    browser: Browser, site: _Machine, shots: Shots
) -> None:
    with people(browser, site, "researcher-1", "researcher-2", "administrator") as (waits, spends, root):
        waiting.budget_ends_and_the_card_goes_to_who_switches(waits, spends, root, site, shots)
