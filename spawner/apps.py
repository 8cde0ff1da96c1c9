"""What a session is told of its applications: those that its owner may use, as JSON in a variable.

The other side is `armillary_lab.apps` in the session, which makes settings of jupyter-server-proxy of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from profiles.model import App

__all__ = ["APPS", "told"]

APPS = "ARMILLARY_APPS"
"""Name of the variable."""


def told(apps: Mapping[str, App]) -> str:
    """Return the variable's value: a list, in the order in which the launcher shows them."""
    return json.dumps([_one(key, app) for key, app in apps.items()], ensure_ascii=False, separators=(",", ":"))


def _one(key: str, app: App) -> dict[str, object]:
    return {
        "name": key,
        "title": app.title,
        "command": list(app.command),
        "listen": "socket" if app.listens_at_socket else app.port or "port",
        "icon": app.icon,
        "health": app.health,
        "timeout_s": app.start_timeout_s,
        "keeps_prefix": app.keeps_prefix,
        "environment": dict(app.environment),
    }
