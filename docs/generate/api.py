"""The reference of the service's REST API, from its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

import profiles
from docs.generate.markdown import code, table
from hub.admission.desk import SqlDesk
from hub.admission.hub_api import HubServers
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess
from hub.web.place import Place
from hub.web.problems import KINDS
from profiles.loader import load

__all__ = ["openapi", "page"]

_INTRODUCTION = """\
# REST API of the service

All paths are below `/services/armillary`. A running service shows the same at `/services/armillary/docs`, and gives
programs `/services/armillary/openapi.json`. How to use it:
[Ask what is free, and look after the service](../../how-to/service.md). JupyterHub's own API is at `/hub/api`.
"""


def openapi() -> dict[str, Any]:
    """The OpenAPI document of this version; nothing is asked for it."""
    database = create_engine("sqlite://")
    catalogue = load(Path(profiles.__file__).parent / "catalogue.yaml")
    hub = "https://hub.example.org/hub/api"
    parts = ServiceParts(
        place=Place("/", "https://hub.example.org"),
        hub=HubAccess(hub, ""),
        secret="",
        desk=SqlDesk(database, engine_kind="local", catalogue=catalogue, stale_after_s=15),
        database=database,
        catalogue=catalogue,
        engine="local",
        servers=HubServers(hub, ""),
    )
    return create_app(parts).openapi()


def page() -> str:
    """The page."""
    api = openapi()
    paths = [_path(method, path, said) for path, methods in api["paths"].items() for method, said in methods.items()]
    schemas = [_schema(name, said) for name, said in sorted(api["components"]["schemas"].items())]
    problems = table(
        ("Code", "Status", "Title"), [(code(key), str(status), title) for key, (status, title) in KINDS.items()]
    )
    return "\n".join([_INTRODUCTION, *paths, "## Documents\n", *schemas, "## Problems\n", problems])


def _path(method: str, path: str, said: Mapping[str, Any]) -> str:
    parts = [f"## {method.upper()} {path}", f"{said['summary']}. {said['description']}"]
    if "parameters" in said:
        rows = [(code(one["name"]), one["description"]) for one in said["parameters"]]
        parts.append(table(("Parameter", "Meaning"), rows))
    rows = [(str(status), answer["description"]) for status, answer in said["responses"].items()]
    return "\n\n".join([*parts, table(("Status", "When"), rows)])


def _schema(name: str, said: Mapping[str, Any]) -> str:
    rows = [(code(key), inner.get("description", "")) for key, inner in said.get("properties", {}).items()]
    return f"### {name}\n\n{said.get('description', '')}\n\n{table(('Member', 'Meaning'), rows)}"
