"""Builds the cluster's programs from Go modules, once per version (see cache.py)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError, LabUnavailable

KUBERNETES = "1.34.4"
COREDNS = "1.14.6"
KWOK = "0.7.0"
HELM = "3.19.5"
GO_NEEDED = (1, 26)

COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")

PAUSE = """\
// The process that holds a pod's namespaces: it waits to be ended and reaps what is left to it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
"""


def go_version() -> str:
    """The Go release on this machine, such as "1.26.8".

    Raises:
        LabUnavailable: no Go, or one older than GO_NEEDED.
    """
    wanted = ".".join(map(str, GO_NEEDED))
    if shutil.which("go") is None:
        raise LabUnavailable(f"Go {wanted} or newer is not on the PATH; install it to build Kubernetes for the tests.")
    said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"go(\d+)\.(\d+)(\.\d+)?", said.strip())
    if found is None or (int(found[1]), int(found[2])) < GO_NEEDED:
        raise LabUnavailable(
            f"Go {said.strip()} is too old to build Kubernetes for the tests; install Go {wanted} or newer."
        )
    return found[0].removeprefix("go")


def go(arguments: list[str], folder: Path, **environment: str) -> str:
    """Runs Go in a folder and returns what it prints; LabError carries what it complains of."""
    done = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"`go {' '.join(arguments)}` failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _kubernetes_module(version: str, upstream: str, go_minor: str) -> str:
    """The text of a go.mod that takes Kubernetes' programs in from outside.

    `k8s.io/kubernetes` replaces its staging modules by folders of its own checkout, which `go install`
    refuses; each of them is published too, as v0.X.Y for Kubernetes 1.X.Y.
    """
    staging = re.findall(r"^\s*(?:replace )?(k8s\.io/\S+) => \./staging/", upstream, flags=re.MULTILINE)
    if not staging:
        raise LabError(f"found no staging modules in the go.mod of Kubernetes {version}")
    published = "v0." + version.removeprefix("1.")
    return "\n".join(
        ["module lab", f"go {go_minor}", f"require k8s.io/kubernetes v{version}"]
        + [f"replace {module} => {module} {published}" for module in staging]
        + [""]
    )


def _build_kubernetes(into: Path) -> None:
    source = into / "source"
    source.mkdir()
    (source / "go.mod").write_text("module lab\n")
    described = go(["mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"], source)
    upstream = re.search(r'"GoMod": "([^"]+)"', described)
    if upstream is None:
        raise LabError(f"the Go module proxy did not give the go.mod of Kubernetes {KUBERNETES}")
    go_minor = ".".join(go_version().split(".")[:2]) + ".0"
    (source / "go.mod").write_text(_kubernetes_module(KUBERNETES, Path(upstream[1]).read_text(), go_minor))
    imports = "\n".join(f'import _ "k8s.io/kubernetes/cmd/{command}"' for command in COMMANDS)
    (source / "programs.go").write_text(f"//go:build programs\n\npackage lab\n\n{imports}\n")
    go(["mod", "tidy"], source)
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.split(".")
    flags = f"-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    packages = [f"k8s.io/kubernetes/cmd/{command}" for command in COMMANDS]
    go(["build", "-trimpath", "-ldflags", flags, "-o", f"{into}/", *packages], source)
    shutil.rmtree(source)


def _install(package: str, into: Path) -> None:
    go(["install", "-trimpath", "-ldflags", "-s -w", package], into, GOBIN=str(into))


def _build_pause(into: Path) -> None:
    (into / "main.go").write_text(PAUSE)
    go(["build", "-trimpath", "-ldflags", "-s -w", "-o", f"{into}/pause", "main.go"], into)
    (into / "main.go").unlink()


def _key(name: str, version: str) -> str:
    return f"{name}-{version}-go{'.'.join(go_version().split('.')[:2])}"


def kubernetes() -> Path:
    """Folder with Kubernetes' programs (COMMANDS)."""
    return cache.entry(
        _key("kubernetes", KUBERNETES), _build_kubernetes, f"building Kubernetes {KUBERNETES}, about 4 minutes, once"
    )


def coredns() -> Path:
    """The name server's program."""
    make = partial(_install, f"github.com/coredns/coredns@v{COREDNS}")
    return cache.entry(_key("coredns", COREDNS), make, f"building CoreDNS {COREDNS}, about 2 minutes, once") / "coredns"


def kwok() -> Path:
    """KWOK's controller: it plays the kubelet of simulated nodes."""
    make = partial(_install, f"sigs.k8s.io/kwok/cmd/kwok@v{KWOK}")
    return cache.entry(_key("kwok", KWOK), make, f"building KWOK {KWOK}, about a minute, once") / "kwok"


def helm() -> Path:
    """The chart installer's program."""
    make = partial(_install, f"helm.sh/helm/v3/cmd/helm@v{HELM}")
    return cache.entry(_key("helm", HELM), make, f"building helm {HELM}, about a minute and a half, once") / "helm"


def pause() -> Path:
    """Folder with the program of the pause image (ours, so that no registry is needed)."""
    return cache.entry(_key("pause", "1"), _build_pause, "building the pause program")
