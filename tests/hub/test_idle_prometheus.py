"""What Prometheus tells of accelerators, asked over HTTP: long answers in pieces, and what is no answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from hub.idle.prometheus import Prometheus

Serve = Callable[[bytes], Prometheus]


def vector(pods: int) -> bytes:
    """An instant vector with so many pods, each with the labels that DCGM's exporter gives."""
    labels = {f"label_{number}": "x" * 30 for number in range(8)}
    result = [{"metric": {"pod": f"pod-{number}", **labels}, "value": [1.0, "0.5"]} for number in range(pods)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    said = {"raw": b""}

    async def answer(request: web.Request) -> web.StreamResponse:
        assert (await request.post())["query"] == "used"
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        for start in range(0, len(said["raw"]), 10_000):
            await stream.write(said["raw"][start : start + 10_000])
        return stream

    app = web.Application()
    app.router.add_post("/api/v1/query", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    def serving(raw: bytes) -> Prometheus:
        said["raw"] = raw
        return Prometheus(f"http://127.0.0.1:{port}/", "used")

    yield serving
    await runner.cleanup()


@pytest.mark.parametrize("pods", [1, 3000])
async def test_an_answer_is_read_to_its_end_however_many_pieces_it_comes_in(serve: Serve, pods: int) -> None:
    found = await serve(vector(pods)).utilisation()
    assert found == {f"pod-{number}": 0.5 for number in range(pods)}


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", vector(3)[:-20]], ids=["none", "page", "list", "cut"])
async def test_what_is_no_answer_tells_nothing_and_counts_against_nobody(serve: Serve, raw: bytes) -> None:
    assert await serve(raw).utilisation() == {}
