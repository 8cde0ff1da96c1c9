"""What a page's form sends: read, bounded, and proved to come from one of our pages."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.requests import Request

from hub.web.problems import Problem

__all__ = ["TOKEN", "Form", "read_form"]

TOKEN = "_csrf"  # noqa: S105  # the field's name
"""The hidden field of every form; what it must hold says `hub.web.door.Door.proof_for`."""

_MOST_FIELDS = 500


class Form:
    """The fields of a form, all of them texts."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self.fields = {name: values for name, values in fields.items() if name != TOKEN}
        self.token = fields.get(TOKEN, [""])[0]

    def text(self, name: str, default: str = "") -> str:
        """Return a field's value without spaces at its ends; of one that is there twice the first."""
        return self.fields.get(name, [default])[0].strip()

    def typed(self) -> dict[str, str]:
        """Return what was typed, to be shown again."""
        return {name: values[0] for name, values in self.fields.items()}


async def read_form(request: Request) -> Form:
    """Return the form of a request.

    Raises
    ------
    Problem
        `not-understood`: it is none that a page of ours sends.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = await request.body()
    if raw and kind != "application/x-www-form-urlencoded":
        raise Problem("not-understood", "This address takes what the forms of its page send, and nothing else.")
    try:
        fields = parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:  # no text, or too many fields
        raise Problem("not-understood", "The form cannot be read. Reload the page and fill it in again.") from None
    return Form(fields)
