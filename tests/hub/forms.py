"""Filling in HTML forms as a browser would: hidden fields travel along, the action counts from the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx


@dataclass
class Form:
    """One form of a page. `fields` are the values it would send if nothing was typed."""

    action: str
    method: str
    multipart: bool
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        if tag == "form":
            multipart = values.get("enctype", "") == "multipart/form-data"
            self.found.append(Form(values.get("action", ""), values.get("method", "get").lower(), multipart))
            self._inside = True
        elif tag == "input" and self._inside and values.get("name"):
            kind = values.get("type", "text")
            if kind in ("checkbox", "radio") and "checked" not in values:
                return
            if kind not in ("submit", "button", "image", "file"):
                self.found[-1].fields[values["name"]] = values.get("value", "on" if kind == "checkbox" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def form_with(page: httpx.Response, name: str) -> Form:
    """Return the form of a page that has a field of this name."""
    parser = _Forms()
    parser.feed(page.text)
    for form in parser.found:
        if name in form.fields:
            return form
    raise AssertionError(
        f"no form with a field {name!r} at {page.url} (status {page.status_code}):\n{page.text[:3000]}"
    )


def submit(client: httpx.Client, page: httpx.Response, **typed: str) -> httpx.Response:
    """Type into the form that has the first of these fields and send it; follows redirects."""
    form = form_with(page, next(iter(typed)))
    target = urljoin(str(page.url), form.action) if form.action else str(page.url)
    values = {**form.fields, **typed}
    if form.method == "get":
        return client.get(target, params=values, follow_redirects=True)
    headers = {"Referer": str(page.url), "Origin": str(page.url.copy_with(raw_path=b"/")).rstrip("/")}
    more: dict[str, object] = {"data": values}
    if form.multipart:
        more = {"files": {key: (None, value) for key, value in values.items()}}
    answer = client.post(target, headers=headers, follow_redirects=False, **more)  # type: ignore[arg-type]
    # Followed by a fresh request: httpx 0.28 would send the form's Content-Type along with the GET.
    return client.get(answer.next_request.url, follow_redirects=True) if answer.next_request else answer
