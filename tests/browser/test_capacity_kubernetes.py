"""Two take the last two while a third watches and waits, on a real Kubernetes whose node has two cards by a patch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, Shots
from tests.browser.steps import accessible, card, in_lab, pick, start
from tests.cluster.served_hub import ServedHub
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

# It needs the cluster, so it is of the tier that has one.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
RESOURCE = "form.lab.test/card"
SOON = 30_000
FULL = "All 2 Lab card are in use: 2 by others. Wait in line, or choose another accelerator."
IN_LINE = "Not free now, so you are in the queue: {} in line for Lab card. All 2 Lab card are in use"


def catalogue(image: str) -> dict[str, object]:
    """One kind of card, which only the real node has."""
    options = {
        "image": "base",
        "accelerator": ["none", "card"],
        "cpu": {"min": 0.1, "max": 64, "default": 0.5},
        "memory": {"choices": ["512Mi", "1Gi"], "default": "512Mi"},
    }
    return {
        "accelerators": {"card": {"title": "Lab card", "kubernetes": {"resource": RESOURCE}}},
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {"jupyterlab": {"title": "JupyterLab", "options": options}},
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The lab's cluster, whose node has two cards for as long as the tests run."""
    with kubernetes.in_use() as running, cards(running, {RESOURCE: "2"}):
        yield running


@contextmanager
def cards(cluster: Cluster, numbers: Mapping[str, str]) -> Iterator[None]:
    """The node has so many of these while the block runs."""
    _patch(cluster, numbers)
    try:
        yield
    finally:
        _patch(cluster, dict.fromkeys(numbers))


def _patch(cluster: Cluster, numbers: Mapping[str, str | None]) -> None:
    status = {"status": {part: {**numbers} for part in ("capacity", "allocatable")}}
    cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", json.dumps(status))


@pytest.fixture(scope="module")
def hub(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedHub]:
    """One hub, in a namespace of its own."""
    with cluster.namespace("form") as namespace:
        served = ServedHub(cluster, namespace, tmp_path_factory.mktemp("hub"), catalogue(cluster.image("base")))
        try:
            served.up()
            yield served
        finally:
            served.down()


def log_in(page: Page, hub: ServedHub, name: str) -> None:
    """Log in by name, which is all that this hub asks for."""
    page.goto(f"{hub.url}/hub/spawn")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("any")
    page.locator("#login_submit").click()
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()


@contextmanager
def people(browser: Browser, hub: ServedHub, *names: str) -> Iterator[list[Page]]:
    """Each logged in, in a browser of their own, with the form open."""
    with ExitStack() as stack:
        pages = []
        for name in names:
            context = browser.new_context(viewport=DESKTOP, locale="en-GB")
            stack.callback(context.close)
            context.set_default_timeout(60_000)
            pages.append(context.new_page())
            log_in(pages[-1], hub, name)
        try:
            yield pages
        except BaseException:
            stack.pop_all()  # they are closed after the report
            raise


def test_two_take_the_last_two_while_a_third_watches_and_waits(browser: Browser, hub: ServedHub, shots: Shots) -> None:
    with people(browser, hub, "wanda", "ulla", "viktor") as (watcher, one, two):
        cards = card(watcher, "Lab card")
        expect(cards).to_contain_text("2 of 2 free", timeout=SOON)
        expect(watcher.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
        watcher.evaluate("window.same = true")
        for page, text in ((one, "1 of 2 free"), (two, "all in use: 2 by others")):
            pick(page, "Lab card")
            start(page)
            expect(cards).to_contain_text(text, timeout=SOON)
        assert watcher.evaluate("window.same") is True, "the page was loaded anew"
        pick(watcher, "Lab card")
        expect(watcher.locator("#arm-why")).to_have_text(FULL)
        expect(watcher.get_by_role("button", name="Start")).to_be_disabled()
        accessible(watcher)
        shots.take(watcher, "form-full-kubernetes", full=True)
        watcher.get_by_label("CPU cores").fill("60")
        expect(watcher.locator("#arm-why")).to_contain_text("60 CPU cores and 512 MiB do not fit")
        said = watcher.locator("#arm-why").inner_text()
        refused = hub.request_start("wanda", profile="jupyterlab", accelerator="card", cpu="60")
        assert (refused.status_code, refused.json()["message"]) == (409, said)
        watcher.get_by_label("CPU cores").fill("0.5")

        # in line: by the form, and by the hub's REST API alone
        watcher.get_by_role("button", name="Wait in line").click()
        watcher.wait_for_url("**/services/armillary/queue")
        place = watcher.locator(".arm-place")
        expect(place).to_contain_text("1st of 1 in line")
        hub.add("xaver")
        queued = hub.request_start("xaver", profile="jupyterlab", accelerator="card")
        assert queued.status_code == 409
        assert queued.json()["message"].startswith(IN_LINE.format("2nd"))
        expect(place).to_contain_text("1st of 2 in line")
        assert hub.objects("pods", "jupyter-wanda") == []
        hub.kill_all()
        hub.up()
        expect(watcher.locator(".arm-as-of")).to_contain_text("live, as of", timeout=SOON)
        expect(place).to_contain_text("1st of 2 in line")

        # each is started by itself when a card is free, the first one first
        hub.stop("ulla")
        in_lab(watcher)
        assert not hub.server("xaver")
        again = hub.request_start("xaver", profile="jupyterlab", accelerator="card")
        assert again.json()["message"].startswith(IN_LINE.format("1st"))
        hub.stop("viktor")
        hub.until(lambda: hub.server("xaver").get("ready"), "the second one's server is up")
    for name in ("wanda", "xaver"):
        hub.stop(name)
