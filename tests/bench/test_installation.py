"""The hub that is measured can be configured without a cluster."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest
from traitlets.config import Config

from hub.config import apply
from tests.bench.installation import install

pytestmark = pytest.mark.unit

GIVEN = {
    "BENCH_URL": "http://10.0.0.1:8000",
    "BENCH_HUB_URL": "http://10.0.0.1:8081",
    "BENCH_PROXY_API_URL": "http://127.0.0.1:8099",
    "BENCH_SERVICE_URL": "http://127.0.0.1:8003",
    "BENCH_NAMESPACE": "bench",
    "BENCH_IMAGE": "localhost/armillary/base:1",
    "BENCH_STORAGE_CLASS": "lab-local",
}


def test_installation_is_complete(tmp_path: Path) -> None:
    settings, command = install(tmp_path, GIVEN)
    c = Config()

    apply(c, settings)

    assert Path(command[0]).name == "traefik"
    assert c.KubeSpawner.namespace == "bench"
    assert c.RequestSpawner.catalogue.default_profile == "jupyterlab"


def test_proxy_password_is_quick_to_check(tmp_path: Path) -> None:
    # The proxy checks it three times for each route, while somebody waits for a server.
    settings, _ = install(tmp_path, GIVEN)
    c = Config()

    apply(c, settings)

    proxy = c.TraefikFileProviderProxy
    assert bcrypt.checkpw(proxy.traefik_api_password.encode(), proxy.traefik_api_hashed_password.encode())
    assert proxy.traefik_api_hashed_password.startswith("$2b$04$")
