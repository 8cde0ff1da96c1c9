"""Debian packages that the lab needs, installed when they are missing and never touched otherwise."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError, LabUnavailable

CLUSTER = ("etcd-server", "containerd", "runc", "containernetworking-plugins", "iptables", "iproute2")
IMAGES = ("buildah", "mmdebstrap")
CHROMIUM = ("chromium", "fonts-dejavu-core", "fonts-liberation")

_POLICY = Path("/usr/sbin/policy-rc.d")


def _missing(names: Sequence[str]) -> list[str]:
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *names],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def _is_debian_12() -> bool:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except FileNotFoundError:
        return False
    return "ID=debian" in lines and 'VERSION_ID="12"' in lines


@contextmanager
def _no_services() -> Iterator[None]:
    """Keeps apt from starting the packages' services (Debian's policy-rc.d): the lab starts its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=600", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"`apt-get {' '.join(arguments)}` failed:\n{done.stdout[-2000:]}")


def install(names: Sequence[str]) -> None:
    """Installs those of `names` that are missing.

    Raises:
        LabUnavailable: something is missing and this is not Debian 12, or the caller is not root.
    """
    try:
        missing = _missing(names)
    except FileNotFoundError:
        missing = list(names)
    if not missing:
        return
    wanted = " ".join(missing)
    if not _is_debian_12():
        raise LabUnavailable(f"The lab needs Debian 12 with the packages {wanted}.")
    if os.geteuid() != 0:
        raise LabUnavailable(f"Debian packages are missing; as root: apt-get install {wanted}")
    with cache.locked("packages"), _no_services():
        missing = _missing(names)
        if missing:
            cache.say(f"installing Debian packages: {wanted}")
            _apt("update")
            _apt("install", "-y", "--no-install-recommends", *missing)
