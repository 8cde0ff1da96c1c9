"""Idle sessions, budgets and *Keep my session* as part of a whole site: real sessions that measure themselves."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.hub.site import ROOT, Site, wait_for
from tests.hub.test_service_site import token_of
from tests.hub.web_world import PREFIX, problem

pytestmark = [pytest.mark.hub, pytest.mark.timeout(400)]

CATALOGUE = """\
images:
  lab:
    title: JupyterLab
    local:
      environment:
        PYTHONPATH: {lib}
        JUPYTER_CONFIG_PATH: {config}
accelerators:
  t4: {{title: T4, simulated: {{count: 4}}}}
profiles:
  lab: {{title: Lab, options: {{image: [lab], accelerator: [none, t4]}}}}
"""
IDLE = {
    "gpu_hours": 24 / 3600,
    "warn_minutes": 12 / 60,
    "keeps": 1,
    "budget_grace_minutes": 0.05,
}
T4 = {"profile": "lab", "accelerator": "t4"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="armillary-idle-"))
    folder.chmod(0o755)
    # As an image has it installed; sessions run under accounts that cannot read a checkout.
    shutil.copytree(ROOT / "images" / "labextension" / "armillary_lab", folder / "lib" / "armillary_lab")
    config = folder / "config" / "jupyter_server_config.d"
    config.mkdir(parents=True)
    shutil.copy(ROOT / "images" / "labextension" / "jupyter-config" / "armillary_lab.json", config)
    catalogue = CATALOGUE.format(lib=folder / "lib", config=folder / "config")
    often = 'c.Spawner.environment = {"ARMILLARY_MEASURE_SECONDS": "1"}\n'
    made = Site(folder, settings={"idle": IDLE}, catalogue=catalogue, config=often)
    try:
        with made.running():
            for name in ("researcher-1", "researcher-2", "administrator"):
                made.login(name).close()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Person:
    """Somebody with a token, and what they ask the service."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.token = token_of(site, name)

    def ask(self, method: str, path: str, *, new: bool = False, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}", **({"If-None-Match": "*"} if new else {})}
        return httpx.request(method, f"{self.site.url}{PREFIX}/api{path}", headers=headers, timeout=30, **more)

    def state(self) -> dict[str, Any]:
        said: dict[str, Any] = self.ask("GET", "/sessions/~").json()
        return said

    def announced(self) -> str:
        return str(self.state().get("session", {}).get("stop_because", ""))

    def notices(self, kind: str) -> list[str]:
        return [one["text"] for one in self.ask("GET", "/notices").json() if one["kind"] == kind]

    def stopped(self) -> bool:
        return not self.site.server(self.name)

    def lab(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the session's own server, through the proxy."""
        headers = {"Authorization": f"token {self.site.admin_token}"}
        url = f"{self.site.url}/user/{self.name}/{path}"
        return httpx.request(method, url, headers=headers, timeout=30, **more)

    def compute(self, code: str) -> None:
        """Begin to execute this, and close the page."""
        kernel = self.lab("POST", "api/kernels", json={"name": "python3"}).json()["id"]
        header = {"msg_id": "m1", "username": "", "session": "s1", "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        url = f"{self.site.url.replace('http', 'ws', 1)}/user/{self.name}/api/kernels/{kernel}/channels"
        headers = {"Authorization": f"token {self.site.admin_token}"}
        with connect(url, additional_headers=headers, proxy=None) as page:
            page.send(json.dumps(message))
            while True:
                said = json.loads(page.recv(60))
                if said["parent_header"].get("msg_id") == "m1" and said["content"].get("execution_state") == "busy":
                    return


def test_an_idle_session_is_warned_kept_once_and_then_stopped_with_its_reason(site: Site) -> None:
    ann = Person(site, "researcher-1")
    site.start_server("researcher-1", T4)
    [live] = wait_for(lambda: [one for one in ann.ask("GET", "/sessions").json() if one["measures"]], "its measures")
    assert (live["accelerator"], live["simulated"], live["account"]) == ("t4", True, "user:researcher-1")
    assert live["measures"]["last"]["memory"] > 10 << 20
    inside = wait_for(lambda: _of_session(ann), "the session to hear of itself")
    assert inside["session"]["title"] == "T4"
    assert inside["here"]["kernels"] == 0
    wait_for(lambda: ann.announced() == "idle", "the warning", 90)
    assert "Keep my session" in ann.notices("idle")[0]
    assert ann.state()["session"]["keep"] == {"possible": True, "left": 1}
    kept = ann.lab("POST", "armillary/keep", json={})  # as JupyterLab asks
    assert kept.status_code == 200, kept.text
    assert "is kept" in kept.json()["text"]
    assert ann.announced() == ""
    wait_for(lambda: ann.announced() == "idle", "the second warning", 90)
    problem(ann.ask("POST", "/sessions/~/keep"), 409, "cannot-keep")
    wait_for(ann.stopped, "the stop", 90)
    [told] = wait_for(lambda: ann.notices("stopped"), "the reason")
    assert told.startswith("Your session with T4 (simulated) was stopped at")
    assert ann.notices("idle") == []
    problem(ann.ask("GET", "/sessions/~"), 404, "no-such-session")


def _of_session(person: Person) -> dict[str, Any] | None:
    said: dict[str, Any] = person.lab("GET", "armillary/state").json()
    return said if said["as_of"] else None


def test_a_kernel_that_computes_with_the_page_closed_is_not_idle_until_a_budget_ends_it(site: Site) -> None:
    ben = Person(site, "researcher-2")
    site.start_server("researcher-2", T4)
    ben.compute("import time; time.sleep(300)")
    wait_for(lambda: _of_session(ben)["here"]["busy_kernels"] == 1, "the busy kernel", 30)  # type: ignore[index]
    began = ben.state()["now"]
    wait_for(lambda: ben.state()["now"] - began > 36, "more than its limit of idleness", 90, 2.0)
    assert ben.announced() == ""
    assert not ben.stopped()
    root = Person(site, "administrator")
    path = "/quotas/user:researcher-2/hours:7d"
    answer = root.ask("PUT", path, json={"value": 0.001}, new=True)
    assert answer.status_code in (200, 201), answer.text
    wait_for(ben.stopped, "the stop", 120)
    [told] = wait_for(lambda: ben.notices("stopped"), "the reason")
    assert "used all of your 0" in told
