"""A hub beside the cluster with the service and the controller, each a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.bench.installation import SERVICE
from tests.cluster.hub import KubeHub
from tests.lab.cluster import Cluster

__all__ = ["ServedHub"]


class ServedHub(KubeHub):
    """A hub with the service and the controller beside it.

    Parameters
    ----------
    catalogue
        What there is, as in the file.
    environ
        More environment variables for hub and service; `PYTHONPATH` is put before ours.
    settings
        More sections of armillary.yaml.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        folder: Path,
        catalogue: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(cluster, namespace, "", folder)
        file = folder / "armillary.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **(settings or {})}))
        (folder / "catalogue.yaml").write_text(yaml.safe_dump(dict(catalogue)))
        more = dict(environ or {})
        path = ":".join(part for part in (more.pop("PYTHONPATH", ""), self._environment["PYTHONPATH"]) if part)
        # What tests are told by the environment is no setting of the service.
        kept = {key: value for key, value in self._environment.items() if not key.startswith("ARMILLARY_")}
        self._environment = kept | {"HUB_SERVICE": "yes"} | more | {"PYTHONPATH": path}
        self._service: subprocess.Popen[bytes] | None = None
        self._token = ""

    def up(self) -> None:
        """Start hub and service, whichever does not run, and wait until both answer through the proxy."""
        if self._service is None or self._service.poll() is not None:
            self._service = self._run([*SERVICE, str(self.folder / "armillary.yaml")])
        if self._process is None or self._process.poll() is not None:
            super().up()
        self._token = self._token or self.add("nobody")
        self.until(lambda: self._counted(self._token), "the service has counts")

    def kill_all(self) -> None:
        """Kill hub, service and controller; the proxy goes on."""
        self._kill_service()
        self.end(signal.SIGKILL)

    def pid_of(self, who: str) -> int:
        """Pid of `hub` or `service`; 0: there is none."""
        process = self._process if who == "hub" else self._service
        return 0 if process is None or process.poll() is not None else process.pid

    def look_after(self) -> None:
        """Start again what has died; does not wait for it."""
        if self._service is not None and self._service.poll() is not None:
            self._service = self._run([*SERVICE, str(self.folder / "armillary.yaml")])
        if self._process is not None and self._process.poll() is not None:
            self._process = self._run(self._hub_command)

    def down(self) -> None:
        """End everything."""
        self._kill_service()
        super().down()

    def _counted(self, token: str) -> bool:
        headers = {"Authorization": f"token {token}"}
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{self.url}/services/armillary/api/capacity", headers=headers, timeout=30)
            return answer.status_code == 200 and bool(answer.json()["fresh"])
        return False

    def _kill_service(self) -> None:
        if self._service is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._service.pid, signal.SIGKILL)
            self._service.wait(60)
            self._service = None
