"""Readiness raced against the end of the server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from spawner.readiness import Gone, answers, wait_until_answering


class Answering:
    """A server that gives one fixed answer, from the moment it is told to listen."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        writer.write(f"HTTP/1.1 {self.status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Answering]:
    answering = Answering()
    yield answering
    await answering.stop()


@pytest.mark.parametrize(
    ("status", "up"), [(200, True), (302, True), (403, True), (404, True), (500, False), (503, False)]
)
async def test_any_answer_but_a_server_error_counts(server: Answering, status: int, up: bool) -> None:
    server.status = status
    await server.listen()
    assert await answers(server.url) is up


async def test_nothing_listening_is_no_answer(server: Answering) -> None:
    await server.listen()
    await server.stop()
    assert await answers(server.url) is False


async def test_it_waits_until_the_server_listens(server: Answering) -> None:
    await server.listen()
    port, url = server.port, server.url
    await server.stop()
    gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wait_until_answering(url, gone, every_s=0.01))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await server.listen(port)
    await waiting
    assert server.asked >= 1


async def test_it_ends_when_the_server_is_gone(server: Answering) -> None:
    await server.listen()
    server.status = 503
    gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wait_until_answering(server.url, gone, every_s=0.01))
    await asyncio.sleep(0.03)
    gone.set_result(137)
    with pytest.raises(Gone) as caught:
        await waiting
    assert caught.value.result == 137
    asked = server.asked
    await asyncio.sleep(0.2)
    assert server.asked <= asked + 1, "it went on asking after the look that was under way"
