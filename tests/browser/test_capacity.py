"""Counts on a whole site, on the local engine: several people at once, in browsers of their own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, Shots
from tests.browser.steps import accessible, card, fits, in_lab, log_in, pick, start, stop
from tests.hub.site import Site, wait_for

pytestmark = pytest.mark.timeout(600)
SOON = 20_000
CATALOGUE = """\
accelerators:
  t4:
    title: T4
    description: A Tesla T4, 16 GB
    family: T4
    memory: 16Gi
    simulated: {count: 2}
  slice:
    title: A100 slice 1/7
    description: One seventh of an A100, 5 GB
    family: A100
    memory: 5Gi
    share: 1/7
    simulated: {count: 21}
  fpga:
    title: Alveo U55c
    description: An FPGA with 16 GB of memory
    simulated: {count: 1}
    access: {groups: [fpga-users]}
images:
  jupyterlab: {title: JupyterLab, local: {}, default_url: /lab}
profiles:
  jupyterlab:
    title: JupyterLab
    description: Notebooks, terminals and files, on the CPU or with an accelerator
    options:
      image: jupyterlab
      accelerator: [none, t4, slice, fpga]
      cpu: {choices: [0.5, 1], default: 0.5}
      memory: {choices: [1Gi, 2Gi], default: 1Gi}
"""
FULL = "All 2 T4 (simulated) are in use: 2 by others. Wait in line, or choose another accelerator."
IN_LINE = "Not free now, so you are in the queue: {} in line for T4 (simulated). All 2 T4 (simulated) are in use"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site with two T4 that do not exist."""
    with Site(settings={"servers": {"named_limit": 2}}, catalogue=CATALOGUE).running() as running:
        yield running


@pytest.fixture(autouse=True)
def nobody_runs_afterwards(site: Site) -> Iterator[None]:
    """What a test that failed has left does not make the next ones fail."""
    yield
    all_ended(site)


def all_ended(site: Site) -> None:
    """End every session there is."""

    def left() -> list[tuple[str, str]]:
        people = site.api("GET", "/users?state=active").json()
        return [(one["name"], server) for one in people for server in one["servers"]]

    for name, server in left():
        site.api("DELETE", f"/users/{name}/servers/{server}" if server else f"/users/{name}/server")
    wait_for(lambda: not left(), "every session to end")


@contextmanager
def people(browser: Browser, site: Site, *names: str, script: bool = True) -> Iterator[list[Page]]:
    """Each logged in, in a browser of their own, with the form open."""
    with ExitStack() as stack:
        pages = []
        for name in names:
            context = browser.new_context(viewport=DESKTOP, locale="en-GB", java_script_enabled=script)
            stack.callback(context.close)
            context.set_default_timeout(30_000)
            pages.append(context.new_page())
            log_in(pages[-1], site, name)
            expect(pages[-1].get_by_role("heading", name="Start a session")).to_be_visible()
        try:
            yield pages
        except BaseException:
            stack.pop_all()  # they are closed after the report
            raise


def take(page: Page, title: str) -> None:
    """Pick an accelerator and start with it."""
    pick(page, title)
    start(page)


def ended(site: Site, name: str) -> None:
    """End somebody's session, if there is one."""
    site.api("DELETE", f"/users/{name}/server")


