"""Logs as JSON, and the ids by which lines of several processes are found together."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.admission.hub_api import HubServers
from hub.logs import JsonFormatter, of_jupyterhub
from spawner.log_facts import REQUEST_HEADER, about, facts, note, request_id
from tests.hub.site import Site, wait_for
from tests.hub.web_world import PREFIX, FakeHub, World


def line(message: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    record = logging.LogRecord("hub.test", logging.WARNING, __file__, 1, message, arguments, more.get("exc_info"))
    text = JsonFormatter("%(color)s[%(levelname)s]%(end_color)s %(message)s", "%H").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_where_and_what() -> None:
    said = line("A %s of %d", "start", 3)
    assert (said["message"], said["level"], said["logger"]) == ("A start of 3", "WARNING", "hub.test")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["time"])
    assert isinstance(said["pid"], int)
    assert said["process"]


@given(st.text())
def test_whatever_is_said_stays_on_one_line(text: str) -> None:
    assert line("%s", text)["message"] == text


def test_an_error_comes_with_its_traceback() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        said = line("It failed", exc_info=sys.exc_info())
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: one\ntwo")


def test_facts_are_those_of_the_task_that_noted_them() -> None:
    async def one(name: str, seen: list[Any]) -> None:
        note(user=name, server="")
        await asyncio.sleep(0)
        seen.append(dict(facts()))
        with about(spawn=f"{name}-1", request=None):
            seen.append(line("x"))
        seen.append(await asyncio.to_thread(lambda: dict(facts())))

    async def all_of_them() -> list[list[Any]]:
        found: list[list[Any]] = [[], []]
        await asyncio.gather(one("ann", found[0]), one("ben", found[1]))
        return found

    for name, seen in zip(("ann", "ben"), asyncio.run(all_of_them()), strict=True):
        assert seen[0] == seen[2] == {"user": name}
        assert (seen[1]["user"], seen[1]["spawn"]) == (name, f"{name}-1")
        assert "request" not in seen[1]
    assert facts() == {}


@given(st.one_of(st.none(), st.text(), st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)))
def test_only_harmless_ids_are_taken_over(said: str | None) -> None:
    found = request_id(said)
    assert found is None or (found == said and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found))


# --- the service -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeHub() as hub, World(tmp_path_factory.mktemp("service"), hub).running() as running:
        yield running


@pytest.mark.parametrize(
    ("sent", "kept"), [("from-a-proxy.1", True), ("x" * 65, False), ("a b", False), ('"}, {"', False), ("", False)]
)
def test_an_answer_names_its_request(world: World, sent: str, kept: bool) -> None:
    answer = world.get("/health", headers={REQUEST_HEADER: sent})
    assert (answer.headers[REQUEST_HEADER] == sent) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers[REQUEST_HEADER])


def test_every_request_has_a_name_of_its_own(world: World) -> None:
    assert len({world.get("/health").headers[REQUEST_HEADER] for _ in range(5)}) == 5


def test_the_hub_is_told_for_which_request_it_is_asked() -> None:
    heard: list[str | None] = []

    async def run() -> None:
        from aiohttp import web

        async def answer(request: web.Request) -> web.Response:
            heard.append(request.headers.get(REQUEST_HEADER))
            return web.Response(status=201)

        app = web.Application()
        app.router.add_post("/hub/api/users/ann/server", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        servers = HubServers(f"http://127.0.0.1:{port}/hub/api", "x" * 32)
        await servers.start("ann", "", {})
        with about(request="one"):
            await servers.start("ann", "", {})
        await servers.close()
        await runner.cleanup()

    asyncio.run(run())
    assert heard == [None, "one"]


# --- JupyterHub --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_jupyterhub_logs_our_own_parts_too(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyterhub.app import JupyterHub

    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    kept = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate)
        for name in ("hub", "spawner", "profiles")
    }
    JupyterHub.clear_instance()
    try:
        app = JupyterHub(logging_config=of_jupyterhub("INFO", form), log_level="INFO")
        with about(request="r1"):
            app.log.info("from upstream")
            logging.getLogger("hub.admission").info("from us")
            logging.getLogger("hub.admission").debug("too much")
    finally:
        for name, (handlers, propagate) in kept.items():
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate
        JupyterHub.clear_instance()
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    if form == "text":
        assert all("] from" in line or " from " in line for line in lines)
        return
    first, second = map(json.loads, lines)
    assert (first["message"], second["message"]) == ("from upstream", "from us")
    assert {first["process"], second["process"], first["request"], second["request"]} == {"hub", "r1"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(settings={"hub": {"log_format": "json"}}).running() as running:
        yield running


def _lines(site: Site, name: str) -> list[dict[str, Any]]:
    text = (site.state / "logs" / f"{name}.log").read_text()
    return [json.loads(one) for one in text.splitlines() if one.startswith("{")]


@pytest.mark.hub
@pytest.mark.timeout(300)
def test_one_id_leads_from_the_service_through_the_hub_to_the_start(site: Site) -> None:
    site.login("researcher-1").close()
    token = site.api("POST", "/users/researcher-1/tokens", json={"note": "test"}).json()["token"]
    said = httpx.post(
        f"{site.url}{PREFIX}/api/requests",
        json={"options": {"profile": "jupyterlab"}},
        headers={"Authorization": f"token {token}", REQUEST_HEADER: "followed-1"},
        timeout=60,
    )
    assert said.status_code in (200, 201, 202), said.text
    assert said.headers[REQUEST_HEADER] == "followed-1"
    wait_for(lambda: site.server("researcher-1").get("ready"), "the server")
    asked = [one for one in _lines(site, "hub") if one.get("request") == "followed-1"]
    assert any("POST /hub/api/users/researcher-1/server" in one["message"] for one in asked), asked
    started = [one for one in asked if one.get("user") == "researcher-1" and one.get("spawn")]
    assert started, asked
    assert any(one.get("request") == "followed-1" and one.get("ticket") for one in _lines(site, "service"))
    text = (site.state / "logs" / "hub.log").read_text().splitlines()
    others = [one for one in text if not one.startswith("{")]
    assert not others, others[:5]
    site.api("DELETE", "/users/researcher-1/server")
