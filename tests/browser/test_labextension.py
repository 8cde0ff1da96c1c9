"""The JupyterLab extension in a real JupyterLab; what its server half would answer is a script."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Locator, Page, Route, expect

from tests.browser.conftest import Shots
from tests.browser.lab import Lab, Script, a_notice, a_state, install, running

pytestmark = pytest.mark.timeout(900)  # the first test of a fresh cache installs npm packages and builds

ASKED_AGAIN = 60_000
"""The extension asks every 15 s; a busy machine makes that longer."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    shared = install(tmp_path_factory.mktemp("prefix"))
    with running(shared, tmp_path_factory.mktemp("lab")) as one:
        yield one


@pytest.fixture
def script(page: Page) -> Script:
    return Script(page)


@pytest.fixture
def errors(page: Page) -> list[str]:
    """What the browser's console calls errors."""
    found: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "armillary" in f"{message.text} {message.location}":
            found.append(f"{message.text} ({message.location})")

    page.on("console", note)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def opened(page: Page, lab: Lab, path: str = "") -> None:
    page.goto(lab.address(path))
    page.wait_for_selector("#jp-main-dock-panel", timeout=90_000)
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=90_000)


def status(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("^Session: "))


def theme(page: Page, name: str) -> None:
    """Switch as the menu does, and wait until it is drawn."""
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    light = "true" if "Light" in name else "false"
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def accessible(page: Page, *selectors: str) -> None:
    """Assert that axe finds nothing in these parts, in a light and in a dark theme."""
    found = []
    still = page.add_style_tag(
        content="*, *::before, *::after { transition: none !important; animation: none !important; }"
    )
    for name in ("JupyterLab Dark", "JupyterLab Light"):
        theme(page, name)
        for selector in selectors:
            expect(page.locator(selector).first).to_be_visible()
            for violation in Axe().run(page, context=selector).response["violations"]:
                nodes = [node["html"][:160] for node in violation["nodes"][:3]]
                found.append((name, selector, violation["id"], violation["help"], nodes))
    still.evaluate("style => style.remove()")  # without animation JupyterLab's notifications never go away
    assert not found, "\n".join(map(str, found))


def test_the_status_line_opens_a_panel_by_keyboard_and_escape_closes_it(
    page: Page, lab: Lab, script: Script, shots: Shots, errors: list[str]
) -> None:
    opened(page, lab)
    line = status(page)
    expect(line).to_have_text(
        re.compile(r"A100 slice 1/7 \(simulated\) · 2 h (30|29) min left · budget: 12\.4 of 40 h left")
    )
    line.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="This session")
    expect(panel).to_be_visible()
    expect(panel).to_be_focused()
    expect(line).to_have_attribute("aria-expanded", "true")
    expect(panel).to_contain_text("27.6 of 40 h used (69 %), 12.4 h left")
    expect(panel).to_contain_text("1.2 of 4 cores in use")
    expect(panel).to_contain_text("40 % busy, 2 of 5 GB in use")
    accessible(page, ".armillary-Panel", ".armillary-Status")
    shots.take(page, "labextension")
    theme(page, "JupyterLab Dark")
    shots.take(page, "labextension-dark")
    theme(page, "JupyterLab Light")
    box, screen = panel.bounding_box(), page.viewport_size
    assert box
    assert screen
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= screen["width"]
    panel.focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Switch accelerator…")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(line).to_be_focused()
    assert not errors


