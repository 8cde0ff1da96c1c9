"""Definitions of custom resources that the chart makes, from the Go modules that publish them; once per version."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.lab import cache
from tests.lab.build import go
from tests.lab.cluster import Cluster

__all__ = ["files", "known"]

_PUBLISHED = {
    "sigs.k8s.io/gateway-api@v1.4.0": ("config/crd/standard", ("gateway.networking.k8s.io_httproutes.yaml",)),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd",
        tuple(f"monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "prometheusrules", "servicemonitors")),
    ),
}
_NAME = "crds-2"


def files() -> list[Path]:
    """The definitions, as files for `kubectl apply --server-side`."""
    return sorted(cache.entry(_NAME, _fetch, "fetching definitions of custom resources, once").glob("*.yaml"))


@contextlib.contextmanager
def known(cluster: Cluster) -> Iterator[None]:
    """The cluster knows these kinds while the block runs."""
    words = [word for file in files() for word in ("-f", str(file))]
    cluster.kubectl("apply", "--server-side", *words)
    try:
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *words)
        yield
    finally:
        # One that is still ending would take what is applied next with it.
        cluster.kubectl("delete", "--timeout=60s", *words)


def _fetch(into: Path) -> None:
    (into / "go.mod").write_text("module lab\n")
    for module, (folder, names) in _PUBLISHED.items():
        described = json.loads(go(["mod", "download", "-json", module], into))
        for name in names:
            shutil.copyfile(Path(described["Dir"], folder, name), into / name)
    (into / "go.mod").unlink()
