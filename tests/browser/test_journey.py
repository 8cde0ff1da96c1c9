"""Log in, pick, work, stop, log out; and the pages on which that ends early."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import DESKTOP, Shots
from tests.browser.steps import accessible, fits, in_lab, log_in, start, stop
from tests.hub.site import Site

pytestmark = pytest.mark.timeout(300)


def test_login_form_jupyterlab_cell_stop_logout(page: Page, site: Site, shots: Shots) -> None:
    page.goto(site.url)
    expect(page.locator("input[name=login]")).to_be_visible()
    shots.take(page, "login")
    log_in(page, site, "researcher-1")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    accessible(page)
    fits(page)
    shots.take_all(page, "form")

    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/hub/spawn-pending/**")
    expect(page.get_by_text("Starting JupyterLab")).to_be_visible()
    shots.take(page, "pending")
    in_lab(page)

    page.goto(f"{site.url}/user/researcher-1/lab?reset")
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=60_000)
    page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    page.keyboard.type("6*7")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").first).to_have_text(re.compile("42"), timeout=30_000)
    shots.take(page, "jupyterlab")

    page.goto(f"{site.url}/hub/home")
    expect(page.get_by_text("Running since")).to_be_visible()
    accessible(page)
    fits(page)
    shots.take_all(page, "home")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Stop and lose unsaved work").click()
    page.wait_for_timeout(500)
    assert site.server("researcher-1").get("ready"), "who says no keeps the session"
    stop(page, site)
    assert not site.server("researcher-1").get("ready")

    page.get_by_role("button", name="Logout").or_(page.get_by_role("link", name="Logout")).first.click()
    expect(page.get_by_role("heading", name="You are logged out")).to_be_visible()
    accessible(page)
    shots.take(page, "logout")
    # the provider has forgotten us too: it asks for name and password again
    page.goto(f"{site.url}/hub/home")
    expect(page.locator("input[name=login], input[name=password]").first).to_be_visible()


def test_a_wrong_password_says_so(page: Page, site: Site, shots: Shots) -> None:
    log_in(page, site, "researcher-2", password="not the password")
    expect(page.locator("body")).to_contain_text(re.compile("login failed|incorrect|wrong", re.IGNORECASE))
    assert not page.url.startswith(site.url)
    shots.take(page, "wrong-password")


def test_somebody_in_no_allowed_group_is_told_which_groups_are_needed(page: Page, site: Site, shots: Shots) -> None:
    log_in(page, site, "instructor")
    page.wait_for_url(f"{site.url}/**")
    expect(page.get_by_role("heading").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("researchers")
    accessible(page)
    shots.take(page, "no-group")


def test_keyboard_alone_is_enough(page: Page, site: Site) -> None:
    log_in(page, site, "researcher-2")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "start-button":
            break
        outline = page.evaluate(
            """() => { const e = document.activeElement; const s = e.matches('.arm-card-input') ? e.nextElementSibling : e;
                       const c = getComputedStyle(s); return c.outlineStyle !== 'none' || c.boxShadow !== 'none'; }"""
        )
        assert outline, page.evaluate("document.activeElement.outerHTML")
    assert page.evaluate("document.activeElement.id") == "start-button"
    page.keyboard.press("Enter")
    in_lab(page)
    stop(page, site)


def test_the_form_works_without_script(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport=DESKTOP, java_script_enabled=False)
    try:
        page = context.new_page()
        log_in(page, site, "administrator")
        expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
        page.locator("#profile-option-jupyterlab--cpu").select_option("2")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("heading", name="Starting your session")).to_be_visible()
        for _ in range(60):
            if "/user/administrator/" in page.url:
                break
            page.wait_for_timeout(500)
            page.reload()
        assert "/user/administrator/" in page.url
        assert site.server("administrator")["user_options"]["cpu"] == "2"
    finally:
        context.close()
        site.api("DELETE", "/users/administrator/server")


def test_a_value_that_is_not_in_the_catalogue_is_refused_on_the_form(page: Page, site: Site, shots: Shots) -> None:
    log_in(page, site, "researcher-2")
    page.get_by_label("CPU cores").evaluate("select => { select.options[select.selectedIndex].value = '{x}<b>' }")
    page.get_by_role("button", name="Start").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("'{x}<b>' is not a number")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    accessible(page)
    shots.take(page, "refused")
    assert not site.server("researcher-2").get("ready")


def test_somebody_elses_session_is_out_of_reach(context: BrowserContext, browser: Browser, site: Site) -> None:
    page = context.new_page()
    log_in(page, site, "researcher-1")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    start(page)
    other = browser.new_context()
    try:
        stranger = other.new_page()
        log_in(stranger, site, "researcher-2")
        expect(stranger.get_by_role("heading", name="Start a session")).to_be_visible()
        answer = stranger.goto(f"{site.url}/user/researcher-1/lab")
        assert answer is not None
        assert answer.status in (403, 404)
        assert stranger.request.get(f"{site.url}/user/researcher-1/api/contents").status == 403
    finally:
        other.close()
        stop(page, site)


@pytest.mark.parametrize("path", ["/hub/home", "/hub/token", "/hub/spawn", "/hub/nothing-here"])
def test_pages_are_accessible_and_fit_a_phone(page: Page, site: Site, path: str) -> None:
    log_in(page, site, "researcher-2")
    page.wait_for_url(f"{site.url}/**")
    page.goto(site.url + path)
    fits(page)
    accessible(page)
