"""What happens to a session that nobody uses, or whose budget ends, as people see it: the same steps on every engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Shots
from tests.browser.steps import accessible, fits, in_lab, pick, start
from tests.hub.site import wait_for

SERVICE = "/services/armillary"
SOON = 60_000
"""The extension asks every 15 s, budgets are added up every 30 s; a busy machine makes that longer."""

SETTINGS: Mapping[str, Any] = {
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
"""Limits are of seconds, so that what takes hours elsewhere is seen here."""


class Place(Protocol):
    """Where it happens: a site with one T4, slices of an A100 and one U55c, whose sessions have the extension."""

    @property
    def url(self) -> str:
        """Of the hub, for browsers."""

    def server(self, name: str) -> Mapping[str, Any]:
        """What the hub says about somebody's server; empty if it knows of none."""

    def end_session(self, name: str) -> None:
        """End somebody's session."""


def told(page: Page, text: str) -> Locator:
    """Return JupyterLab's notification with this in it."""
    return page.get_by_role("alert").filter(has_text=text)


def status(page: Page) -> Locator:
    """Return what JupyterLab's status line says of the session."""
    return page.get_by_role("button", name=re.compile("^Session: "))


def usage(page: Page, site: Place) -> Page:
    """Return the page *My usage*, in a tab of its own."""
    found = page.context.new_page()
    found.goto(f"{site.url}{SERVICE}/usage")
    return found


def idle_session_is_warned_and_kept(lab: Page, site: Place, shots: Shots | None = None) -> None:
    """Be warned in JupyterLab, keep the session there; be warned again, keep it on the page *My usage*."""
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
    if shots:
        shots.take_all(page, "usage-idle")
    page.get_by_role("button", name="Keep my session (1 left)").click()
    expect(page.get_by_role("status").filter(has_text="Your session goes on.")).to_be_visible()
    expect(stops).to_have_count(0)
    site.end_session("instructor")


def budget_ends_and_the_card_goes_to_who_switches(
    waits: Page, spends: Page, root: Page, site: Place, shots: Shots | None = None
) -> None:
    """One waits to switch to the card that another one has; an administrator's limit ends that one's session."""
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
    root.get_by_label("What", exact=True).fill("hours:7d")
    root.get_by_label("How much", exact=True).fill("0.03")
    root.get_by_role("button", name="Set the limit").click()
    expect(root.get_by_role("status").filter(has_text="The limit is set")).to_be_visible()
    expect(told(spends, "5% and more")).to_be_visible(timeout=SOON)
    expect(told(spends, "You have used all of your")).to_be_visible(timeout=3 * SOON)
    page = usage(spends, site)
    expect(page.get_by_role("alert").filter(has_text="the budget is used up. Save your work.")).to_be_visible()
    accessible(page)
    if shots:
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
    expect(page.locator("#arm-left")).to_contain_text("0 of 0.03 card-hours in any 7 days left")
    site.end_session("researcher-1")
