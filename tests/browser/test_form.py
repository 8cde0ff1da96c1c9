"""The form in a browser while the service changes its mind, fails, is silent and comes back; with a pretended service.

What the counts say is `tests/spawner/test_card.py`; what is refused, `test_words.py`; whole sites, `test_capacity.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation
from tests.browser.conftest import DESKTOP, Shots
from tests.browser.pretend import PretendSite, running
from tests.browser.steps import accessible, card, fits, pick

pytestmark = pytest.mark.timeout(180)

AT = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
GIB = 1 << 30
ROOM = (Fit(2, 14_000, 90 * GIB),)
SOON = 10_000
CATALOGUE = Catalogue.model_validate(
    {
        "accelerators": {
            "t4": {
                "title": "T4",
                "description": "16 GB",
                "simulated": {"count": 2},
                "kubernetes": {"resource": "nvidia.com/gpu"},
            },
            "a100": {"title": "A100 slice", "description": "5 GB", "simulated": {"count": 42}},
            "rtx": {"title": "RTX 5000", "simulated": {"count": 5}},
            "u55c": {"title": "Alveo U55c", "simulated": {"count": 2}, "access": {"groups": ["fpga-users"]}},
        },
        "images": {"lab": {"title": "JupyterLab", "reference": "example.org/lab:1", "local": {}}},
        "profiles": {
            "lab": {
                "title": "JupyterLab",
                "options": {
                    "image": "lab",
                    "accelerator": ["none", "t4", "a100", "rtx", "u55c"],
                    "count": {"min": 1, "max": 4, "default": 1},
                    "cpu": [1, 4, 16],
                    "memory": {"min": "1Gi", "max": "200Gi", "default": "2Gi"},
                },
            }
        },
    }
)


def known(free: int = 2, *, mine: int = 0, fresh: bool = True, second: int = 0) -> Availability:
    """So many T4 free, of two."""
    counts = {
        "none": Count(fits_now=ROOM, fits_empty=ROOM),
        "t4": Count(2, free, 2 - free, fits_now=ROOM if free else (), fits_empty=ROOM, simulated=True),
        "a100": Count(42, 10, 32, fits_now=ROOM, fits_empty=ROOM, simulated=True),
        "rtx": Count(5, 2, 1, 0, 2, (("ECC errors", 2),), ROOM, ROOM, simulated=True),
    }
    at = AT.replace(second=second)
    devices = tuple(DeviceState(f"d{number}", "t4", simulated=True) for number in range(2))
    held = tuple(Reservation(f"m{n}", "ann", "", "lab", "t4", 1, 1000, GIB, (f"d{n}",), True) for n in range(mine))
    return Availability(Snapshot("local", at, counts, devices=devices), fresh, at, held)


@pytest.fixture
def pretend() -> Iterator[Callable[..., PretendSite]]:
    """Make a site; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(
            running(PretendSite(**{"catalogue": CATALOGUE, "known": known(), **more}))
        )


def start_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Start")


def test_counts_change_without_reload_and_are_said_once(page: Page, pretend: Any, shots: Shots) -> None:
    site = pretend()
    page.goto(site.url)
    expect(card(page, "T4")).to_contain_text("2 of 2 free")
    expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
    page.evaluate("window.same = true")
    site.tell(served=known(0, second=8))
    expect(card(page, "T4")).to_contain_text("all in use: 2 by others", timeout=SOON)
    expect(page.locator("#arm-news")).to_have_text("T4 (simulated): all in use: 2 by others.", timeout=SOON)
    assert page.locator("[role=status]").count() == 3, "cards are no live regions of their own"
    shots.take_all(page, "form-counts")
    site.tell(served=known(1, mine=1, second=9))
    expect(card(page, "T4")).to_contain_text("1 of 2 free, 1 used by you", timeout=SOON)
    assert page.evaluate("window.same") is True


def test_the_time_is_local_with_its_zone(browser: Browser, pretend: Any) -> None:
    site = pretend()
    context = browser.new_context(timezone_id="Asia/Kolkata", locale="en-GB")
    try:
        page = context.new_page()
        page.goto(site.url)
        clock = page.locator(".arm-clock")
        expect(clock).to_have_text("20:30:00")
        assert clock.get_attribute("title") in ("Asia/Kolkata", "Asia/Calcutta")
    finally:
        context.close()


