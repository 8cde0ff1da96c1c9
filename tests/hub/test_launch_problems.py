"""What stops a start: one clear line each, exit status 1, never a traceback, nothing left running."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.site import ROOT, Site

pytestmark = pytest.mark.hub


@pytest.fixture
def site() -> Iterator[Site]:
    fresh = Site()
    yield fresh
    fresh.remove()


def refused(site: Site, *more: str, **environ: str) -> str:
    """Run the launcher, which must refuse with one message; returns that."""
    done = subprocess.run(
        site.command(*more),
        cwd=ROOT,
        env={**site.variables(), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith("armillary: ")
    return done.stderr.removeprefix("armillary: ").rstrip("\n")


def test_a_taken_port(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        said = refused(site)
    assert said.startswith(f"port {site.port} is taken by another program; stop that, or choose another port: --port ")


def test_a_taken_provider_port(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.provider_port)):
        assert "choose another port: --provider-port " in refused(site)


def test_no_permission_to_write(site: Site) -> None:
    assert refused(site, "--state", "/sys/armillary") == (
        "no permission to write /sys/armillary; choose another folder with --state DIR"
    )


def test_a_file_where_the_folder_should_be(site: Site) -> None:
    site.state.touch()
    assert refused(site) == (
        f"{site.state} is in the way: it is not a folder; move it, or choose another with --state DIR"
    )


def test_a_folder_with_other_peoples_things_is_left_alone(site: Site) -> None:
    site.state.mkdir()
    (site.state / "thesis.tex").write_text("x")
    assert refused(site).startswith(f"{site.state} exists and is not Armillary's")
    assert [file.name for file in site.state.iterdir()] == ["thesis.tex"]


def test_a_full_disk(site: Site) -> None:
    site.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(site.state)], check=True)
    try:
        said = refused(site)
    finally:
        subprocess.run(["umount", str(site.state)], check=True)
    assert said.startswith(f"no space left for {site.state}")
    assert said.endswith("free some, or choose another folder with --state DIR")


def test_settings_with_mistakes(site: Site) -> None:
    site.settings_file.write_text("engine: docker\nlogin: {isuer: x}\n")
    said = refused(site)
    assert "armillary.yaml:1:1 engine: " in said
    assert "login.isuer: unknown" in said


def test_a_catalogue_with_mistakes(site: Site) -> None:
    (site.folder / "broken.yaml").write_text("profiles:\n  cpu: {titel: CPU}\n")
    said = refused(site, ARMILLARY_CATALOGUE=str(site.folder / "broken.yaml"))
    assert "broken.yaml cannot be used:" in said
    assert "titel" in said


@pytest.mark.parametrize("text", ["0", "65536", "-1", "eight", "8000 "])
def test_a_port_that_is_none(site: Site, text: str) -> None:
    assert "a port is a number from 1 to 65535" in refused_variable(site, text)


def refused_variable(site: Site, text: str) -> str:
    site_without_port = [word for word in site.command() if word not in ("--port", str(site.port))]
    done = subprocess.run(
        site_without_port,
        cwd=ROOT,
        env={**site.variables(), "ARMILLARY_LAUNCH_PORT": text},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_site_for_others_needs_a_real_provider(site: Site) -> None:
    said = refused(site, ARMILLARY_PUBLIC_URL="http://hub.example.org:8000")
    assert "name yours in armillary.yaml as login.issuer" in said


def test_clean_of_a_folder_that_is_not_ours(site: Site, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    command = [*site.command()[:3], "clean", "--yes", "--state", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=site.variables(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "nothing to remove" in done.stdout
    assert (tmp_path / "thesis.tex").exists()
