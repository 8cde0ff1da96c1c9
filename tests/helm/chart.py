"""Rendering the chart with the lab's helm, for tests."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from helm.write import CHART
from tests.lab import build

__all__ = ["CHART", "MINIMAL", "Refused", "containers", "find", "helm", "pods", "render"]

MINIMAL = yaml.safe_load((CHART.parent / "examples" / "minimal.yaml").read_text())
KUBERNETES = "1.34.4"


class Refused(Exception):
    """helm did not take the values; the text is what it says."""


def helm(*words: str | Path) -> str:
    """Run helm; returns what it prints."""
    command = [str(build.helm()), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(
    values: Mapping[str, Any], *, release: str = "a", namespace: str = "core", upgrade: bool = False
) -> list[dict[str, Any]]:
    """Return the chart's objects with these values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        words = ["--kube-version", KUBERNETES, "--namespace", namespace, "--values", file.name]
        text = helm("template", release, CHART, *words, *(["--is-upgrade"] if upgrade else []))
    return [one for one in yaml.safe_load_all(text) if one]


def find(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the one object of this kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod that the objects make, with a name for messages."""
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{one['kind']}/{one['metadata']['name']}", spec["template"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
