"""Two take the last two while a third watches, on a real Kubernetes whose node has two cards that a patch gave it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.bench.installation import SERVICE
from tests.browser.conftest import DESKTOP, Shots
from tests.browser.steps import accessible, card, pick, start
from tests.cluster.hub import KubeHub
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

# It needs the cluster, so it is of the tier that has one.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
RESOURCE = "form.lab.test/card"
SOON = 30_000
FULL = "All 2 Lab card are in use: 2 by others. Try again later, or choose another accelerator."


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


class ServedHub(KubeHub):
    """A hub with the service and the controller beside it."""

    def __init__(self, cluster: Cluster, namespace: str, image: str, folder: Path) -> None:
        super().__init__(cluster, namespace, image, folder)
        (folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue(image)))
        # What tests are told by the environment is no setting of the service.
        kept = {key: value for key, value in self._environment.items() if not key.startswith("ARMILLARY_")}
        self._environment = kept | {"HUB_SERVICE": "yes"}
        self._service: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Start the hub and the service, and wait until both answer through the proxy."""
        self._service = self._run([*SERVICE, str(self.folder / "armillary.yaml")])
        super().up()
        token = self.add("nobody")
        self.until(lambda: self._counted(token), "the service has counts")

    def _counted(self, token: str) -> bool:
        answer = httpx.get(f"{self.url}/services/armillary/api/capacity", headers={"Authorization": f"token {token}"})
        return answer.status_code == 200 and bool(answer.json()["fresh"])

    def down(self) -> None:
        """End everything."""
        if self._service is not None:
            os.killpg(self._service.pid, signal.SIGKILL)
            self._service.wait(60)
        super().down()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The lab's cluster, whose node has two cards for as long as the tests run."""
    with kubernetes.in_use() as running:
        _cards(running, "2")
        try:
            yield running
        finally:
            _cards(running, None)


def _cards(cluster: Cluster, number: str | None) -> None:
    status = {"status": {part: {RESOURCE: number} for part in ("capacity", "allocatable")}}
    cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", json.dumps(status))


@pytest.fixture(scope="module")
def hub(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedHub]:
    """One hub, in a namespace of its own."""
    with cluster.namespace("form") as namespace:
        served = ServedHub(cluster, namespace, cluster.image("base"), tmp_path_factory.mktemp("hub"))
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


def test_two_take_the_last_two_while_a_third_watches(browser: Browser, hub: ServedHub, shots: Shots) -> None:
    with ExitStack() as stack:
        pages = []
        for name in ("wanda", "ulla", "viktor"):
            context = browser.new_context(viewport=DESKTOP, locale="en-GB")
            stack.callback(context.close)
            context.set_default_timeout(60_000)
            pages.append(context.new_page())
            log_in(pages[-1], hub, name)
        watcher, one, two = pages
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
        refused = hub.request_start("wanda", profile="jupyterlab", accelerator="card")
        assert (refused.status_code, refused.json()["message"]) == (409, FULL)
        assert hub.objects("pods", "jupyter-wanda") == []

        hub.stop("ulla")
        expect(cards).to_contain_text("1 of 2 free", timeout=SOON)
        expect(watcher.get_by_role("button", name="Start")).to_be_enabled()
        watcher.get_by_label("CPU cores").fill("60")
        expect(watcher.locator("#arm-why")).to_contain_text("60 CPU cores and 512 MiB do not fit")
        said = watcher.locator("#arm-why").inner_text()
        refused = hub.request_start("wanda", profile="jupyterlab", accelerator="card", cpu="60")
        assert (refused.status_code, refused.json()["message"]) == (409, said)
        watcher.get_by_label("CPU cores").fill("0.5")
        start(watcher)
    for name in ("viktor", "wanda"):
        hub.stop(name)
