"""The server half of JupyterLab's extension: in a real jupyter_server, with real kernels and terminals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hub.site import wait_for
from tests.images.lab_world import TOKEN, Lab, TestService

pytestmark = [pytest.mark.hub, pytest.mark.timeout(180)]

SESSION_TOKEN = "a" * 32
ENVIRON = {
    "JUPYTERHUB_API_TOKEN": SESSION_TOKEN,
    "JUPYTERHUB_SERVER_NAME": "two",
    "ARMILLARY_SPAWN_ID": "5" * 32,
    "ARMILLARY_MEASURE_SECONDS": "1",
    "CPU_LIMIT": "2.0",
    "MEM_LIMIT": str(1 << 30),
    "CUDA_VISIBLE_DEVICES": "",
}


@pytest.fixture(scope="module")
def service() -> Iterator[TestService]:
    with TestService().running() as made:
        yield made


@pytest.fixture(scope="module")
def lab(service: TestService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"), {**ENVIRON, "ARMILLARY_SERVICE_URL": service.url})
    with made.running():
        yield made


@pytest.fixture(autouse=True)
def _as_before(service: TestService) -> Iterator[None]:
    yield
    service.status = 200


def quiet(measures: dict[str, Any]) -> bool:
    return not (measures["busy_kernels"] or measures["busy_terminals"]) and (measures["cpu"] or 0) < 0.1


def test_a_session_that_does_nothing_says_so_with_its_limits(lab: Lab, service: TestService) -> None:
    first = service.next(lambda one: one["quiet_s"] >= 2, "two quiet seconds")
    assert (first["cpu_limit"], first["memory_limit"], first["devices"]) == (2.0, 1 << 30, [])
    assert 10 << 20 < first["memory"] < 1 << 30
    assert 0 <= first["cpu"] < 1
    assert service.tokens == {f"token {SESSION_TOKEN}"}


def test_reading_the_state_keeps_nothing_awake_and_shows_both_halves(lab: Lab, service: TestService) -> None:
    before = service.next(lambda one: one["quiet_s"] >= 1, "a quiet second")
    for _ in range(3):
        said = lab.web.get("armillary/state").json()
        lab.web.get("api/kernels")
        lab.web.get("api/contents?content=1")
    after = service.next(lambda one: True, "the next measures")
    assert after["quiet_s"] > before["quiet_s"]
    assert said["problem"] == ""
    assert said["as_of"] == 1000.0
    assert 1000.0 <= said["now"] < 1060.0
    assert said["session"]["title"] == "T4"
    assert said["session"]["keep"] == {"possible": True, "left": 2}
    assert said["notices"][0]["text"] == "Soon."
    assert said["here"]["cpu_limit"] == 2.0
    assert (said["ticket"], said["budgets"]) == (None, [])


def test_saving_a_file_is_a_sign_of_work(lab: Lab, service: TestService) -> None:
    service.next(lambda one: one["quiet_s"] >= 2, "two quiet seconds")
    lab.web.put("api/contents/notes.txt", json={"type": "file", "format": "text", "content": "x"}).raise_for_status()
    service.next(lambda one: one["quiet_s"] < 2, "the sign")
    service.next(lambda one: one["quiet_s"] >= 2, "two quiet seconds")
    lab.web.get("api/contents/notes.txt?content=1").raise_for_status()
    service.next(lambda one: one["quiet_s"] < 2, "the sign of a file that was opened")


def test_a_kernel_that_computes_with_the_page_closed_is_busy(lab: Lab, service: TestService) -> None:
    kernel = lab.kernel()
    service.next(lambda one: one["kernels"] == 1 and one["busy_kernels"] == 0, "a kernel that waits")
    lab.execute(kernel, "import time; time.sleep(6)")  # silent, and uses no processor
    for _ in range(3):
        busy = service.next(lambda one: True, "measures")
        assert busy["busy_kernels"] == 1
    service.next(quiet, "the end of the computation")
    lab.execute(kernel, "end = time.process_time() + 3\nwhile time.process_time() < end: pass")
    service.next(lambda one: one["cpu"] > 0.1 and one["busy_kernels"], "its use of the processor")
    lab.web.delete(f"api/kernels/{kernel}")
    service.next(lambda one: one["kernels"] == 0, "the end of the kernel")


def test_a_command_in_a_terminal_counts_by_its_use_of_the_processor(lab: Lab, service: TestService) -> None:
    name = lab.web.post("api/terminals").json()["name"]
    with lab.socket(f"terminals/websocket/{name}") as page:
        page.send(json.dumps(["stdin", "stty -echo; timeout 10 sh -c 'while :; do :; done' &\r"]))
        page.recv(30)
    # the page is closed, and the command writes nothing
    busy = service.next(lambda one: one["busy_terminals"] == 1, "a busy terminal")
    assert busy["terminals"] == 1
    assert busy["cpu"] > 0.05
    service.next(lambda one: one["busy_terminals"] == 0, "the command's end")
    service.next(lambda one: one["terminals"] == 1 and one["quiet_s"] >= 2, "a terminal that only waits")
    lab.web.delete(f"api/terminals/{name}")


def test_keep_and_switch_are_passed_on(lab: Lab, service: TestService) -> None:
    service.asked.clear()
    assert lab.web.post("armillary/keep", json={}).json()["session"]["title"] == "T4"
    assert lab.web.get("armillary/switch").json() == {"choices": []}
    wanted = {"accelerator": "t4", "count": 2, "more": "is not passed on"}
    assert lab.web.post("armillary/switch", json=wanted).json()["outcome"] == "waiting"
    lab.web.delete("armillary/switch").raise_for_status()
    assert lab.web.delete("armillary/notices/s1%2Fidle").status_code == 204
    assert [one for one in service.asked if one[1] != "/sessions/two"] == [
        ("POST", "/sessions/two/keep", {}),
        ("GET", "/sessions/two/switch", None),
        ("POST", "/sessions/two/switch", {"accelerator": "t4", "count": 2}),
        ("DELETE", "/sessions/two/switch", None),
        ("DELETE", "/sessions/two/notices/s1%2Fidle", None),
    ]


def test_what_is_changed_is_asked_for_anew(lab: Lab, service: TestService) -> None:
    service.state["now"] = 2000.0
    lab.web.post("armillary/keep", json={})
    assert lab.web.get("armillary/state").json()["as_of"] == 2000.0
    service.state["now"] = 1000.0


def test_a_refusal_comes_through_with_its_words(lab: Lab, service: TestService) -> None:
    service.status = 409
    answer = lab.web.post("armillary/keep", json={})
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["detail"]) == ("no-such-session", "It does not run.")
    assert lab.web.post("armillary/switch", content=b"{no").status_code == 400


def test_while_the_service_is_away_the_last_state_is_shown_with_the_reason(lab: Lab, service: TestService) -> None:
    service.status = 502
    said = wait_for(lambda: _with_problem(lab), "the problem to be said")
    assert "does not run" in said["problem"]
    assert said["session"]["title"] == "T4"
    service.status = 200
    wait_for(lambda: not lab.web.get("armillary/state").json()["problem"], "the problem's end")


def _with_problem(lab: Lab) -> dict[str, Any] | None:
    said: dict[str, Any] = lab.web.get("armillary/state").json()
    return said if said["problem"] else None


def test_strangers_learn_nothing(lab: Lab) -> None:
    # A client of its own: the server has given the other one a cookie.
    wrong = {"Authorization": f"token {TOKEN[:-1]}"}
    with httpx.Client(base_url=lab.web.base_url, headers=wrong, timeout=30) as stranger:
        for method, path in (("GET", "state"), ("POST", "keep"), ("GET", "switch"), ("DELETE", "notices/x")):
            answer = stranger.request(method, f"armillary/{path}")
            assert answer.status_code in (302, 403), path
            assert "T4" not in answer.text


def test_in_somebody_elses_session_it_does_nothing(tmp_path: Path) -> None:
    with Lab(tmp_path, {}, "/").running() as other:
        assert other.web.get("armillary/state").status_code == 404
        assert other.web.post("armillary/keep", json={}).status_code == 404
        assert other.web.get("api/kernels").json() == []