def test_every_kind_of_card(page: Page, pretend: Any) -> None:
    page.goto(pretend().url)
    expect(card(page, "A100 slice")).to_contain_text("10 of 42 free")
    expect(card(page, "A100 slice").locator(".arm-bar")).to_be_visible()
    expect(card(page, "RTX 5000")).to_contain_text("2 cannot be used now: ECC errors")
    expect(card(page, "RTX 5000").locator(".arm-dots i")).to_have_count(5)
    expect(card(page, "Alveo U55c")).to_contain_text("needs group fpga-users")
    expect(card(page, "Alveo U55c")).not_to_contain_text("free")
    for title in ("T4", "A100 slice", "RTX 5000", "Alveo U55c"):
        expect(card(page, title)).to_contain_text("(simulated)")
    assert page.locator(".arm-dots, .arm-bar").evaluate_all("all => all.every(one => one.ariaHidden === 'true')")


def test_a_full_one_can_be_looked_at_but_not_started(page: Page, pretend: Any) -> None:
    site = pretend(known=known(0, mine=1))
    page.goto(site.url)
    pick(page, "T4")
    said = "All 2 T4 (simulated) are in use: 1 by others, 1 by you. Try again later, or choose another accelerator."
    expect(page.locator("#arm-why")).to_have_text(said)
    expect(start_button(page)).to_be_disabled()
    assert start_button(page).get_attribute("aria-describedby") == "arm-why"
    accessible(page)
    fits(page)
    # by keyboard too, and in every way in which a form is sent
    start_button(page).focus()
    page.keyboard.press("Enter")
    page.locator("[id$='--memory']").press("Enter")
    assert site.submitted == []
    site.tell(served=known(1, mine=1, second=9))
    expect(start_button(page)).to_be_enabled(timeout=SOON)
    expect(page.locator("#arm-why")).to_be_hidden()
    start_button(page).click()
    page.wait_for_function("document.title === 'started'")
    assert len(site.submitted) == 1


def test_what_does_not_fit_together_is_said_before_it_is_sent(page: Page, pretend: Any) -> None:
    site = pretend()
    page.goto(site.url)
    pick(page, "T4")
    expect(page.locator(".arm-fits")).to_have_text("Fits beside one T4 (simulated): up to 14 CPU cores and 90 GiB.")
    page.get_by_label("CPU cores").select_option("16")
    why = page.locator("#arm-why")
    at_most = "at most 14 CPU cores and 90 GiB beside one T4 (simulated) on any node"
    expect(why).to_have_text(f"16 CPU cores and 2 GiB do not fit: {at_most}. Ask for less.")
    expect(start_button(page)).to_be_disabled()
    page.get_by_label("CPU cores").select_option("4")
    expect(start_button(page)).to_be_enabled()
    page.get_by_label("Memory").fill("100Gi")
    expect(why).to_contain_text("4 CPU cores and 100 GiB do not fit")
    page.get_by_label("Memory").fill("many")
    expect(start_button(page)).to_be_enabled()  # the server says what is wrong with it
    page.get_by_label("Memory").fill("90Gi")
    page.get_by_label("Number of accelerators").fill("3")
    expect(why).to_have_text("You asked for 3 T4 (simulated), but this machine has 2. Ask for fewer.")
    pick(page, "None")
    expect(why).to_be_hidden()
    described = page.get_by_label("CPU cores").get_attribute("aria-describedby") or ""
    expect(page.locator(f"#{described}")).to_have_text("Fits: up to 14 CPU cores and 90 GiB.")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"served": known(2, fresh=False)}, id="the-service-says-so"),
        pytest.param({"silent": True}, id="the-service-is-silent"),
        pytest.param({"status": 502}, id="the-service-is-away"),
    ],
)
def test_what_is_old_is_never_free(page: Page, pretend: Any, changes: dict[str, Any]) -> None:
    site = pretend()
    page.goto(site.url)
    expect(page.locator(".arm-as-of")).to_contain_text("live", timeout=SOON)
    site.tell(**changes)
    if "status" in changes:
        site.drop()
    expect(card(page, "T4")).to_contain_text("how many are free is not known now", timeout=30_000)
    assert "of 2 free" not in page.locator(".arm-form").inner_text()
    expect(page.locator(".arm-as-of")).to_have_class(re.compile("arm-old"))
    expect(page.locator(".arm-dots, .arm-bar")).to_have_count(0)
    accessible(page)
    site.tell(served=known(1, second=30), silent=False, status=200)
    expect(card(page, "T4")).to_contain_text("1 of 2 free", timeout=60_000)
    expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=60_000)