def test_two_take_the_last_two_while_a_third_watches(browser: Browser, site: Site, shots: Shots) -> None:
    with people(browser, site, "administrator", "researcher-1", "researcher-2") as (watcher, one, two):
        t4 = card(watcher, "T4")
        expect(t4).to_contain_text("2 of 2 free", timeout=SOON)
        expect(t4).to_contain_text("(simulated)")
        expect(watcher.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
        watcher.evaluate("window.same = true")
        take(one, "T4")
        expect(t4).to_contain_text("1 of 2 free", timeout=SOON)
        take(two, "T4")
        expect(t4).to_contain_text("all in use: 2 by others", timeout=SOON)
        assert watcher.evaluate("window.same") is True, "the page was loaded anew"
        expect(watcher.locator("#arm-news")).to_contain_text("T4 (simulated): all in use", timeout=SOON)
        expect(card(watcher, "A100 slice 1/7")).to_contain_text("21 of 21 free")

        pick(watcher, "T4")
        expect(watcher.locator("#arm-why")).to_have_text(FULL)
        expect(watcher.get_by_role("button", name="Start")).to_be_disabled()
        accessible(watcher)
        fits(watcher)
        shots.take_all(watcher, "form-full")

        expect(watcher.get_by_role("button", name="Wait in line")).to_be_visible()

        # by the other doors one has a place at once, and is told so
        asked = {"profile": "jupyterlab", "accelerator": "t4"}
        for path, place in (("server", "1st"), ("servers/second", "2nd")):
            answer = site.api("POST", f"/users/administrator/{path}", json=asked)
            assert answer.status_code == 409
            assert answer.json()["message"].startswith(IN_LINE.format(place))
        with people(browser, site, "administrator", script=False) as (plain,):
            expect(card(plain, "T4")).to_contain_text("all in use: 2 by others")
            pick(plain, "T4")
            plain.get_by_label("Memory", exact=True).select_option("2Gi")
            plain.get_by_role("button", name="Start").click()
            # more memory than before is asked for, so it goes behind the other one
            expect(plain.get_by_role("alert")).to_contain_text(IN_LINE.format("2nd"))
            expect(plain.get_by_role("radio", name="T4")).to_be_checked()
            expect(plain.get_by_label("Memory", exact=True)).to_have_value("2Gi")
            shots.take(plain, "form-refused", full=True)
            plain.goto(f"{site.url}/hub/spawn/administrator/second")
            expect(plain.get_by_text("It will be named second.")).to_be_visible()
            pick(plain, "T4")
            plain.get_by_role("button", name="Start").click()
            expect(plain.get_by_role("alert")).to_contain_text(IN_LINE.format("1st"))
            expect(plain.get_by_text("It will be named second.")).to_be_visible()
            expect(plain.get_by_role("radio", name="T4")).to_be_checked()
            plain.goto(f"{site.url}/services/armillary/queue")
            for places in (2, 1):
                expect(plain.locator(".arm-place")).to_have_count(places)
                plain.get_by_text("Leave the queue").first.click()
                plain.get_by_role("button", name="Leave and lose the place").first.click()
            expect(plain.get_by_text("You wait for nothing.")).to_be_visible()

        one.goto(f"{site.url}/hub/home")
        expect(one.get_by_text("T4 (simulated)")).to_be_visible()
        accessible(one)
        shots.take(one, "home-accelerator")
        stop(one, site)
        expect(t4).to_contain_text("1 of 2 free", timeout=SOON)
        expect(watcher.get_by_role("button", name="Start")).to_be_enabled()
        assert watcher.evaluate("window.same") is True
        start(watcher)
    for name in ("administrator", "researcher-2"):
        ended(site, name)


def test_a_service_that_is_stopped_is_shown_as_old_and_not_as_free(browser: Browser, site: Site, shots: Shots) -> None:
    with people(browser, site, "researcher-1") as (page,):
        expect(card(page, "A100 slice 1/7")).to_contain_text("21 of 21 free", timeout=SOON)
        expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
        service = site.pid_of("service")
        os.kill(service, signal.SIGSTOP)
        try:
            unknown = "how many are free is not known now"
            expect(card(page, "A100 slice 1/7")).to_contain_text(unknown, timeout=45_000)
            assert "of 21 free" not in page.locator(".arm-form").inner_text()
            expect(page.locator(".arm-as-of")).to_have_class(re.compile("arm-old"))
            # a page that is opened now knows no better, with script and without
            page.reload()
            expect(card(page, "A100 slice 1/7")).to_contain_text(unknown)
            accessible(page)
            shots.take_all(page, "form-stale")
            with people(browser, site, "researcher-2", script=False) as (plain,):
                expect(card(plain, "A100 slice 1/7")).to_contain_text(unknown)
                pick(plain, "A100 slice 1/7")
                plain.get_by_role("button", name="Start").click()
                expect(plain.get_by_role("alert")).to_contain_text(
                    "It is not known which A100 slice 1/7 (simulated) are free"
                )
        finally:
            os.kill(service, signal.SIGCONT)
        expect(card(page, "A100 slice 1/7")).to_contain_text("21 of 21 free", timeout=90_000)
        expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=90_000)


def test_one_who_has_some_sees_which_are_theirs(browser: Browser, site: Site) -> None:
    with people(browser, site, "researcher-1") as (page,):
        take(page, "A100 slice 1/7")
        page.goto(f"{site.url}/hub/spawn/researcher-1/second")
        expect(card(page, "A100 slice 1/7")).to_contain_text("20 of 21 free, 1 used by you", timeout=SOON)
        expect(page.get_by_text("It will be named second.")).to_be_visible()
        take(page, "A100 slice 1/7")
        in_lab(page)
        page.goto(f"{site.url}/hub/home")
        row = page.locator("tr[data-server-name=second]")
        expect(row).to_contain_text("A100 slice 1/7 (simulated)")
        accessible(page)
        fits(page)
    ended(site, "researcher-1")
    site.api("DELETE", "/users/researcher-1/servers/second")
