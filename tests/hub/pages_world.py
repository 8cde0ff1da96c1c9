"""A person with a browser, for tests of the pages: a cookie, forms that are filled in and sent as a browser does."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import httpx

from hub.web.door import COOKIE, HUB_SESSION

__all__ = ["Browser", "Page", "read_page"]

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)


class Page(HTMLParser):
    """A page as it was read: its text, links and forms."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.status = answer.status_code
        self.forms: list[tuple[Mapping[str, str | None], dict[str, str]]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.labelled: set[str] = set()
        self.controls: list[Mapping[str, str | None]] = []
        self.tags: list[str] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self._select = ""
        self.unclosed: list[str] = []
        self.feed(answer.text)
        self.close()

    @property
    def text(self) -> str:
        """What is written on it, without scripts and styles."""
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        self.refers += [
            one for name in ("aria-labelledby", "aria-describedby", "for") for one in (given.get(name) or "").split()
        ]
        if tag == "label":
            self.labelled.add(given.get("for") or "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag == "form":
            self.forms.append((given, {}))
        if tag == "button" and given.get("formaction"):  # it sends another form than the one around it, elsewhere
            [fields] = [fields for form, fields in self.forms if form.get("id") and form["id"] == given.get("form")]
            self.forms.append(({"action": given["formaction"]}, fields))
        if tag in ("input", "select", "textarea", "button"):
            self.controls.append({"tag": tag, **given})
        name = given.get("name") or ""
        if self.forms and name and tag == "input":
            if given.get("type") not in ("checkbox", "radio") or "checked" in given:
                self.forms[-1][1][name] = given.get("value") or ""
        elif tag == "select" and self.forms:
            self._select = name
        elif tag == "option" and self._select and self.forms:
            fields = self.forms[-1][1]
            if "selected" in given or self._select not in fields:
                fields[self._select] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self._words.append(data)

    def form(self, path: str) -> dict[str, str]:
        """The fields of the form that is sent to this path, as they are filled in."""
        [fields] = [fields for attributes, fields in self.forms if (attributes.get("action") or "").endswith(path)]
        return dict(fields)


class Browser:
    """Somebody who is logged in at the service."""

    def __init__(self, client: httpx.AsyncClient, token: str, origin: str) -> None:
        self._client = client
        self._headers = {"Cookie": f"{COOKIE}={token}; {HUB_SESSION}=s", "Sec-Fetch-Dest": "document"}
        self._origin = origin

    async def open(self, path: str, **headers: str) -> Page:
        """Open a page."""
        return Page(await self._client.get(path, headers={**self._headers, **headers}))

    async def send(self, page: Page, path: str, changes: Mapping[str, str] | None = None) -> Page:
        """Fill in the form of a page that is sent to this path, send it, and go where it leads."""
        answer = await self.post(path, {**page.form(path), **(changes or {})})
        if answer.status_code != 303:
            return Page(answer)
        return await self.open(answer.headers["Location"].removeprefix("/services/armillary"))

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        """Send fields."""
        said = {**self._headers, "Origin": self._origin, "Sec-Fetch-Site": "same-origin", **headers}
        return await self._client.post(path, data=dict(fields), headers=said)


def read_page(page: Page) -> None:
    """Check what every page owes those who cannot see it, or have no script; raises AssertionError."""
    assert page.answer.headers["content-type"].startswith("text/html")
    policy = page.answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert not page.unclosed, page.unclosed
    assert len(page.ids) == len(set(page.ids)), sorted(one for one in page.ids if page.ids.count(one) > 1)
    missing = {one for one in page.refers if one not in page.ids}
    assert not missing, missing
    for control in page.controls:
        _check_control(page, control)
    assert page.tags.count("h1") == 1
    assert page.tags.count("main") == 1


def _check_control(page: Page, control: Mapping[str, Any]) -> None:
    if control["tag"] == "button" or control.get("type") == "hidden":
        return
    named = control.get("aria-label") or control.get("aria-labelledby") or control.get("id") in page.labelled
    assert named, control
