"""A site and a Chromium for the journey; screenshots go where ARMILLARY_SCREENSHOTS says, else to test-results."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, ViewportSize, expect, sync_playwright

from tests.hub.site import Site
from tests.lab import chromium

ROOT = Path(__file__).resolve().parents[2]

# Without these Chromium asks the outside world for updates and for hosts that no test machine reaches.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 360, "height": 740}

# A page of a site whose machine is busy may take more than Playwright's 5 s.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A site where the instructor is in no group that may log in."""
    with Site(settings={"login": {"allowed_groups": ["researchers", "admins"]}}).running() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; ended after each module, for Playwright keeps an event loop running in this thread, and tests
    of another module may want one of their own.
    """
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium.path(), args=QUIET)
        yield started
        started.close()


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close what a test that failed has left open for its report; what several tests share was there before."""
    if "browser" not in request.fixturenames:
        yield
        return
    browser: Browser = request.getfixturevalue("browser")
    shared = list(browser.contexts)
    yield
    for left in browser.contexts:
        if left not in shared:
            left.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failure what its pages showed then: "not visible" alone does not say what was."""
    report = yield
    browser = item.funcargs.get("browser")
    if report.failed and call.when == "call" and isinstance(browser, Browser):
        for number, page in enumerate(page for context in browser.contexts for page in context.pages):
            try:
                text = page.locator("body").inner_text(timeout=2_000)
            except Error as error:
                text = str(error)
            report.sections.append((f"page {number}: {page.url}", text[:2_000]))
    return report


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile nobody has used."""
    made = browser.new_context(viewport=DESKTOP, locale="en-GB")
    made.set_default_timeout(30_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty tab."""
    return context.new_page()


class Shots:
    """Takes screenshots by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, page: Page, name: str, *, full: bool = False) -> None:
        page.screenshot(path=self.folder / f"{name}.png", full_page=full, animations="disabled")

    def take_all(self, page: Page, name: str) -> None:
        """Light, dark and at the width of a phone."""
        theme(page, "light")
        self.take(page, name, full=True)
        theme(page, "dark")
        self.take(page, f"{name}-dark", full=True)
        page.set_viewport_size(PHONE)
        theme(page, "light")
        self.take(page, f"{name}-phone", full=True)
        page.set_viewport_size(DESKTOP)


def theme(page: Page, name: str) -> None:
    """Switch as the button in the header does."""
    page.evaluate("name => document.documentElement.setAttribute('data-bs-theme', name)", name)


@pytest.fixture(scope="session")
def shots() -> Shots:
    """Where screenshots go."""
    return Shots(Path(os.environ.get("ARMILLARY_SCREENSHOTS", ROOT / "test-results" / "screenshots")))
