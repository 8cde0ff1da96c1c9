"""`python -m tests.lab up|down|status|shell|build [PART…]`: the lab by hand."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.lab import build, cache, canaille, chromium, crds, images, kubernetes, policies
from tests.lab.earlier import earlier
from tests.lab.errors import LabError, LabUnavailable

_PARTS = ("kubernetes", "policies", "images", "canaille", "chromium")


def _up(parts: list[str]) -> None:
    if "chromium" in parts:
        print(f"chromium: {chromium.path()}")
    if "canaille" in parts:
        print(canaille.up())
    in_cluster = {"kubernetes", "policies"} & set(parts)
    if "images" in parts and not in_cluster:
        for name in images.archived():
            print(f"image {name}: {images.archive(name)[1]}")
    if in_cluster:
        cluster = kubernetes.up()
        kubernetes.keep()
        if "policies" in parts:
            policies.keep(cluster)
        if "images" in parts:
            for name in images.archived():
                print(f"image {name}: {cluster.image(name)}")
        print(f"KUBECONFIG={cluster.kubeconfig}")


def _build() -> None:
    """Build the programs that a cluster needs, and the images, where they are not built yet; starts nothing."""
    for program in (build.helm, build.kubernetes, build.coredns, build.kwok, build.pause):
        print(program())
    for name in images.archived():
        print(images.archive(name)[1])
    print(*crds.files())
    for _, archive in earlier().images().values():
        print(archive)
    for name in images.names():  # the large ones last: nothing of the cluster waits for them
        print(images.content(name).bill)


def _shell() -> int:
    """A shell of the person's own that finds kubectl and helm and talks to the cluster."""
    cluster = kubernetes.up()
    path = os.pathsep.join([str(cluster.programs), str(build.helm().parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path}
    cache.say("kubectl and helm talk to the lab's cluster; `exit` leaves it running")
    return subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=environment, check=False).returncode


def main() -> int:
    """Does what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Real parts for tests, by hand.")
    parser.add_argument("action", choices=("up", "down", "status", "shell", "build"))
    parser.add_argument("part", nargs="*", help=f"for up: {', '.join(_PARTS)} (default: kubernetes)")
    given = parser.parse_args()
    if unknown := set(given.part) - set(_PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; parts are {', '.join(_PARTS)}")
    try:
        if given.action == "up":
            _up(given.part or ["kubernetes"])
        elif given.action == "build":
            _build()
        elif given.action == "down":
            kubernetes.down()
        elif given.action == "status":
            print(kubernetes.status())
        else:
            return _shell()
    except (LabUnavailable, LabError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