def test_an_idle_warning_comes_up_once_and_keeps_the_session(
    page: Page, lab: Lab, script: Script, shots: Shots, errors: list[str]
) -> None:
    text = "Nothing has used this session for 1 h 50 min; it stops in 10 min."
    assert script.state
    script.state["notices"] = [a_notice("idle", text)]
    script.state["session"] |= {"stop_at": time.time() + 600, "stop_because": "idle"}
    script.state["session"]["keep"] = {"possible": True, "left": 2}

    def kept(request: str) -> None:
        if request == "POST keep":
            script.state = a_state()

    script.before = kept
    script.answers["POST keep"] = (200, {"text": "Your session is kept. You can do this once more."})
    opened(page, lab)
    warning = page.get_by_role("alert").filter(has_text=text)
    expect(warning).to_be_visible()
    expect(status(page)).to_contain_text(re.compile("stops in (10|9) min"))
    accessible(page, ".jp-toastContainer", ".armillary-Status")
    shots.take(page, "labextension-idle")

    page.reload()
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=90_000)
    expect(status(page)).to_contain_text("stops in")
    listed = page.locator(".jp-Notification-Status").get_by_title(re.compile("^[12] notification"))
    expect(listed).to_be_visible()
    expect(warning).to_be_hidden()

    listed.click()
    page.get_by_role("button", name="Keep my session").click()
    expect(status(page)).to_contain_text("left")
    expect(status(page)).not_to_contain_text("stops in")
    expect(page.get_by_text("You can do this once more.").first).to_be_visible()
    expect(page.get_by_text(text)).to_have_count(0)
    assert script.requests() == ["POST keep"]
    assert not errors


def test_quota_and_maintenance_notices_are_told_and_dismissed_for_good(
    page: Page, lab: Lab, script: Script, errors: list[str]
) -> None:
    budget = "80 % of the 40 A100 hours of group cms this week are used."
    long = "On Monday at 8:00 the machines get a new kernel. " * 4
    assert script.state
    opened(page, lab)
    expect(status(page)).to_be_visible()
    script.state["notices"] = [a_notice("budget", budget), a_notice("maintenance", long.strip(), "info")]
    script.answers["DELETE notices/budget"] = (204, None)
    expect(page.get_by_role("alert").filter(has_text=budget)).to_be_visible(timeout=ASKED_AGAIN)

    def usage(route: Route) -> None:
        route.fulfill(body="<title>My usage</title>", content_type="text/html")

    page.context.route("**/services/armillary/usage", usage)
    with page.expect_popup() as popup:
        page.get_by_role("alert").filter(has_text=budget).get_by_role("button", name="My usage").click()
    expect(popup.value).to_have_title("My usage")
    popup.value.close()

    page.get_by_role("button", name="Read all").click()
    panel = page.get_by_role("dialog", name="This session")
    expect(panel).to_contain_text(long.strip())
    accessible(page, ".armillary-Panel")
    script.state["notices"] = script.state["notices"][1:]
    panel.get_by_role("button", name=f"Dismiss: {budget}").click()
    expect(page.get_by_text(budget)).to_have_count(0)
    assert script.requests() == ["DELETE notices/budget"]
    assert not errors


def choice(accelerator: str, title: str, free: int | None, total: int | None, **more: Any) -> dict[str, Any]:
    rest = {"simulated": False, "current": False, "ahead": 0, "estimate": "", "refused": "", "most": 1}
    return {"accelerator": accelerator, "title": title, "free": free, "total": total, **rest, **more}


CHOICES = {
    "choices": [
        choice("a100-1g.5gb", "A100 slice 1/7", 3, 21, current=True),
        choice("u55c", "Alveo U55c", 1, 1, refused="needs group fpga-users"),
        choice("t4", "T4", 1, 2),
        choice("a100", "A100", 0, 2, ahead=2, estimate="about 25 min"),
        choice("", "", None, None),
    ]
}


