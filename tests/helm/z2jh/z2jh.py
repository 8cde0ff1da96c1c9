"""Stand-in for the module `z2jh` that Zero to JupyterHub 4 mounts beside its configuration of the hub.

It has the functions that a site's own lines may import from there, with the same meaning: values come from the file
`values.yaml` of the mounted Secret, names of objects from the mounted ConfigMap, addresses from the variables that
Kubernetes sets for Services.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path("/usr/local/etc/jupyterhub")


@cache
def _values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_HERE / "secret" / "values.yaml").read_text())
    return found


def get_config(key: str, default: Any = None) -> Any:
    """Return a value of the chart by its dotted name."""
    value: Any = _values()
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def set_config_if_not_none(parent: Any, name: str, key: str) -> None:
    """Set a trait to a value of the chart, where that is set."""
    value = get_config(key)
    if value is not None:
        setattr(parent, name, value)


def get_secret_value(key: str, default: Any = None) -> Any:
    """Return what a key of the Secret holds."""
    file = _HERE / "secret" / key
    return file.read_text() if file.exists() else default


def get_name(name: str) -> str:
    """Return the name that an object of the chart really has."""
    return (_HERE / "config" / name).read_text()


def get_name_env(name: str, suffix: str = "") -> str:
    """Return a variable that Kubernetes sets for a Service of the chart."""
    return os.environ[f"{get_name(name)}{suffix}".upper().replace("-", "_")]
