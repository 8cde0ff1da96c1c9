"""Routes: many starts at once share what is written, and each knows when traefik has read it."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPError, HTTPRequest, HTTPResponse

from hub.proxy import ArmillaryProxy, RouteNotSeen


class Proxy(ArmillaryProxy):
    """The proxy before a double of traefik that reads the file, whole and valid, only when it is told to.

    Like the real one it knows nothing but what the last file said that it has read, and where it is away nobody answers.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dynamic_config_file=str(folder / "rules.toml"),
            traefik_api_username="hub",
            traefik_api_password="quiet",
            traefik_api_hashed_password="…",
            should_start=True,
        )
        self.known: dict[str, Any] = {}
        self.away = False
        self.asked: list[str] = []
        self.texts: list[str] = []
        write = self.dynamic_config_handler.write

        def noted(text: str) -> None:
            write(text)
            self.texts.append(text)

        self.dynamic_config_handler.write = noted  # type: ignore[method-assign]

    def reads(self) -> None:
        """What traefik does when it sees that the file has changed."""
        self.known = tomllib.loads(Path(self.dynamic_config_file).read_text())

    @property
    def routes(self) -> dict[str, str]:
        """Where traefik leads, by routespec."""
        services = {
            name: one["loadBalancer"]["servers"][0]["url"] for name, one in self.known["http"]["services"].items()
        }
        known = self.known["jupyterhub"]["routes"].values()
        return {one["routespec"]: services[one["service"]] for one in known if one["service"] in services}

    async def _traefik_api_request(self, path: str) -> HTTPResponse:
        self.asked.append(path)
        request = HTTPRequest(f"http://traefik{path}")
        if self.away:
            raise ConnectionRefusedError("nobody there")
        *_, kind, name = path.removesuffix("@file").split("/")
        if name not in self.known.get("http", {}).get(kind, {}):
            raise HTTPError(404, response=HTTPResponse(request, 404))
        return HTTPResponse(request, 200)


@asynccontextmanager
async def reading(proxy: Proxy, every_s: float) -> AsyncIterator[None]:
    """Let traefik read the file again and again."""

    async def read() -> None:
        while True:
            await asyncio.sleep(every_s)
            with suppress(FileNotFoundError):
                proxy.reads()

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()


@pytest.fixture
def proxy(tmp_path: Path) -> Proxy:
    return Proxy(tmp_path)


def add(proxy: Proxy, name: str, target: str = "http://10.0.0.1:8888") -> asyncio.Task[None]:
    """Begin to add somebody's route."""
    return asyncio.ensure_future(proxy.add_route(f"/user/{name}/", target, {"user": name, "server_name": ""}))


async def settled() -> None:
    """Give what was begun the time to get where it waits."""
    await asyncio.sleep(0.1)


async def test_a_route_is_there_when_traefik_has_read_it_and_not_before(proxy: Proxy) -> None:
    adding = add(proxy, "ada")
    await settled()
    assert not adding.done()

    proxy.reads()
    await asyncio.wait_for(adding, 5)

    assert proxy.routes == {"/user/ada/": "http://10.0.0.1:8888"}
    assert await proxy.get_route("/user/ada/") == {
        "routespec": "/user/ada/",
        "target": "http://10.0.0.1:8888",
        "data": {"user": "ada", "server_name": ""},
    }


async def test_many_at_once_share_what_is_written(proxy: Proxy) -> None:
    async with reading(proxy, 0.05):
        await asyncio.wait_for(asyncio.gather(*(add(proxy, f"p{n}") for n in range(300))), 20)

    assert len(proxy.routes) == 300
    assert len(proxy.texts) <= 3
    assert len(proxy.asked) < 100


async def test_a_route_that_moves_is_there_only_when_it_leads_to_the_new_place(proxy: Proxy) -> None:
    # A router of that name exists all the time, so to ask for its name tells nothing.
    async with reading(proxy, 0.02):
        await add(proxy, "ada")
    adding = add(proxy, "ada", "http://10.0.0.2:8888")
    await settled()
    assert not adding.done()

    proxy.reads()
    await asyncio.wait_for(adding, 5)

    assert proxy.routes == {"/user/ada/": "http://10.0.0.2:8888"}


async def test_a_route_is_gone_from_the_file_when_its_deletion_returns(proxy: Proxy) -> None:
    async with reading(proxy, 0.02):
        await asyncio.gather(add(proxy, "ada"), add(proxy, "bob"))
        await proxy.delete_route("/user/ada/")

    proxy.reads()
    assert list(proxy.routes) == ["/user/bob/"]
    assert await proxy.get_route("/user/ada/") is None


async def test_what_is_not_there_can_be_deleted(proxy: Proxy) -> None:
    await proxy.delete_route("/user/nobody/")

    assert await proxy.get_all_routes() == {}


async def test_a_file_is_not_replaced_before_it_was_read(proxy: Proxy) -> None:
    first = add(proxy, "ada")
    await settled()
    second, third = add(proxy, "bob"), add(proxy, "carl")
    await settled()
    assert len(proxy.texts) == 1

    proxy.reads()
    await asyncio.wait_for(first, 5)
    await settled()
    assert not second.done()
    assert len(proxy.texts) == 2

    proxy.reads()
    await asyncio.wait_for(asyncio.gather(second, third), 5)


async def test_one_who_leaves_takes_nothing_from_the_others(proxy: Proxy) -> None:
    leaves, stays = add(proxy, "ada"), add(proxy, "bob")
    await asyncio.sleep(0)
    leaves.cancel()
    async with reading(proxy, 0.02):
        await asyncio.wait_for(stays, 5)

    assert "/user/bob/" in proxy.routes
    assert leaves.cancelled()


async def test_a_route_that_never_comes_is_said(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy.check_route_timeout = 0
    proxy.log = logging.getLogger("proxy")

    with pytest.raises(RouteNotSeen, match="no route for /user/ada/ after 0 s"):
        await add(proxy, "ada")

    assert "has not read its routes" in caplog.text


async def test_a_proxy_that_was_away_has_all_that_was_added_meanwhile(proxy: Proxy) -> None:
    proxy.away = True
    adding = [add(proxy, name) for name in ("ada", "bob")]
    await settled()
    adding.append(add(proxy, "carl"))
    await settled()
    assert not any(one.done() for one in adding)

    proxy.away = False
    async with reading(proxy, 0.02):
        await asyncio.wait_for(asyncio.gather(*adding), 10)

    assert set(proxy.routes) == {"/user/ada/", "/user/bob/", "/user/carl/"}


async def test_after_a_failed_proxy_the_next_ones_get_through(proxy: Proxy) -> None:
    proxy.away, proxy.check_route_timeout = True, 0
    with pytest.raises(RouteNotSeen):
        await add(proxy, "ada")
    proxy.away, proxy.check_route_timeout = False, 30

    async with reading(proxy, 0.02):
        await asyncio.wait_for(add(proxy, "bob"), 5)

    assert set(proxy.routes) == {"/user/ada/", "/user/bob/"}


async def test_a_file_that_cannot_be_written_is_said_to_whom_it_concerns(proxy: Proxy) -> None:
    write = proxy.dynamic_config_handler.write

    def full(text: str) -> None:
        raise OSError(28, "No space left on device")

    proxy.dynamic_config_handler.write = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space left"):
        await add(proxy, "ada")
    proxy.dynamic_config_handler.write = write  # type: ignore[method-assign]

    async with reading(proxy, 0.02):
        await asyncio.wait_for(add(proxy, "bob"), 5)
    assert "/user/bob/" in proxy.routes


async def test_the_next_hub_goes_on_with_the_routes_and_without_the_marks(proxy: Proxy, tmp_path: Path) -> None:
    async with reading(proxy, 0.02):
        await add(proxy, "ada")
    again = Proxy(tmp_path)

    async with reading(again, 0.02):
        await again.add_route("/", "http://10.0.0.9:8081", {"hub": True})

    assert again.routes == {"/user/ada/": "http://10.0.0.1:8888", "/": "http://10.0.0.9:8081"}
    assert len(again.known["http"]["middlewares"]) == 1


async def test_marks_do_not_pile_up(proxy: Proxy) -> None:
    async with reading(proxy, 0.01):
        for n in range(20):
            await add(proxy, f"p{n % 3}", f"http://10.0.0.{n}:8888")

    assert len(proxy.known["http"]["middlewares"]) == 1
    assert len(proxy.dynamic_config_handler._lines) == 3 * 3
