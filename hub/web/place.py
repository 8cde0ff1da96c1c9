"""Where the service lies below the site's address, and which addresses of it may be led to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from hub.settings import Settings
from hub.settings.values import is_loopback, origin_of, split_url

__all__ = ["CLIENT_ID", "COMES_BACK", "NAME", "Place", "hub_api_url", "service_url"]

NAME = "armillary"
"""The service's name at the hub."""

CLIENT_ID = f"service-{NAME}"
"""Its name as an OAuth client; JupyterHub wants the prefix."""

COMES_BACK = "Armillary-Comes-Back"
"""Header of a start that the service asks for: the server was stopped for a switch, and comes back."""

# What every browser reads as the path that it is: no backslash (some take it for a slash), no %2e, nothing invisible.
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]+(\?[!-\[\]-~]*)?")


@dataclass(frozen=True)
class Place:
    """The service's addresses as a browser sees them.

    Parameters
    ----------
    base_path
        Prefix of the whole site, with a slash at both ends.
    origin
        Scheme, host and port of the site, as browsers compare them.
    """

    base_path: str
    origin: str

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Return the place that the settings say."""
        return cls(settings.base_path, origin_of(settings.public_url))

    @property
    def prefix(self) -> str:
        """Path of the service, without a slash at its end."""
        return f"{self.base_path}services/{NAME}"

    @property
    def secure(self) -> bool:
        """Whether browsers reach the site by https only."""
        return self.origin.startswith("https:")

    @property
    def authorize(self) -> str:
        """Path of the hub's page that logs people in for us."""
        return f"{self.base_path}hub/api/oauth2/authorize"

    @property
    def callback(self) -> str:
        """Path to which the hub sends people back; must be the one that the hub was told (`hub.config`)."""
        return f"{self.prefix}/oauth_callback"

    def login(self, then: str = "") -> str:
        """Return the path that logs a browser in and leads on to `then`."""
        return f"{self.prefix}/login" + (f"?next={quote(then, safe='/')}" if then else "")

    def is_ours(self, path: str) -> bool:
        """Whether a path, perhaps with a query, leads to the service and nowhere else."""
        if len(path) > 1000 or not _PLAIN.fullmatch(path):
            return False
        plain = path.partition("?")[0]
        inside = plain == self.prefix or plain.startswith(f"{self.prefix}/")
        return inside and not any(part in (".", "..") for part in plain.split("/"))


def hub_api_url(settings: Settings) -> str:
    """Return the hub's API as the service reaches it, without a slash at its end."""
    return f"{_origin(settings.hub.connect_url or settings.hub.bind_url)}{settings.base_path}hub/api"


def service_url(settings: Settings) -> str:
    """Return the service as sessions reach it, without a slash at its end.

    Pods cannot reach what listens on this machine only; they go by the address that browsers use.
    """
    url = settings.service.connect_url or settings.service.bind_url
    if settings.engine == "kubernetes" and is_loopback(split_url(url).hostname):
        url = settings.public_url
    return f"{_origin(url)}{settings.base_path}services/{NAME}"


def _origin(url: str) -> str:
    """Return scheme, host and port; where something listens on all addresses, that of this machine."""
    parts = split_url(url)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")
    return f"{parts.scheme}://{host}:{parts.port}" if host and parts.port else origin_of(url)