def test_switching_saves_first_then_queues_then_leads_to_the_queue_page(
    page: Page, lab: Lab, script: Script, shots: Shots, errors: list[str]
) -> None:
    (lab.files / "notes.txt").write_text("begun\n")
    script.answers["GET switch"] = (200, CHOICES)
    script.answers["POST switch"] = (200, {"outcome": "waiting", "text": "You are 3rd in line for an A100."})
    on_disk: dict[str, str] = {}
    script.before = lambda request: on_disk.update({request: (lab.files / "notes.txt").read_text()})
    opened(page, lab, "/tree/notes.txt")
    expect(status(page)).to_be_visible()
    page.locator(".jp-FileEditor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("and not saved")
    expect(page.locator(".lm-DockPanel-tabBar .jp-mod-dirty")).to_be_visible()

    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^File$")).click()
    shots.take(page, "labextension-menu")
    page.get_by_role("menuitem", name="Switch accelerator…").click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog.get_by_role("radio", name=re.compile("^T4"))).to_be_checked()
    expect(dialog.get_by_role("radio", name=re.compile("^T4"))).to_be_focused()
    expect(dialog.get_by_role("radio", name=re.compile("needs group fpga-users"))).to_be_disabled()
    expect(dialog).to_contain_text("1 document with unsaved changes will be saved first.")
    accessible(page, ".armillary-Choice")
    shots.take(page, "labextension-switch")
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_role("radio", name=re.compile(r"^A100\b.*queue: 2 ahead, about 25 min"))).to_be_checked()
    assert script.state
    script.state["ticket"] = {"id": "t", "title": "A100", "place": 3, "of": 3, "text": "All are in use."}
    dialog.get_by_role("button", name="Switch").click()
    expect(page.get_by_text("You are 3rd in line for an A100.").first).to_be_visible()
    assert script.asked == [("GET switch", None), ("POST switch", {"accelerator": "a100", "count": 1})]
    assert on_disk == {"GET switch": "begun\n", "POST switch": "begun\nand not saved"}
    expect(status(page)).to_contain_text("3rd in line for A100")

    # its turn: what was written meanwhile is saved, and the page goes where the new session opens
    page.locator(".jp-FileEditor .cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(", then more")
    page.route(
        "**/services/armillary/queue",
        lambda route: route.fulfill(body="<title>Queue</title>", content_type="text/html"),
    )
    script.state["session"] |= {"stop_at": time.time() + 20, "stop_because": "switch"}
    page.wait_for_url("**/services/armillary/queue", timeout=ASKED_AGAIN)
    assert (lab.files / "notes.txt").read_text() == "begun\nand not saved, then more"
    assert not errors


def test_one_may_leave_the_queue_and_a_refusal_is_shown(page: Page, lab: Lab, script: Script) -> None:
    assert script.state
    script.state["ticket"] = {"id": "t", "title": "A100", "place": 1, "of": 1, "text": "All are in use."}
    script.answers["DELETE switch"] = (200, {"text": "You left the queue."})
    detail = "The service does not answer; try again in a minute."
    script.answers["GET switch"] = (503, {"code": "service-away", "detail": detail})

    def left(request: str) -> None:
        if request == "DELETE switch" and script.state:
            script.state["ticket"] = None

    script.before = left
    opened(page, lab)
    status(page).click()
    page.get_by_role("button", name="Leave the queue").click()
    expect(page.get_by_text("You left the queue.").first).to_be_visible()
    expect(status(page)).not_to_contain_text("in line")
    page.get_by_role("button", name="Switch accelerator…").click()
    expect(page.locator(".jp-Dialog")).to_contain_text(detail)
    expect(page.locator(".armillary-Panel")).to_have_count(0)


def test_a_server_that_armillary_did_not_start_shows_nothing(page: Page, lab: Lab, script: Script) -> None:
    script.state = None
    with page.expect_response("**/armillary/state**", timeout=90_000):
        opened(page, lab)
    expect(page.locator("#jp-main-statusbar, .jp-StatusBar-Widget").first).to_be_visible()
    expect(status(page)).to_have_count(0)
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^File$")).click()
    expect(page.get_by_role("menuitem", name=re.compile("New"))).not_to_have_count(0)
    expect(page.get_by_role("menuitem", name="Switch accelerator…")).to_have_count(0)
