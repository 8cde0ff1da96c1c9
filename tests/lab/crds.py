"""Definitions of custom resources that the chart makes, from the Go modules that publish them; once per version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.lab import cache
from tests.lab.build import go

__all__ = ["files"]

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


def _fetch(into: Path) -> None:
    (into / "go.mod").write_text("module lab\n")
    for module, (folder, names) in _PUBLISHED.items():
        described = json.loads(go(["mod", "download", "-json", module], into))
        for name in names:
            shutil.copyfile(Path(described["Dir"], folder, name), into / name)
    (into / "go.mod").unlink()
