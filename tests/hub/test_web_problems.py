"""Every error of the service has one shape, helps, and tells nothing of its insides; and the API describes itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from docs.generate.api import openapi
from hub.web.guard import LARGEST_BODY, LONGEST_QUERY
from hub.web.problems import KINDS
from tests.hub.site import wait_for
from tests.hub.web_world import PREFIX, FakeHub, World, problem

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeHub() as hub, World(tmp_path_factory.mktemp("service"), hub).running() as running:
        hub.person("ann", "ann", "lab")
        yield running


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/capacity/", "//", "/<script>"])
def test_an_address_without_a_page(world: World, path: str) -> None:
    answer = world.get(path, "ann")
    problem(answer, 404, "no-such-page")


@pytest.mark.parametrize("path", ["/", "/health", "/services", f"{PREFIX}2/health", "/hub/api/user"])
def test_nothing_lies_outside_of_the_prefix(world: World, path: str) -> None:
    problem(httpx.get(world.origin + path), 404, "no-such-page")


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "PUT", "TRACE", "BREW"])
def test_a_method_that_the_address_does_not_take(world: World, method: str) -> None:
    answer = httpx.request(method, f"{world.url}/api/capacity")
    problem(answer, 405, "no-such-method")
    assert answer.headers["allow"] == "GET"


def test_an_unknown_parameter_is_named_with_those_there_are(world: World) -> None:
    said = problem(world.get("/api/capacity?acelerator=t4", "ann"), 422, "bad-request")
    assert said["errors"] == [
        {"field": "query.acelerator", "detail": "there is no such parameter (found 't4')", "legal": ["accelerator"]}
    ] or said["errors"][0]["legal"] == ["accelerator"]


def test_an_unknown_accelerator_is_named_with_those_there_are(world: World) -> None:
    said = problem(world.get("/api/capacity?accelerator=a100", "ann"), 422, "bad-request")
    assert said["errors"] == [
        {
            "field": "query.accelerator",
            "detail": "there is no accelerator 'a100' for you",
            "legal": ["none", "t4", "u55c"],
        }
    ]


def test_values_that_are_too_long_or_too_many(world: World) -> None:
    said = problem(world.get(f"/api/capacity?accelerator={'x' * 64}", "ann"), 422, "bad-request")
    assert said["errors"][0]["field"] == "query.accelerator.0"
    assert len(said["detail"]) < 300
    problem(world.get("/api/capacity?" + "accelerator=t4&" * 101, "ann"), 422, "bad-request")


def test_an_address_that_is_too_long(world: World) -> None:
    problem(world.get("/api/capacity?x=" + "y" * LONGEST_QUERY, "ann"), 414, "too-long")


def test_a_body_that_is_too_large(world: World) -> None:
    answer = httpx.request("GET", f"{world.url}/health", content=b"x" * (LARGEST_BODY + 1))
    problem(answer, 413, "too-large")


def test_a_mistake_of_ours_is_told_by_a_number_that_the_log_has(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.desk.fault = ValueError("postgresql://me:pa55word@db")
    try:
        # what was read last for live pages is told for another moment
        answer = wait_for(lambda: _unless_well(world), "the desk's mistake to be met")
    finally:
        world.desk.fault = None
    said = problem(answer, 500, "mistake-of-ours")
    assert "pa55word" not in answer.text
    assert "ValueError" not in answer.text
    [record] = [record for record in caplog.records if said["instance"] in record.getMessage()]
    assert record.exc_info is not None
    assert said["instance"] in said["detail"]


def _unless_well(world: World) -> httpx.Response | None:
    answer = world.get("/api/capacity", "ann")
    return None if answer.status_code == 200 else answer


def test_what_is_no_http_is_refused(world: World) -> None:
    host, port = world.origin.removeprefix("http://").split(":")
    for spoilt in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(spoilt)
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert world.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/api/capacity", "/nothing", "/openapi.json", "/metrics", "/login"])
def test_every_answer_has_the_headers_that_keep_it_private(world: World, path: str) -> None:
    headers = world.get(path, "ann").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"
    assert "x-powered-by" not in headers


# The API's description ----------------------------------------------------------------------------------------------


def test_the_api_describes_itself_completely(world: World) -> None:
    assert world.get("/openapi.json").json()["servers"] == [{"url": PREFIX}]
    api = openapi()  # of a service with a real desk, and so with the queue
    assert set(api["paths"]) == {
        "/login",
        "/oauth_callback",
        "/api/audit",
        "/api/capacity",
        "/api/capacity/events",
        "/api/notices",
        "/api/notices/{id}",
        "/api/queue",
        "/api/queue/{ticket_id}/expedite",
        "/api/queue/{ticket_id}/move",
        "/api/quotas",
        "/api/quotas/all",
        "/api/quotas/{subject}/{field}",
        "/api/refusals",
        "/api/requests",
        "/api/sessions",
        "/api/sessions/{server}",
        "/api/sessions/{server}/keep",
        "/api/sessions/{server}/measures",
        "/api/sessions/{server}/notices/{id}",
        "/api/sessions/{server}/switch",
        "/api/tickets",
        "/api/tickets/{ticket_id}",
        "/api/tickets/{ticket_id}/events",
        "/api/usage",
        "/api/usage.parquet",
        "/api/usage/days.csv",
        "/health",
        "/metrics",
    }
    schemas = api["components"]["schemas"]
    for name, schema in schemas.items():
        validator_for(schema, Draft202012Validator).check_schema(schema)
        if name != "ProblemDetails":
            assert all(part.get("description") for part in schema.get("properties", {}).values() if "$ref" not in part)
    for reference in _references(api):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for path, methods in api["paths"].items():
        for said in methods.values():
            assert said["summary"]
            assert said["description"], path
            for status, answer in said["responses"].items():
                assert answer["description"]
                if status.startswith(("4", "5", "default")):
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_answers_are_as_described(world: World) -> None:
    api = world.get("/openapi.json").json()
    for path in ("/api/capacity", "/health"):
        schema = {**api["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]}
        checker = Draft202012Validator({**schema, "components": api["components"]})
        checker.validate(world.get(path, "ann").json())
    problems = Draft202012Validator({"$ref": "#/components/schemas/ProblemDetails", "components": api["components"]})
    for path in ("/nothing", "/api/capacity", "/api/capacity?x=1"):
        problems.validate(world.get(path).json())


def test_the_page_for_people_loads_nothing_from_elsewhere(world: World) -> None:
    answer = world.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script" not in answer.text
    assert "//" not in answer.text.replace("<!doctype", "")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    for code in KINDS:
        assert f'id="{code}"' in answer.text
    assert f"GET {PREFIX}/api/capacity/events" in answer.text
    first = world.get("/")
    assert (first.status_code, first.headers["location"]) == (303, f"{PREFIX}/docs")


def test_every_code_has_a_status_that_fits() -> None:
    assert json.dumps(dict(KINDS))
    assert all(400 <= status < 600 and title for status, title in KINDS.values())
