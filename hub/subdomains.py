"""A host name of its own for each person's sessions, below the site's (`user_subdomains`).

Browsers then keep pages of sessions, where anybody's code runs, apart from the hub's and from each other's: other
cookies, other storage, no script of the one reads the other. The service stays at the site's own name, because it is
part of the site as the hub's pages are.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import subdomain_hook_idna
from tornado.web import HTTPError
from traitlets.config import Config

from hub.settings import Settings
from hub.settings.values import origin_of, split_url
from hub.web.place import Place

__all__ = ["apply", "host_of", "sources"]


def apply(c: Config, settings: Settings) -> None:
    """Set what JupyterHub has to know."""
    if not settings.user_subdomains:
        return
    c.JupyterHub.subdomain_host = origin_of(settings.public_url)
    c.JupyterHub.subdomain_hook = host_of
    place = Place.of(settings)
    path = place.prefix.removeprefix(settings.base_path.rstrip("/"))
    c.JupyterHub.extra_handlers.append((rf"{path}(?:/.*)?", _ToTheService, {"place": place}))


def host_of(name: str, domain: str, kind: str) -> str:
    """Return the host name of a person's sessions, or of a service, which is the site's own.

    JupyterHub's own rule for people: the name itself where it can be a part of a host name, else something made of it
    that no other name gives.
    """
    if kind == "service":
        return domain
    found: str = subdomain_hook_idna(name, domain, kind)
    return found


def sources(settings: Settings) -> str:
    """Return what a Content-Security-Policy calls the hosts of all sessions; empty: they have none of their own."""
    if not settings.user_subdomains:
        return ""
    parts = split_url(settings.public_url)
    return f"{parts.scheme}://*.{parts.netloc}"


class _ToTheService(BaseHandler):  # type: ignore[misc]  # upstream is untyped
    """Leads on who asked for a page of the service at the host of a session, as links in JupyterLab do.

    Such a request finds no route of its own and so comes to the hub, which sends it to its own host and prefix.
    """

    def initialize(self, place: Place, **_: Any) -> None:
        """Remember where the service is."""
        self.place = place

    def get(self) -> None:
        """Redirect to the same page at the site's own host."""
        path = f"{self.place.base_path}{self.request.uri.removeprefix(self.hub.base_url)}"
        if not self.place.is_ours(path):
            raise HTTPError(404)
        self.redirect(path)
