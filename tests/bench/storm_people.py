"""People who all click *Start* at the same moment, as their browsers do it."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import aiohttp

from tests.bench import forms
from tests.bench.hubs import Hub
from tests.bench.stub_server import TOLD

__all__ = ["Click", "Person"]

_PATIENCE_S = 900.0
_PROGRESS = re.compile(r"new EventSource\((\"[^\"]*\")\)")
_LEADS_ON_S = 3.0
# So long the page of the queue waits before it goes on to the hub's page of the start.


@dataclass(frozen=True)
class Click:
    """What came of one click: seconds until the server's page, or what went wrong."""

    user: str
    seconds: float
    failure: str = ""


@dataclass
class Person:
    """Somebody who is logged in and reads the form."""

    hub: Hub
    user: str
    http: aiohttp.ClientSession
    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    service: dict[str, str] = field(default_factory=dict)

    async def come(self) -> None:
        """Log in and open the form; at our hub its script also makes itself known to the service."""
        async with self.http.get(f"{self.hub.url}/hub/login") as page:
            form = forms.read(await page.text())
            target = urljoin(str(page.url), form.action or "")
        async with self.http.post(target, data={**form.fields, "username": self.user, "password": "x"}) as answer:
            await _good(answer)
        async with self.http.get(f"{self.hub.url}/hub/spawn/{self.user}") as page:
            text = await _good(page)
            form = forms.read(text)
            self.action, self.fields = urljoin(str(page.url), form.action or ""), form.fields
        self.service = forms.service(text)
        if self.service:
            login = f"{self.hub.url}/services/armillary/login"
            async with self.http.get(login, params={"next": self.service["counts"]}) as answer:
                await _good(answer)

    async def click(self) -> Click:
        """Click *Start*, and follow wherever that leads to the own server."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                text = await (self._by_service() if self.service else self._by_hub())
            failure = "" if text.startswith(TOLD + self.user) else f"got to {text[:200]!r}"
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError) as error:
            failure = f"{type(error).__name__}: {error}"
        return Click(self.user, time.perf_counter() - began, failure)

    # --- through the hub's form ------------------------------------------------------------------------------------

    async def _by_hub(self) -> str:
        data = aiohttp.FormData(default_to_multipart=True)
        for name, value in self.fields.items():
            data.add_field(name, value)
        async with self.http.post(self.action, data=data) as answer:
            return await self._pending(await _good(answer), str(answer.url))

    async def _pending(self, text: str, address: str) -> str:
        """From the page that shows the progress to the server."""
        if "/user/" in address and "/hub/" not in address:
            return text
        found = _PROGRESS.search(html.unescape(text))
        if found is None:
            raise RuntimeError(f"no progress at {address}: {_words(text)}")
        async for event in self._events(urljoin(self.hub.url, json.loads(found[1]))):
            if event.get("failed"):
                raise RuntimeError(str(event.get("message")))
            if event.get("ready"):
                break
        # JupyterHub's own page loads itself again and is sent on; ours goes there at once.
        onward = urljoin(self.hub.url, str(event["url"])) if self.hub.page_goes_straight_on else address
        async with self.http.get(onward) as answer:
            return await _good(answer)

    # --- through the service ---------------------------------------------------------------------------------------

    async def _by_service(self) -> str:
        headers = {"X-CSRF-Token": self.service["proof"]}
        body = {"options": forms.options(self.fields), "server": ""}
        async with self.http.post(
            urljoin(self.hub.url, self.service["requests"]), json=body, headers=headers
        ) as answer:
            said = json.loads(await _good(answer))
        if not said["begun"]:
            async with self.http.get(urljoin(self.hub.url, self.service["queue"])) as page:
                await _good(page)
            ended = await self._in_line(said["ticket"]["id"])
            if ended is not None:
                async with self.http.get(urljoin(self.hub.url, ended)) as answer:
                    return await _good(answer)
        async with self.http.get(urljoin(self.hub.url, self.service["pending"])) as page:
            return await self._pending(await _good(page), str(page.url))

    async def _in_line(self, ticket: str) -> str | None:
        """Wait as the page of the queue does; return where the server is, None: the hub's page shows the rest."""
        address = f"{self.hub.url}/services/armillary/api/tickets/{ticket}/events"
        starting_since: float | None = None
        while True:
            async for event in self._events(address):
                if event.get("state") == "ended":
                    if event["ended_as"] != "started":
                        raise RuntimeError(f"the ticket has {event['ended_as']}: {event['why']}")
                    return str(event["url"])
                if event.get("state") == "starting" and starting_since is None:
                    starting_since = time.perf_counter()
                if starting_since is not None and time.perf_counter() - starting_since > _LEADS_ON_S:
                    return None
            await asyncio.sleep(1.0)

    async def _events(self, address: str) -> AsyncIterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.http.get(address, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                raise RuntimeError(f"no events: {answer.status} {_words(await answer.text())}")
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield json.loads(line.removeprefix(b"data:"))


async def _good(answer: aiohttp.ClientResponse) -> str:
    text = await answer.text()
    if answer.status >= 400:
        raise RuntimeError(f"{answer.status} at {answer.url.path}: {_words(text)}")
    return text


def _words(text: str) -> str:
    return " ".join(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", text).split())[:300]
