"""Files of our hub as the benchmark runs it: settings, catalogue, secrets; and its proxy, which is not the hub's child."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hub.catalogue import SHIPPED
from hub.db.installation import bring_up_to_date
from hub.launch.secrets import keep, private_folder, token
from hub.launch.traefik import Proxy
from hub.settings import Settings, load

__all__ = ["SERVICE", "install"]

SERVICE = [sys.executable, "-m", "hub.cli", "service", "--with-controller"]
"""The command of the service and the controller; the settings file goes behind it."""

# The same as in plain_config.py.
RESOURCES = {"cpu_guarantee": 0.5, "cpu_limit": 2, "mem_guarantee": "512M", "mem_limit": "1G"}


def _catalogue(image: str) -> dict[str, Any]:
    return {
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {
            "jupyterlab": {"title": "JupyterLab", "options": {"image": "base"}, "kubespawner_override": RESOURCES}
        },
    }


def _inventory(image: str) -> dict[str, Any]:
    """The shipped catalogue, with this image."""
    said: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    said["images"]["jupyterlab"]["reference"] = image
    return said


def _settings(folder: Path, given: Mapping[str, str]) -> dict[str, Any]:
    return {
        "engine": "kubernetes",
        "public_url": given["BENCH_URL"],
        "state_dir": str(folder),
        "catalogue": str(folder / "catalogue.yaml"),
        "hub": {"bind_url": given["BENCH_HUB_URL"], "connect_url": given["BENCH_HUB_URL"]},
        "proxy": {"api_url": given["BENCH_PROXY_API_URL"]},
        "service": {"bind_url": given["BENCH_SERVICE_URL"]},
        # Never asked: the benchmark's people log in by name only, as at the other hub.
        "login": {
            "issuer": "http://127.0.0.1:1",
            "client_id": "bench",
            "client_secret_file": str(folder / "client_secret"),
        },
        "kubernetes": {
            "namespace": given["BENCH_NAMESPACE"],
            "storage_class": given["BENCH_STORAGE_CLASS"],
            "home_size": "10Gi",
        },
    }


def install(folder: Path, given: Mapping[str, str], *, inventory: bool = False) -> tuple[Settings, list[str]]:
    """Write everything into the folder, with the tables of the database; returns the settings and the proxy's command line.

    `given` as in `hubs`; `inventory`: with the shipped catalogue instead of one profile without choices.
    """
    catalogue = _inventory if inventory else _catalogue
    # YAML is a superset of JSON.
    (folder / "catalogue.yaml").write_text(json.dumps(catalogue(given["BENCH_IMAGE"])))
    (folder / "armillary.yaml").write_text(json.dumps(_settings(folder, given)))
    settings = load(folder / "armillary.yaml", environ={})
    private_folder(settings.paths.secrets)
    paths = settings.paths
    for secret in (paths.cookie_secret, paths.auth_state_keys, paths.proxy_password, paths.service_token):
        keep(secret, token)
    bring_up_to_date(settings)[0].dispose()
    keep(folder / "client_secret", token)
    proxy = Proxy(
        settings.proxy_bind_url, settings.proxy.api_url, settings.paths.traefik_static, settings.paths.traefik_rules
    )
    proxy.write()
    return settings, proxy.command()
