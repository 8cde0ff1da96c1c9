"""A person with a browser, as far as a hub can tell: logs in, clicks Start, follows the pending page to JupyterLab."""

from __future__ import annotations

import asyncio
import html
import json
import re
import secrets
from pathlib import Path
from urllib.parse import quote, urljoin

import httpx

from tests.bench import forms
from tests.bench.hubs import Hub
from tests.bench.pods import Watcher
from tests.bench.stages import MOMENTS, Marks

__all__ = ["Browser", "StartFailed"]

_ANSWER_S = 180.0
# The naive form lists the whole cluster, which takes long on a machine that does other things too.

_PATIENCE_S = 180.0
# Longer than any start that is worth measuring; one that takes longer fails the benchmark.

_LOOK_S = 0.02
_PROGRESS = re.compile(r"new EventSource\((\"[^\"]*\")\)")
_XSRF = re.compile(r"xsrf_token: \"([^\"]+)\"")


class StartFailed(Exception):
    """A start did not lead to JupyterLab; the message has what the person saw."""


class Browser:
    """One person at one hub; keeps cookies and connections, as a browser does: `http`."""

    def __init__(self, hub: Hub, user: str) -> None:
        self.hub, self.user = hub, user
        self.http = httpx.AsyncClient(base_url=hub.url, follow_redirects=True, timeout=_ANSWER_S)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def log_in(self) -> None:
        """Log in by the login page's form."""
        page = await self._get("/hub/login")
        form = forms.read(page.text)
        fields = form.fields | {"username": self.user, "password": secrets.token_hex(16)}
        answer = await self.http.post(urljoin(str(page.url), form.action), data=fields)
        if answer.status_code != 200 or "login" in answer.url.path:
            raise StartFailed(f"{self.hub.name}: {self.user} cannot log in: {_told(answer)}")

    async def start(self, watcher: Watcher) -> Marks:
        """Start the server by the form and return when everything happened; the clock runs from the click.

        The form is opened before the click, as a person must read it. At our hub its script asks the service.
        """
        page = await self._get(f"/hub/spawn/{self.user}")
        form = forms.read(page.text)
        target = urljoin(str(page.url), form.action)
        service = forms.service(page.text)
        if service:
            await self._get(f"/services/armillary/login?next={quote(service['counts'], safe='')}")
        marks = Marks()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                watcher.follow(marks, f"/user/{self.user}/api")
                route = asyncio.create_task(_until_routed(self.hub.rules, f"/user/{self.user}/", marks))
                try:
                    submit = self._ask(service, form.fields) if service else self._submit(target, form.fields)
                    await self._follow(await submit, marks)
                    await route
                finally:
                    route.cancel()
                await watcher.until_complete()
        except TimeoutError:
            missing = ", ".join(moment for moment in MOMENTS if moment not in marks.at)
            raise StartFailed(f"{self.hub.name}: {self.user}: not seen in {_PATIENCE_S:.0f} s: {missing}") from None
        return marks

    async def _ask(self, service: dict[str, str], fields: dict[str, str]) -> httpx.Response:
        """Ask the service for what the form says, and follow to the page that shows the progress."""
        body = {"options": forms.options(fields), "server": ""}
        headers = {"X-CSRF-Token": service["proof"]}
        answer = await self.http.post(service["requests"], json=body, headers=headers)
        if answer.status_code != 202 or not answer.json()["begun"]:
            raise StartFailed(f"{self.hub.name}: {self.user}: not started at once: {_told(answer)}")
        return await self.http.get(service["pending"])

    async def _submit(self, target: str, fields: dict[str, str]) -> httpx.Response:
        """Send the form, as multipart like the browser, and follow where it leads."""
        files = {name: (None, value) for name, value in fields.items()}
        answer = await self.http.post(target, files=files, follow_redirects=False)
        # httpx would repeat the form's Content-Type in the GET that follows, which tornado refuses.
        return await self.http.get(answer.headers["Location"]) if answer.is_redirect else answer

    async def _follow(self, answer: httpx.Response, marks: Marks) -> None:
        """From the answer to the click to JupyterLab's page."""
        marks.note("answered")
        if answer.url.path.startswith("/hub/spawn-pending/"):
            ready = await self._until_ready(answer)
            marks.note("ready")
            # The one difference between the two hubs' pages. JupyterHub's own page loads itself again and is then
            # sent to the server; ours goes there at once.
            answer = await self.http.get(ready if self.hub.page_goes_straight_on else answer.url)
        marks.note("ready")
        if answer.status_code != 200 or "jupyter-config-data" not in answer.text:
            raise StartFailed(f"{self.hub.name}: {self.user} did not get JupyterLab: {_told(answer)}")
        marks.note("page")

    async def _until_ready(self, pending: httpx.Response) -> str:
        """Follow the progress of the pending page; returns the address that its last event names."""
        found = _PROGRESS.search(html.unescape(pending.text))
        if pending.status_code != 200 or found is None:
            raise StartFailed(f"{self.hub.name}: {self.user}: no progress on the pending page: {_told(pending)}")
        address = json.loads(found[1])
        async with self.http.stream("GET", address, headers={"Accept": "text/event-stream"}) as events:
            if events.status_code != 200:
                await events.aread()
                raise StartFailed(f"{self.hub.name}: {self.user}: no progress: {_told(events)}")
            async for line in events.aiter_lines():
                event = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if event.get("failed"):
                    raise StartFailed(f"{self.hub.name}: {self.user}: {event.get('message')}")
                if event.get("ready"):
                    return str(event["url"])
        raise StartFailed(f"{self.hub.name}: {self.user}: the progress ended without a word")

    async def stop(self, watcher: Watcher) -> None:
        """Stop the server; returns when its pod is gone and the hub knows."""
        page = await self._get("/hub/home")
        found = _XSRF.search(page.text)
        if found is None:
            raise StartFailed(f"{self.hub.name}: no XSRF token on the home page: {_told(page)}")
        headers = {"X-XSRFToken": found[1], "Referer": str(page.url)}
        api = f"/hub/api/users/{self.user}"
        async with asyncio.timeout(_PATIENCE_S):
            answer = await self.http.delete(f"{api}/server", headers=headers)
            if answer.status_code not in (202, 204):
                raise StartFailed(f"{self.hub.name}: {self.user}'s server cannot be stopped: {_told(answer)}")
            await watcher.until_no_pod_is_left()
            while (await self._get(api, headers)).json()["servers"]:
                await asyncio.sleep(0.2)

    async def _get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        answer = await self.http.get(path, headers=headers)
        if answer.status_code != 200:
            raise StartFailed(f"{self.hub.name}: {path}: {_told(answer)}")
        return answer


async def _until_routed(rules: Path, path: str, marks: Marks) -> None:
    """Note when the proxy's file of routes names the server; traefik reads it as soon as it changes."""
    while path not in (rules.read_text() if rules.exists() else ""):
        await asyncio.sleep(_LOOK_S)
    marks.note("route")


def _told(answer: httpx.Response) -> str:
    text = " ".join(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", answer.text).split())
    return f"{answer.status_code} at {answer.url.path}: {text[:400]}"
