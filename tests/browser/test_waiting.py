"""Sessions that wait, are warned, kept, switched and ended: real sessions with the extension, on a real site.

The site has one T4 that does not exist. Limits are of seconds, so that what takes hours elsewhere is seen here.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Shots
from tests.browser.lab import install
from tests.browser.steps import accessible, fits, in_lab, pick, start
from tests.browser.test_capacity import people
from tests.hub.site import Site, wait_for

pytestmark = pytest.mark.timeout(900)
SERVICE = "/services/armillary"
SOON = 60_000
"""The extension asks every 15 s, budgets are added up every 30 s; a busy machine makes that longer."""

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
SETTINGS = {
    "idle": {
        "limits": [{"accelerator": "fpga", "idle_hours": 40 / 3600}],
        "warn_minutes": 1 / 3,
        "keeps": 2,
        "busy_cores": 4.0,  # what JupyterLab takes to start is no work here
        "budget_grace_minutes": 0.5,
    },
    "quotas": {"warn_at": [0.05]},
    "queue": {"switch_grace_s": 25},
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site whose sessions have the extension, as those of an image have it."""
    folder = Path(tempfile.mkdtemp(prefix="armillary-waiting-"))
    folder.chmod(0o755)  # sessions run under accounts of their own
    try:
        share = install(folder / "installed")
        [lib] = (folder / "installed").glob("lib/python*/site-packages")
        catalogue = CATALOGUE.format(share=share, etc=folder / "installed" / "etc" / "jupyter", lib=lib)
        often = 'c.Spawner.environment = {"ARMILLARY_MEASURE_SECONDS": "2"}\n'
        with Site(folder / "site", settings=SETTINGS, catalogue=catalogue, config=often).running() as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def told(page: Page, text: str) -> Locator:
    """Return JupyterLab's notification with this in it."""
    return page.get_by_role("alert").filter(has_text=text)


def status(page: Page) -> Locator:
    """Return what JupyterLab's status line says of the session."""
    return page.get_by_role("button", name=re.compile("^Session: "))


def usage(page: Page, site: Site) -> Page:
    """Return the page *My usage*, in a tab of its own."""
    found = page.context.new_page()
    found.goto(f"{site.url}{SERVICE}/usage")
    return found


def test_an_idle_session_is_warned_and_kept_from_jupyterlab_and_from_the_page(
    browser: Browser, site: Site, shots: Shots
) -> None:
    with people(browser, site, "instructor") as (lab,):
        pick(lab, "Alveo U55c")
        start(lab)
        expect(told(lab, "has done nothing for")).to_be_visible(timeout=2 * SOON)
        told(lab, "has done nothing for").get_by_role("button", name="Keep my session").click()
        expect(lab.get_by_text("is kept: it may do nothing").first).to_be_visible()
        page = usage(lab, site)
        stops = page.get_by_role("alert").filter(has_text="nobody uses it")
        expect(stops).to_have_count(0)

        def warned() -> bool:
            page.reload()
            return stops.count() == 1

        wait_for(warned, "the second warning", 120, 2.0)
        accessible(page)
        fits(page)
        shots.take_all(page, "usage-idle")
        page.get_by_role("button", name="Keep my session (1 left)").click()
        expect(page.get_by_role("status").filter(has_text="Your session goes on.")).to_be_visible()
        expect(stops).to_have_count(0)
        site.api("DELETE", "/users/instructor/server")


def test_a_budget_that_ends_stops_a_session_and_who_waited_to_switch_gets_its_card(
    browser: Browser, site: Site, shots: Shots
) -> None:
    with people(browser, site, "researcher-1", "researcher-2", "administrator") as (waits, spends, root):
        root.goto(f"{site.url}{SERVICE}/admin/quotas")
        pick(waits, "A100 slice")
        start(waits)
        pick(spends, "T4")
        start(spends)

        # one waits for what the other has, and works on meanwhile
        expect(status(waits)).to_contain_text("A100 slice", timeout=SOON)
        waits.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^File$")).click()
        waits.get_by_role("menuitem", name="Switch accelerator…").click()
        dialog = waits.locator(".jp-Dialog")
        dialog.get_by_role("radio", name=re.compile("^T4")).check(force=True)
        dialog.get_by_role("button", name="Switch").click()
        expect(waits.get_by_text("You are number 1 of 1 for it; this session goes on.").first).to_be_visible()
        assert site.server("researcher-1")["user_options"]["accelerator"] == "slice"

        # the other's budget is set to what is nearly used
        root.get_by_label("Whose", exact=True).fill("user:researcher-2")
        root.get_by_label("What", exact=True).fill("hours:day")
        root.get_by_label("How much", exact=True).fill("0.03")
        root.get_by_role("button", name="Set the limit").click()
        expect(root.get_by_role("status").filter(has_text="The limit is set")).to_be_visible()
        expect(told(spends, "5% and more")).to_be_visible(timeout=SOON)
        expect(told(spends, "You have used all of your")).to_be_visible(timeout=3 * SOON)
        page = usage(spends, site)
        expect(page.get_by_role("alert").filter(has_text="the budget is used up. Save your work.")).to_be_visible()
        accessible(page)
        shots.take_all(page, "usage-budget")

        # it is stopped, its owner is told why, and the card goes to who waited
        wait_for(lambda: not site.server("researcher-2"), "the stop", 120)
        page.goto(f"{site.url}{SERVICE}/usage")
        expect(page.get_by_role("note").filter(has_text="the budget that it was charged to is used up")).to_be_visible()
        expect(page.get_by_text("Nothing runs.")).to_be_visible()
        waits.wait_for_url(f"**{SERVICE}/queue", timeout=2 * SOON)
        in_lab(waits)
        expect(status(waits)).to_contain_text("T4", timeout=SOON)
        assert site.server("researcher-1")["user_options"]["accelerator"] == "t4"
        page.goto(f"{site.url}/hub/spawn")
        pick(page, "T4")
        expect(page.locator("#arm-left")).to_contain_text("0 of 0.03 card-hours a day left")
        site.api("DELETE", "/users/researcher-1/server")
