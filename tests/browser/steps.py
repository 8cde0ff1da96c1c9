"""What a person does, step by step."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Dialog, Locator, Page, expect

from tests.browser.conftest import DESKTOP, PHONE, theme


class Place(Protocol):
    """Where one logs in at the demonstration's provider."""

    @property
    def url(self) -> str:
        """Of the hub, for browsers."""

    @property
    def accounts(self) -> Mapping[str, str]:
        """Passwords by name."""


def log_in(page: Page, site: Place, name: str, password: str | None = None) -> None:
    """Open the site and type name and password at the provider."""
    page.goto(site.url)
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=login]").press("Enter")
    expect(page.locator("input[name=password]")).to_be_visible()
    # Canaille's script (htmx) turns the one page into the other; what is typed before it has done so is lost.
    page.wait_for_function("!document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling, .htmx-added')")
    page.locator("input[name=password]").fill(password or site.accounts[name])
    page.locator("input[name=password]").press("Enter")


def card(page: Page, title: str) -> Locator:
    """Return the card of an accelerator on the form."""
    return page.locator(".arm-card-cell", has=page.locator(".arm-card-title", has_text=re.compile(rf"^{title}\b")))


def pick(page: Page, title: str) -> None:
    """Pick an accelerator; its native control lies unseen below the card."""
    page.get_by_role("radio", name=title).check(force=True)


def start(page: Page) -> None:
    """Press Start on the form and wait until JupyterLab is there."""
    page.get_by_role("button", name="Start").click()
    in_lab(page)


def in_lab(page: Page) -> None:
    """Wait until the address is JupyterLab's and its panels are drawn."""
    page.wait_for_url("**/lab**", timeout=90_000)
    page.wait_for_selector("#jp-main-dock-panel", timeout=60_000)


def stop(page: Page, site: Place) -> None:
    """Stop the session on the home page and wait until it has ended."""
    page.goto(f"{site.url}/hub/home")
    asked: list[str] = []

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.once("dialog", agree)
    page.get_by_role("button", name="Stop and lose unsaved work").click()
    expect(page.get_by_role("button", name="Stop and lose unsaved work")).to_be_hidden(timeout=30_000)
    assert asked == ["Stop your session? Kernels and terminals end, and what is not saved is lost. Files are kept."]


def accessible(page: Page) -> None:
    """Assert that axe finds nothing: light and dark, on a desktop and on a phone."""
    found: list[Any] = []
    # colours that are still fading from one theme to the other have the contrast of neither
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        for name in ("light", "dark"):
            theme(page, name)
            for violation in Axe().run(page).response["violations"]:
                nodes = [node["html"][:160] for node in violation["nodes"][:3]]
                found.append((name, size["width"], violation["id"], violation["help"], nodes))
    page.set_viewport_size(DESKTOP)
    theme(page, "light")
    assert not found, "\n".join(map(str, found))


def fits(page: Page) -> None:
    """Assert that nothing sticks out sideways on a phone."""
    page.set_viewport_size(PHONE)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size(DESKTOP)
    assert wide <= 0, f"the page is {wide} pixels too wide for a phone"