def test_a_lost_connection_is_said_and_comes_back(page: Page, pretend: Any) -> None:
    site = pretend()
    page.goto(site.url)
    expect(page.locator(".arm-as-of")).to_contain_text("live", timeout=SOON)
    site.tell(status=503)
    site.drop()
    expect(page.locator(".arm-as-of")).to_contain_text("not live: reconnecting, as of", timeout=SOON)
    expect(card(page, "T4")).to_contain_text("2 of 2 free")  # it was so a moment ago
    site.tell(status=200, served=known(1, second=20))
    expect(card(page, "T4")).to_contain_text("1 of 2 free", timeout=30_000)
    expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)


def test_the_login_at_the_service_needs_nobody(page: Page, pretend: Any) -> None:
    site = pretend(login_needed=True, served=known(1))
    page.goto(site.url)
    expect(card(page, "T4")).to_contain_text("1 of 2 free", timeout=SOON)
    expect(page.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
    assert site.asked[:3] == ["/api/capacity", "/login", "/api/capacity/events"]
    expect(page).to_have_url(f"{site.url}/")


def test_a_page_that_nobody_sees_lets_go_and_comes_back(page: Page, pretend: Any) -> None:
    site = pretend()
    page.clock.install()
    page.goto(site.url)
    expect(page.locator(".arm-as-of")).to_contain_text("live", timeout=SOON)
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.clock.fast_forward("01:05")
    expect(page.locator(".arm-as-of")).not_to_contain_text("live", timeout=SOON)
    site.tell(served=known(0, second=50))
    asked = len(site.asked)
    page.clock.run_for(5_000)
    assert len(site.asked) == asked
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    expect(card(page, "T4")).to_contain_text("all in use", timeout=SOON)


def test_without_script_the_counts_are_those_of_the_moment(browser: Browser, pretend: Any, shots: Shots) -> None:
    site = pretend(known=known(1, mine=1))
    context = browser.new_context(viewport=DESKTOP, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(site.url)
        expect(card(page, "T4")).to_contain_text("1 of 2 free, 1 used by you")
        expect(page.locator(".arm-as-of")).to_have_text("as of 15:00:00 UTC")
        expect(page.locator(".arm-fits")).to_have_text("Fits: up to 14 CPU cores and 90 GiB.")
        shots.take(page, "form-no-script", full=True)
        pick(page, "T4")
        start_button(page).click()
        assert "t4" in site.submitted[0]
    finally:
        context.close()


def test_a_refusal_is_shown_and_the_choice_is_kept(page: Page, pretend: Any) -> None:
    asked = {"profile": "lab", "accelerator": "t4", "cpu": "4", "memory": "8Gi", "count": "2"}
    text = "Only 1 of 2 T4 is free, you asked for 2: 1 by others in use. Ask for fewer."
    page.goto(pretend(known=known(1), selected=asked, error=text, server="second").url)
    expect(page.get_by_role("alert")).to_have_text(text)
    expect(page.get_by_role("radio", name="T4")).to_be_checked()
    expect(page.get_by_label("CPU cores")).to_have_value("4")
    expect(page.get_by_label("Memory")).to_have_value("8Gi")
    expect(page.get_by_text("It will be named second.")).to_be_visible()
    accessible(page)


def test_nothing_is_counted_where_nobody_counts(page: Page, pretend: Any) -> None:
    site = pretend(known=None)
    page.goto(site.url)
    expect(card(page, "T4")).to_be_visible()
    assert "free" not in page.locator(".arm-form").inner_text()
    pick(page, "T4")
    start_button(page).click()
    page.wait_for_function("document.title === 'started'")
    assert site.asked == []


def test_an_autoscaled_cluster_lets_one_ask_for_a_full_one(page: Page, pretend: Any) -> None:
    counted = Snapshot("kubernetes", AT, {"t4": Count(2, 0, 2, fits_empty=ROOM)})
    more = {"known": Availability(counted, True, AT), "engine": "kubernetes"}
    page.goto(pretend(**more).url)
    pick(page, "T4")
    expect(start_button(page)).to_be_disabled()
    page.goto(pretend(**more, nodes_may_appear=True).url)
    pick(page, "T4")
    expect(card(page, "T4")).to_contain_text("all in use")
    expect(start_button(page)).to_be_enabled()


def test_rubbish_from_the_service_breaks_nothing(page: Page, pretend: Any) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/api/capacity", lambda route: route.fulfill(status=200, content_type="text/html", body="<p>hello"))
    page.route("**/api/capacity/events", lambda route: route.fulfill(status=200, body="nothing"))
    page.goto(pretend().url)
    expect(page.locator(".arm-as-of")).to_contain_text("not live: reconnecting", timeout=SOON)
    expect(card(page, "T4")).to_contain_text("2 of 2 free")
    assert errors == []
