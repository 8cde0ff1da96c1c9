"""The launcher as a person meets it: everything real, started by its command line."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.launch.accounts import ACCOUNTS
from spawner.processes.identity import processes, spawn_id_of
from tests.hub.site import ROOT, Site, alive, processes_mentioning, wait_for

pytestmark = [pytest.mark.hub, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site().running() as running:
        yield running


def session_pids() -> dict[int, str]:
    """Every process of every session on this machine, with its spawn id."""
    return {stat.pid: spawn for stat in processes() if (spawn := spawn_id_of(stat.pid))}


def pids_of(site: Site) -> set[int]:
    """Processes of the sessions whose launch records this site keeps."""
    spawns = {file.name.split("-")[1].split(".")[0] for file in (site.state / "launches").glob("*.json")}
    return {pid for pid, spawn in session_pids().items() if spawn in spawns}


class Visitor:
    """Talks to a running server all the while, and counts what went wrong."""

    def __init__(self, site: Site, name: str) -> None:
        self.url = f"{site.url}/user/{name}/api/status"
        self.token = site.api("POST", f"/users/{name}/tokens", json={"note": "visitor"}).json()["token"]
        self.answers = 0
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def _talk(self) -> None:
        with httpx.Client(headers={"Authorization": f"token {self.token}"}, timeout=30) as client:
            while not self._ended.is_set():
                try:
                    answer = client.get(self.url)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                else:
                    self.answers += 1
                    if answer.status_code != 200:
                        self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                self._ended.wait(0.02)

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_it_says_where_it_is_who_can_log_in_and_how_to_stop(site: Site) -> None:
    said = site.said()
    assert f"at {site.url}\n" in said
    for account in ACCOUNTS:
        assert account.name in said
        assert site.accounts[account.name] in said
    assert str(site.state / "logs") in said
    assert "Ctrl-C ends everything" in said


@pytest.mark.parametrize("account", ACCOUNTS, ids=lambda account: account.name)
def test_every_account_gets_in_with_its_groups(site: Site, account: object) -> None:
    name, groups = account.name, list(account.groups)  # type: ignore[attr-defined]
    site.login(name).close()
    known = site.api("GET", f"/users/{name}").json()
    assert known["groups"] == groups
    assert known["admin"] is (groups == ["admins"])


def test_a_wrong_password_stays_at_the_provider_and_costs_time(site: Site) -> None:
    with site.client() as browser:
        page = site.try_login(browser, "researcher-2", "wrong")
        assert page.status_code == 200
        assert str(page.url).startswith(f"http://localhost:{site.provider_port}/auth/password")
        assert "Login failed. Please check your information." in page.text
    with site.client() as browser:
        page = site.try_login(browser, "researcher-2", site.accounts["researcher-2"])
        assert "Too much attempts" in page.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_hub_restart_cuts_no_running_server_off(site: Site, number: signal.Signals) -> None:
    site.login("researcher-1").close()
    if not site.server("researcher-1").get("ready"):
        site.start_server("researcher-1")
    before = pids_of(site)
    assert before
    with Visitor(site, "researcher-1") as visitor:
        wait_for(lambda: visitor.answers > 3, "the visitor to get answers")
        site.restart_hub(number)
        wait_for(lambda: site.server("researcher-1").get("ready"), "the hub to know the server again")
        at_restart = visitor.answers
        wait_for(lambda: visitor.answers > at_restart + 3, "the visitor to get answers after the restart")
    assert visitor.failures == []
    assert before <= pids_of(site)
    assert len(list((site.state / "launches").glob("*.json"))) == 1


@pytest.mark.parametrize("name", ["proxy", "provider"])
def test_what_is_killed_is_started_again(site: Site, name: str) -> None:
    before = site.pid_of(name)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: site.pid_of(name) not in (0, before), f"another {name}")
    assert f"the {name} was ended by SIGKILL; starting it again" in site.said()
    site.wait_healthy()
    wait_for(
        lambda: _answers(f"http://localhost:{site.provider_port}/.well-known/openid-configuration"), "the provider"
    )
    site.login("instructor").close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_second_start_names_the_address_of_the_first(site: Site) -> None:
    done = subprocess.run(site.command(), cwd=ROOT, env=site.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"armillary: already runs at {site.url} (process {site.process.pid}; "  # type: ignore[union-attr]
        f"Ctrl-C there, or `kill {site.process.pid}`, stops it)\n"  # type: ignore[union-attr]
    )


def test_clean_refuses_while_it_runs(site: Site) -> None:
    command = [*site.command()[:3], "clean", "--yes", "--state", str(site.state)]
    done = subprocess.run(command, cwd=ROOT, env=site.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"already runs at {site.url}" in done.stderr
    assert site.healthy()


def test_secrets_are_in_no_log_no_command_line_and_no_session(site: Site) -> None:
    if not site.server("researcher-1").get("ready"):
        site.login("researcher-1").close()
        site.start_server("researcher-1")
    secrets = {
        file.name: [word.strip('",') for word in file.read_text().split() if len(word) > 20]
        for file in (site.state / "secrets").iterdir()
    }
    words = {word: name for name, found in secrets.items() for word in found}
    assert len(words) >= 7
    places = {str(file): file.read_bytes() for file in (site.state / "logs").rglob("*") if file.is_file()}
    for stat in processes():
        try:
            places[f"command line of {stat.pid}"] = Path(f"/proc/{stat.pid}/cmdline").read_bytes()
            if spawn_id_of(stat.pid):
                places[f"environment of {stat.pid}"] = Path(f"/proc/{stat.pid}/environ").read_bytes()
        except OSError:
            continue
    leaks = {(name, place) for word, name in words.items() for place, text in places.items() if word.encode() in text}
    assert leaks == set()


def test_a_sessions_account_gets_no_further_than_homes(site: Site) -> None:
    if not site.server("researcher-1").get("ready"):
        site.login("researcher-1").close()
        site.start_server("researcher-1")
    uid = {Path(f"/proc/{pid}").stat().st_uid for pid in pids_of(site)} - {0}
    assert len(uid) == 1
    script = 'cd "$1" && ls; for each in *; do ls "$1/$each"; cat "$1/$each"; done; cat "$1"/secrets/client_secret "$1"/hub.sqlite'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(site.state)],
        user=uid.pop(),
        group=65534,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def test_everything_ends_and_a_next_start_finds_it_again() -> None:
    site = Site()
    try:
        site.start()
        site.login("researcher-1").close()
        site.start_server("researcher-1")
        [home] = (site.state / "homes").iterdir()
        (home / "kept.txt").write_text("kept")
        passwords, sessions = site.accounts, pids_of(site)
        assert sessions

        # Ctrl-C: everybody's sessions end too.
        assert site.stop(signal.SIGINT) == 0
        assert "ended 1 of 1 sessions" in site.said()
        assert processes_mentioning(str(site.folder)) == []
        assert not any(alive(pid) for pid in sessions)

        # SIGKILL: sessions live on, the rest dies, and the next start finds the sessions.
        site.start()
        assert site.accounts == passwords
        site.login("researcher-1").close()
        site.start_server("researcher-1")
        assert (home / "kept.txt").read_text() == "kept"
        sessions = pids_of(site)
        site.kill()
        assert sessions
        assert all(alive(pid) for pid in sessions)
        site.start()
        wait_for(lambda: site.server("researcher-1").get("ready"), "the hub to find the server")
        with Visitor(site, "researcher-1") as visitor:
            wait_for(lambda: visitor.answers > 3, "the server to answer")
        assert visitor.failures == []
        assert sessions <= pids_of(site)

        # The terminal goes away.
        assert site.stop(signal.SIGHUP) == 0
        assert processes_mentioning(str(site.folder)) == []
        assert not any(alive(pid) for pid in sessions)

        # And clean leaves nothing.
        command = [*site.command()[:3], "clean", "--state", str(site.state)]
        asked = subprocess.run(
            command,
            cwd=ROOT,
            env=site.variables(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert asked.returncode == 1
        assert "with 1 home, accounts, secrets and logs; say --yes if that is meant" in asked.stderr
        assert home.exists()
        subprocess.run([*command, "--yes"], cwd=ROOT, env=site.variables(), check=True, stdout=subprocess.DEVNULL)
        assert not site.state.exists()
    finally:
        if not site.ended:
            site.stop(signal.SIGTERM)
        site.remove()


def test_a_hub_that_cannot_start_ends_the_launcher_with_the_reason() -> None:
    site = Site(config="raise ValueError('a mistake of the deployer')\n")
    try:
        site.launch()
        wait_for(lambda: site.ended, "the launcher to give up")
        assert site.process is not None
        assert site.process.returncode == 1
        assert "ValueError: a mistake of the deployer" in site.said()
        assert "not starting it again" in site.said()
        assert processes_mentioning(str(site.folder)) == []
    finally:
        site.stop()
        site.remove()
