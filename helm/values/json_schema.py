"""The JSON Schema of values.yaml, with the settings' and the catalogue's own in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helm.values.chart import Values
from hub.settings import Settings
from hub.settings.shape import shapes
from profiles.schema import json_schema

__all__ = ["FIXED", "fixed", "schema"]


FIXED: Mapping[str, str] = {
    "engine": "it is kubernetes",
    "public_url": "publicUrl",
    "bind_url": "the proxy's Service",
    "user_subdomains": "wildcard",
    "state_dir": "a folder of the pod",
    "catalogue": "catalogue",
    "hub.bind_url": "the hub's Service",
    "hub.connect_url": "the hub's Service",
    "hub.database_url": "database",
    "hub.metrics_token_file": "monitoring.existingSecret",
    "hub.database_url_file": "database",
    "proxy.kind": "the chart's proxy",
    "proxy.api_url": "the proxy's Service",
    "proxy.api_user": "the chart's proxy",
    "proxy.api_password": "secrets",
    "proxy.api_password_file": "secrets",
    "login.client_secret": "login.clientSecret or login.existingSecret",
    "login.client_secret_file": "login.clientSecret or login.existingSecret",
    "login.ca_file": "login.caCertificates",
    "database.url": "database",
    "database.url_file": "database",
    "service.bind_url": "the service's Service",
    "service.connect_url": "the service's Service",
    "service.api_token_file": "secrets",
    "kubernetes.namespace": "users.namespace",
    "kubernetes.image_pull_secrets": "imagePullSecrets",
    "kubernetes.priority_class": "priority",
    "quotas.file": "quotas",
    "queue.mail.password": "mail.existingSecret",
    "queue.mail.password_file": "mail.existingSecret",
    "local": "it is not for this engine",
}
"""Settings that the chart sets itself, and what says so instead."""


def fixed() -> Iterator[str]:
    """Yield every setting that the chart sets, dotted; those of a section that is fixed as a whole, too."""
    known = {shape.dotted for shape in shapes(Settings)}
    for name in FIXED:
        yield from (dotted for dotted in known if dotted == name or dotted.startswith(f"{name}."))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of values.yaml: ours, with the settings' and the catalogue's own in it."""
    found = Values.model_json_schema(by_alias=True)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["properties"]["global"] = {"type": "object", "description": "helm's own; nothing here reads it."}
    found["required"] = ["publicUrl"]
    _embed(found, "settings", _without_fixed(Settings.model_json_schema()))
    _embed(found, "catalogue", json_schema())
    return found


def _without_fixed(said: dict[str, Any]) -> dict[str, Any]:
    for name in FIXED:
        where, _, last = name.rpartition(".")
        _section(said, where)["properties"].pop(last)
    return said


def _section(said: dict[str, Any], where: str) -> dict[str, Any]:
    found = said
    for part in filter(None, where.split(".")):
        named = found["properties"][part]
        reference = named.get("$ref") or named["allOf"][0]["$ref"]
        found = said["$defs"][reference.removeprefix("#/$defs/")]
    return found


def _embed(into: dict[str, Any], name: str, said: dict[str, Any]) -> None:
    """Put a schema in the place of a property; its definitions get a prefix, so that none is another's."""
    definitions = said.pop("$defs", {})
    prefix = f"{name}-"

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: value[key].replace("#/$defs/", f"#/$defs/{prefix}") if key == "$ref" else renamed(value[key])
                for key in value
            }
        return [renamed(one) for one in value] if isinstance(value, list) else value

    into["$defs"].update({f"{prefix}{key}": renamed(value) for key, value in definitions.items()})
    whole = {
        key: value for key, value in renamed(said).items() if key not in ("$schema", "$id", "title", "description")
    }
    # Nothing said is legal: then the defaults hold, or the catalogue that is shipped.
    description = into["properties"][name]["description"]
    into["properties"][name] = {"description": description, "type": "object", "if": {"minProperties": 1}, "then": whole}
