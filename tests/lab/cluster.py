"""A running cluster as tests see it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import build, cache, control_plane, images, kwok, node, processes
from tests.lab.errors import LabError
from tests.lab.pki import Authority


def authority() -> Authority:
    """The running cluster's certificate authority."""
    return Authority(cache.run_folder() / "pki")


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: file with which its administrator talks to it.
        bridge_address: this machine's address as pods see it; what shall be reached from pods listens there.
        node: name of the one real node.
        storage_class: claims of this class get a directory of this machine.
        programs: folder with kubectl.
    """

    kubeconfig: Path
    bridge_address: str
    node: str
    storage_class: str
    programs: Path

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Runs kubectl as administrator and returns what it prints; LabError carries what it complains of."""
        return self._tool(self.programs / "kubectl", arguments, input)

    def helm(self, *arguments: str, input: str | None = None) -> str:
        """Runs helm as administrator and returns what it prints."""
        return self._tool(build.helm(), arguments, input)

    def helm_process(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts helm as administrator, to be ended by the caller at whatever moment; it prints into nothing."""
        return subprocess.Popen(
            [str(build.helm()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
        )

    def _tool(self, program: Path, arguments: Sequence[str], given: str | None) -> str:
        done = subprocess.run(
            [str(program), *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"`{program.name} {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Mapping[str, object]) -> None:
        """Applies these objects."""
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def image(self, name: str) -> str:
        """The full reference of `images/<name>`, built and imported into the node when needed."""
        reference, archive = images.archive(name)
        node.import_image(reference, archive)
        return reference

    @contextlib.contextmanager
    def namespace(self, prefix: str, restricted: bool = True) -> Iterator[str]:
        """A namespace for one test, deleted afterwards (without waiting until it is gone).

        Args:
            prefix: start of its name.
            restricted: enforce Pod Security "restricted".
        """
        name = f"{prefix}-{secrets.token_hex(3)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            # Pods are refused until the controller has made the namespace's service account.
            self.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for another user (by certificate), for tests of what may be done by whom."""
        return authority().kubeconfig(f"user-{user}", control_plane.SERVER, user, groups)

    def add_simulated_node(
        self,
        name: str,
        capacity: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        tainted: bool = True,
    ) -> None:
        """Adds a node that KWOK plays, and waits until it is Ready.

        Args:
            name: the node's name.
            capacity: resources beside 32 CPUs, 256 GiB and 110 pods (which it may override).
            labels: beside `kubernetes.io/hostname` and `type=kwok`.
            tainted: keep away the pods that do not tolerate `kwok.TAINT`.
        """
        self.apply(kwok.node(name, capacity, labels or {}, tainted))
        self.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s")

    def remove_node(self, name: str) -> None:
        """Removes a simulated node; its pods go with it."""
        if name == self.node:
            raise LabError(f"{name} is the cluster's real node")
        self.kubectl("delete", "node", name, "--ignore-not-found", "--wait=false")

    def kubelet_log(self) -> str:
        """What the node's agent has logged."""
        return processes.log("kubelet").read_text(errors="replace")
