"""What all pages have: the templates, JupyterHub's stylesheet and our header, and the policy of what they may load.

Scripts are few, ours, and inline: the policy names each by its hash. Nothing is loaded from another site, and no page
needs script to be read or used.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

import hub
from hub.web.door import Visitor
from hub.web.pages import words
from hub.web.pages.chart import bars, spark
from hub.web.pages.forms import TOKEN
from hub.web.place import Place

__all__ = ["Frame"]

_OURS = Path(__file__).parent / "templates"
_HUB = Path(hub.__file__).parent / "templates"
"""Where the hub's own style and the form's scripts are: one look, and one source of it."""

_SCRIPTS = ("theme.js", "page.js", "queue.js", "usage.js")


class Frame:
    """Makes pages.

    Parameters
    ----------
    place
        Where the service and the hub are.
    zone
        In which times are written where no script makes them the reader's own.
    prove
        Makes what the forms of a visitor's page send along.
    """

    def __init__(self, place: Place, zone: tzinfo, prove: Callable[[Visitor], str]) -> None:
        self._place = place
        self._prove = prove
        self._environment = Environment(
            loader=FileSystemLoader([_OURS, _HUB]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._scripts = {name: self._source(name) for name in _SCRIPTS}
        self._environment.globals.update(
            base=place.base_path,
            prefix=place.prefix,
            field=TOKEN,
            script=self._script,
            bars=bars,
            spark=spark,
            moment=lambda seconds, **more: words.moment(seconds, zone, **more),
        )
        self._environment.filters.update(
            hours=words.hours, duration=words.duration, memory=lambda size: words.say_memory(int(size))
        )
        self.policy = self._policy()

    def page(self, template: str, who: Visitor | None, *, status: int = 200, **values: Any) -> Response:
        """Return a page.

        Parameters
        ----------
        who
            Whom the header names, and whose forms it has; None: nobody is known.
        """
        name = who.identity.name if who is not None else ""
        given: Mapping[str, Any] = {
            "name": name,
            "admin": who is not None and who.identity.admin,
            "csrf": self._prove(who) if who is not None else "",
            "leads": False,
            **values,
        }
        text = self._environment.get_template(template).render(**given)
        return HTMLResponse(text, status, headers=self._headers())

    def away(self, path: str) -> Response:
        """Lead to a path of the site, with GET."""
        return Response(status_code=303, headers={"Location": path})

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Security-Policy": self.policy,
            # With no-referrer browsers say "null" for the site that a form comes from.
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }

    def _source(self, name: str) -> str:
        loader = self._environment.loader
        assert loader is not None
        return loader.get_source(self._environment, name)[0]

    def _script(self, *names: str) -> Markup:
        """One of our scripts, as the policy knows it."""
        sources = (Markup(self._scripts[name]) for name in names)  # noqa: S704  # files of ours
        return Markup("").join(Markup("<script>{}</script>").format(source) for source in sources)

    def _policy(self) -> str:
        hashes = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
            for text in self._scripts.values()
        )
        return "; ".join(
            (
                "default-src 'none'",
                f"script-src {hashes}",
                # The hub's stylesheet, ours, and widths of bars.
                "style-src 'self' 'unsafe-inline'",
                "font-src 'self' data:",
                "img-src 'self' data:",
                "connect-src 'self'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )
