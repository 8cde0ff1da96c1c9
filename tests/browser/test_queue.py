"""The queue and one's use in a browser: three people and two cards, waiting in line, use and limits, without script."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Shots
from tests.browser.steps import accessible, card, fits, in_lab, pick, start, stop
from tests.browser.test_capacity import CATALOGUE, all_ended, people
from tests.hub.site import Site, wait_for

pytestmark = pytest.mark.timeout(900)
SERVICE = "/services/armillary"
NOTE_WORDS = """() => {
  window.words = new Set();
  const word = document.querySelector('[data-part="word"]');
  new MutationObserver(() => words.add(word.textContent)).observe(word, { childList: true, subtree: true });
}"""
"""Keeps what the line of the time has said: a service that is back within a second is not missed."""
LOST = "() => window.words.has('not live: reconnecting, ')"

QUOTAS = """\
default:
  hours:week: 40
  queued: 3
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with two T4 that do not exist, and a budget."""
    quotas = tmp_path_factory.mktemp("quotas") / "quotas.yaml"
    quotas.write_text(QUOTAS)
    settings = {"servers": {"named_limit": 2}, "quotas": {"file": str(quotas)}}
    with Site(settings=settings, catalogue=CATALOGUE).running() as running:
        yield running


@pytest.fixture(autouse=True)
def nobody_runs_afterwards(site: Site) -> Iterator[None]:
    """What a test that failed has left does not make the next ones fail."""
    yield
    all_ended(site)


def wait_in_line(page: Page, title: str) -> None:
    """Pick what is in use on the open form, and take a place."""
    expect(card(page, title)).to_contain_text("all in use", timeout=30_000)
    pick(page, title)
    page.get_by_role("button", name="Wait in line").click()
    page.wait_for_url(f"**{SERVICE}/queue", timeout=30_000)


def test_the_third_waits_sees_its_place_through_restarts_and_is_led_into_its_session(
    browser: Browser, site: Site, shots: Shots
) -> None:
    with people(browser, site, "researcher-1", "researcher-2", "instructor") as (first, second, third):
        for page in (first, second):
            pick(page, "T4")
            start(page)
        pick(third, "T4")
        expect(third.locator("#arm-left")).to_contain_text("of 40 card-hours a week left")
        wait_in_line(third, "T4")
        expect(third.locator(".arm-place")).to_contain_text("1st of 1 in line")
        expect(third.locator(".arm-as-of")).to_contain_text("live, as of")
        accessible(third)
        fits(third)
        shots.take_all(third, "queue-waiting")
        third.evaluate(NOTE_WORDS)
        site.restart_hub(signal.SIGKILL)
        os.kill(site.pid_of("service"), signal.SIGKILL)
        # not the page's own `wait_for_function`: the page's policy lets no text be run as script
        wait_for(lambda: third.evaluate(LOST), "the page to say that it is not live", 60)
        expect(third.locator(".arm-as-of")).to_contain_text("live, as of", timeout=120_000)
        expect(third.locator(".arm-place")).to_contain_text("1st of 1 in line")
        stop(first, site)
        in_lab(third)
        for page in (second, third):
            stop(page, site)


def test_the_request_is_changed_for_what_is_free_and_a_place_is_left(browser: Browser, site: Site) -> None:
    with people(browser, site, "researcher-1", "researcher-2", "instructor") as (first, second, third):
        for page in (first, second):
            pick(page, "T4")
            start(page)
        wait_in_line(third, "T4")
        third.get_by_text("Leave the queue").click()
        third.get_by_role("button", name="Leave and lose the place").click()
        expect(third.get_by_role("status").first).to_have_text("You left the queue.")
        third.goto(f"{site.url}/hub/spawn")
        wait_in_line(third, "T4")
        third.get_by_role("link", name=re.compile("^A100 slice")).click()
        expect(third.get_by_role("radio", name=re.compile("A100 slice"))).to_be_checked()
        third.get_by_role("button", name="Change the request").click()
        expect(third.get_by_role("heading", name=re.compile("A100 slice"))).to_be_visible()
        in_lab(third)
        for page in (first, second, third):
            stop(page, site)


def test_without_script_the_form_leads_to_the_place_and_it_can_be_left(browser: Browser, site: Site) -> None:
    with people(browser, site, "researcher-1", "researcher-2") as (first, second):
        for page in (first, second):
            pick(page, "T4")
            start(page)
        with people(browser, site, "instructor") as (here,):
            state = here.context.storage_state()
        plain = browser.new_context(java_script_enabled=False, storage_state=state)
        page = plain.new_page()
        page.goto(f"{site.url}/hub/spawn")
        pick(page, "T4")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("link", name="See your place in the queue").click()
        expect(page.locator(".arm-place")).to_contain_text("1st of 1 in line")
        page.get_by_text("Leave the queue").click()
        page.get_by_role("button", name="Leave and lose the place").click()
        expect(page.get_by_text("You wait for nothing.")).to_be_visible()
        plain.close()
        for page in (first, second):
            stop(page, site)


def test_own_use_limits_and_administration_read_well(browser: Browser, site: Site, shots: Shots) -> None:
    with people(browser, site, "researcher-1", "administrator") as (page, root):
        pick(page, "T4")
        start(page)
        page.goto(f"{site.url}{SERVICE}/usage")
        expect(page.get_by_role("heading", name="Running now: 1 session")).to_be_visible()
        page.get_by_text("as text").click()
        expect(page.get_by_role("table")).to_be_visible()
        accessible(page)
        fits(page)
        shots.take_all(page, "usage")
        page.get_by_role("link", name="Switch accelerator").click()
        expect(page.get_by_role("radio", name=re.compile("A100 slice"))).to_be_enabled()
        accessible(page)
        fits(page)
        shots.take_all(page, "switch")
        for path, heading in (
            ("/group?group=researchers", "Group researchers"),
            ("/admin", "Use of the site"),
            ("/admin/quotas", "Limits"),
            ("/admin/audit", "Audit trail"),
            ("/admin/messages", "Messages"),
        ):
            root.goto(f"{site.url}{SERVICE}{path}")
            expect(root.get_by_role("heading", name=heading, exact=True)).to_be_visible()
            accessible(root)
            fits(root)
            shots.take_all(root, "pages" + path.partition("?")[0].replace("/", "-"))
        stop(page, site)
