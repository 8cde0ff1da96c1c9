"""Files of our hub as the benchmark runs it: settings, catalogue, secrets; and its proxy, which is not the hub's child."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.launch.secrets import keep, private_folder, token
from hub.launch.traefik import Proxy
from hub.settings import Settings, load

__all__ = ["install"]

# The same as in plain_config.py.
RESOURCES = {"cpu_guarantee": 0.5, "cpu_limit": 2, "mem_guarantee": "512M", "mem_limit": "1G"}


def _catalogue(image: str) -> dict[str, Any]:
    return {
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {
            "jupyterlab": {"title": "JupyterLab", "options": {"image": "base"}, "kubespawner_override": RESOURCES}
        },
    }


def _settings(folder: Path, given: Mapping[str, str]) -> dict[str, Any]:
    return {
        "engine": "kubernetes",
        "public_url": given["BENCH_URL"],
        "state_dir": str(folder),
        "catalogue": str(folder / "catalogue.yaml"),
        "hub": {"bind_url": given["BENCH_HUB_URL"], "connect_url": given["BENCH_HUB_URL"]},
        "proxy": {"api_url": given["BENCH_PROXY_API_URL"]},
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


def install(folder: Path, given: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Write everything into the folder; returns the settings and the proxy's command line. `given` as in `hubs`."""
    # YAML is a superset of JSON.
    (folder / "catalogue.yaml").write_text(json.dumps(_catalogue(given["BENCH_IMAGE"])))
    (folder / "armillary.yaml").write_text(json.dumps(_settings(folder, given)))
    settings = load(folder / "armillary.yaml", environ={})
    private_folder(settings.paths.secrets)
    for secret in (settings.paths.cookie_secret, settings.paths.auth_state_keys, settings.paths.proxy_password):
        keep(secret, token)
    keep(folder / "client_secret", token)
    proxy = Proxy(
        settings.proxy_bind_url, settings.proxy.api_url, settings.paths.traefik_static, settings.paths.traefik_rules
    )
    proxy.write()
    return settings, proxy.command()
