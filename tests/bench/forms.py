"""What a browser sends when a form is submitted as it came."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser

__all__ = ["Form", "options", "read", "service"]

_SERVICE = re.compile(r'data-service="([^"]*)"')
_OPTION = "profile-option-"


class Form(HTMLParser):
    """The first form of a page that is sent by POST: `action` and `fields`, with whatever was selected already.

    A radio button that is not checked sends nothing; if none of its group is, the first one is taken, as a person
    would have to.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False
        self._groups: dict[str, str] = {}
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what this tag adds to the form."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None and given.get("method", "").lower() == "post":
            self.action, self._inside = given.get("action", ""), True
        if not self._inside or "disabled" in given:
            return
        if tag == "input":
            self._input(given)
        elif tag == "select":
            self._select = given.get("name")
        elif tag == "option" and self._select and ("selected" in given or self._select not in self.fields):
            self.fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        """Note that the form, or a list in it, is over."""
        if tag == "select":
            self._select = None
        elif tag == "form" and self._inside:
            self._inside = False
            self.fields = {**self._groups, **self.fields}

    def _input(self, given: dict[str, str]) -> None:
        name, kind = given.get("name"), given.get("type", "text").lower()
        if not name or kind in ("submit", "button", "image", "reset", "file"):
            return
        if kind == "radio":
            self._groups.setdefault(name, given.get("value", "on"))
        if kind not in ("radio", "checkbox") or "checked" in given:
            self.fields[name] = given.get("value", "on" if kind in ("radio", "checkbox") else "")


def read(page: str) -> Form:
    """Return the form of this page.

    Raises
    ------
    ValueError
        The page has no form that is sent by POST.
    """
    form = Form()
    form.feed(page)
    form.close()
    if form.action is None:
        raise ValueError(f"the page has no form to submit; it begins: {page[:300]!r}")
    return form


def service(page: str) -> dict[str, str]:
    """Return where this page of ours finds the service, and the proof by which it may ask; empty: it is not ours."""
    found = _SERVICE.search(page)
    return {} if found is None else dict(json.loads(html.unescape(found[1])))


def options(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the picked profile as the script of our form hands them to the service."""
    profile = fields.get("profile")
    if profile is None:
        return {}
    begin = f"{_OPTION}{profile}--"
    chosen = {name.removeprefix(begin): value for name, value in fields.items() if name.startswith(begin) and value}
    return {"profile": profile, **chosen}
