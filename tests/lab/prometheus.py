"""A Prometheus of Debian's package, for one test: it asks whom the test names, and forgets all afterwards."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.lab import packages
from tests.lab.errors import LabError

PACKAGES = ("prometheus",)


class Prometheus:
    """One that runs; `url` is its own page."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer of its API. Raises LabError, with what it says, for a query that is none."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        if answer["status"] != "success":
            raise LabError(f"{path} {parameters}: {answer.get('error')}")
        return answer["data"]

    def series(self, query: str) -> list[dict[str, Any]]:
        """Return what a query answers now."""
        found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def course(self, query: str, since: float, step_s: float = 5.0) -> list[dict[str, Any]]:
        """Return what a query answers from a moment (seconds since 1970) until now."""
        asked = {"query": query, "start": since, "end": time.time(), "step": step_s}
        found: list[dict[str, Any]] = self.ask("query_range", **asked)["result"]
        return found

    def shows(self, query: str, since: float) -> bool:
        """Whether a picture of a query from a moment (seconds since 1970) until now would show anything."""
        found = self.course(query, since)
        return any(not math.isnan(float(value)) for series in found for _, value in series["values"])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == "firing"}

    def problems(self) -> dict[str, str]:
        """Return what is wrong with its targets, by their addresses."""
        found = self.ask("targets")["activeTargets"]
        return {one["scrapeUrl"]: one["lastError"] or one["health"] for one in found if one["health"] != "up"}


@contextlib.contextmanager
def running(
    folder: Path,
    scrapes: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Any],
    inside: Sequence[str] = (),
    address: str = "",
) -> Iterator[Prometheus]:
    """Start one, and end it afterwards.

    Args:
        folder: where its files lie.
        scrapes: as in `scrape_configs`.
        rules: a file of rules.
        inside: words before its command, as `network.beside` gives them.
        address: where it listens, `HOST:PORT`; empty: a free port of this machine alone.

    Raises:
        LabUnavailable: the package is missing, and cannot be installed here.
        LabError: it does not come up; the text has its log.
    """
    packages.install(PACKAGES)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump(dict(rules)))
    every = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    said = {"global": every, "rule_files": [str(folder / "rules.yml")], "scrape_configs": list(scrapes)}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(said))
    address = address or _free_address()
    command = [*inside, "prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_ready(f"http://{address}/-/ready", process, folder / "log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"Prometheus does not come up; it says:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
