"""The chart as an operator installs it: on the lab's cluster, with our images, and a provider beside it."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

import profiles
from tests.helm.chart import CHART
from tests.helm.provider import Served, served
from tests.hub.site import wait_for
from tests.lab import node
from tests.lab.cluster import Cluster
from tests.lab.earlier import Earlier
from tests.lab.errors import LabError
from tests.lab.images import pause_archive

__all__ = ["Release", "installed", "merged", "of_now"]

_UP_S = 300
_PORTS = range(30_100, 32_700)


@dataclass
class Release:
    """A release, and what it was installed with."""

    cluster: Cluster
    name: str
    namespace: str
    url: str
    provider: Served
    values: dict[str, Any] = field(repr=False)
    chart: Path = CHART

    @property
    def users(self) -> str:
        """The namespace of its sessions."""
        return f"{self.name}-users"

    @property
    def accounts(self) -> Mapping[str, str]:
        """Passwords of who may log in, by name."""
        return self.provider.accounts

    def install(self) -> None:
        """Install it and wait until all is ready, as its documentation says."""
        self._helm("install")

    def upgrade(self, changes: Mapping[str, Any]) -> None:
        """Upgrade it to the chart of now with these values beside those that it has, and wait until all is ready."""
        self.values, self.chart = merged(self.values, changes), CHART
        self._helm("upgrade")

    def broken_upgrade(self, changes: Mapping[str, Any], folder: Path, *words: str) -> subprocess.Popen[bytes]:
        """Begin an upgrade that is not to come to its end, and is forgotten here."""
        file = folder / "broken.yaml"
        file.write_text(yaml.safe_dump(merged(self.values, changes)))
        return self.cluster.helm_process("upgrade", self.name, str(self.chart), *self._words(file), *words)

    def roll_back(self) -> None:
        """Go back to the revision that was there before, and wait until all is ready."""
        try:
            self.cluster.helm("rollback", self.name, "--namespace", self.namespace, "--wait", f"--timeout={_UP_S}s")
        except LabError as error:
            raise AssertionError(f"{error}\n{self.says()}") from None
        wait_for(self.healthy, "the hub to answer", 60)

    def uninstall(self) -> None:
        """Uninstall it and wait until what helm removes is gone."""
        self.cluster.helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout=180s")

    def get(self, kind: str, *words: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return objects of a kind, by default in the release's namespace."""
        said = self.cluster.kubectl("get", kind, "-n", namespace or self.namespace, "-o", "json", *words)
        return list(json.loads(said)["items"])

    def pod(self, component: str) -> str:
        """Return the name of the one pod of a component that is not ending."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        [found] = [
            one["metadata"]["name"]
            for one in self.get("pods", "-l", selector)
            if "deletionTimestamp" not in one["metadata"]
        ]
        return str(found)

    def healthy(self) -> bool:
        """Whether the hub answers through the proxy."""
        try:
            return httpx.get(f"{self.url}/hub/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def says(self) -> str:
        """What is there and what went wrong, for the message of a failure."""
        said = []
        for namespace in (self.namespace, self.users):
            for words in (["get", "pods,jobs,pvc", "-o", "wide"], ["get", "events", "--sort-by=.lastTimestamp"]):
                said.append(self._quietly(*words, "-n", namespace)[-6000:])
        for one in json.loads(self._quietly("get", "pods", "-n", self.namespace, "-o", "json") or '{"items": []}')[
            "items"
        ]:
            name = one["metadata"]["name"]
            said.append(f"--- {name}\n" + self._quietly("logs", "-n", self.namespace, name, "--tail=60"))
        return "\n".join(said)

    def _quietly(self, *words: str) -> str:
        try:
            return self.cluster.kubectl(*words)
        except LabError as error:
            return str(error) if words[-2:] != ("-o", "json") else ""

    def _words(self, file: Path) -> tuple[str, ...]:
        return ("--namespace", self.namespace, "--values", str(file), "--wait", f"--timeout={_UP_S}s")

    def _helm(self, what: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(self.values, file)
            file.flush()
            try:
                began = time.monotonic()
                self.cluster.helm(what, self.name, str(self.chart), *self._words(Path(file.name)))
                print(f"helm {what}: all is ready after {time.monotonic() - began:.0f} s", flush=True)
            except LabError as error:
                raise AssertionError(f"{error}\n{self.says()}") from None
        wait_for(self.healthy, "the hub to answer", 60)


@contextmanager
def installed(
    cluster: Cluster,
    folder: Path,
    name: str,
    changes: Mapping[str, Any] | None = None,
    version: Earlier | None = None,
) -> Iterator[Release]:
    """Install a release with a provider of its own; everything goes afterwards, also what uninstalling keeps.

    `version` None is what this checkout has, with VS Code in its sessions; an earlier one has JupyterLab alone.
    """
    port = secrets.choice(_PORTS)
    url = f"http://{cluster.bridge_address}:{port}"
    with (
        served(cluster.bridge_address, url, folder / f"{name}-provider") as provider,
        cluster.namespace(f"release-{name}") as namespace,
    ):
        what = of_now(cluster) if version is None else _of_then(version)
        values = merged(merged(_values(cluster, url, port, provider), what), changes or {})
        chart = CHART if version is None else version.chart
        release = Release(cluster, name, namespace, url, provider, values, chart)
        try:
            release.install()
            yield release
        finally:
            release._quietly("delete", "namespace", release.users, "--wait=false", "--ignore-not-found")
            try:
                release.uninstall()
            except LabError as error:
                if "not found" not in str(error):
                    raise


def _values(cluster: Cluster, url: str, port: int, provider: Served) -> dict[str, Any]:
    storage = {"storageClass": cluster.storage_class}
    return {
        "publicUrl": f"{url}/",
        "login": {"clientSecret": provider.client_secret, "caCertificates": provider.authority},
        "settings": {
            "login": {
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                "allowed_groups": ["researchers", "instructors", "admins"],
                "admin_groups": ["admins"],
            },
            "kubernetes": {"storage_class": cluster.storage_class, "home_size": "1Gi"},
        },
        "database": {"bundled": storage},
        "backup": storage,
        "proxy": {"service": {"type": "NodePort", "nodePort": port}},
    }


def of_now(cluster: Cluster) -> dict[str, Any]:
    """Values: the images of this checkout, and VS Code in sessions."""
    found = _images(cluster.image, "vscode")
    found["catalogue"]["apps"] = {"vscode": _vscode()}
    found["catalogue"]["images"]["lab"]["apps"] = ["vscode"]
    return found


def _of_then(version: Earlier) -> dict[str, Any]:
    built = version.images()
    for reference, archive in built.values():
        node.import_image(reference, archive)
    return _images(lambda name: built[name][0], "base")


def _images(reference: Callable[[str], str], session: str) -> dict[str, Any]:
    def image(reference: str) -> dict[str, str]:
        repository, _, tag = reference.rpartition(":")
        return {"repository": repository, "tag": tag}

    small = {"cpu_guarantee": 0.1, "mem_guarantee": "256M"}
    lab = {"title": "JupyterLab", "reference": reference(session), "default_url": "/lab"}
    return {
        "catalogue": {
            "images": {"lab": lab},
            "profiles": {"lab": {"title": "JupyterLab", "options": {"image": "lab"}, "kubespawner_override": small}},
        },
        "images": {
            **{name: image(reference(name)) for name in ("hub", "proxy", "postgres")},
            "pause": image(pause_archive()[0]),
        },
    }


def _vscode() -> dict[str, Any]:
    """VS Code as the shipped catalogue has it."""
    shipped = yaml.safe_load((Path(profiles.__file__).parent / "catalogue.yaml").read_text())
    found: dict[str, Any] = shipped["apps"]["vscode"]
    return found


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As helm merges values: maps key by key, all else replaced."""
    found = deepcopy(dict(base))
    for key, value in more.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found
