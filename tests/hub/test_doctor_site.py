"""`armillary doctor` at a real site on one machine: all is well, and then something is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.hub.site import ROOT, Site, wait_for

pytestmark = [pytest.mark.hub, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site().running() as running:
        yield running


def doctor(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**site.variables(), "ARMILLARY_STATE_DIR": str(site.state)}
    command = [sys.executable, "-m", "hub.cli", "doctor", *words]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_a_site_that_is_well(site: Site) -> None:
    wait_for(lambda: "the counts are old" not in doctor(site).stdout, "the first counts")
    done = doctor(site, "--json")
    found = json.loads(done.stdout)
    assert [one for one in found if one["grade"] in ("problem", "unseen")] == []
    assert done.returncode == 0
    said = {one["text"] for one in found}
    assert {"the hub answers", "the service answers", "the proxy's API answers, to who has its password only"} <= said
    assert {one["area"] for one in found} == {
        "Names", "Parts", "Login", "Clocks", "Database", "Controller", "Accelerators",
    }  # fmt: skip


def test_a_service_that_hangs_is_found(site: Site) -> None:
    pid = site.pid_of("service")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = doctor(site)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "PROBLEM  the service does not answer" in done.stdout
    assert "PROBLEM  no controller leads" in done.stdout
    assert "ok       the hub answers" in done.stdout


def test_settings_that_cannot_be_read(site: Site) -> None:
    done = doctor(site, str(site.folder / "nowhere.yaml"))
    assert done.returncode == 1
    assert "nowhere.yaml" in done.stdout
