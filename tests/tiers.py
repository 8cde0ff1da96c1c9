"""Run the tests tier by tier, soonest to fail first, and print a table at the end.

    python -m tests.tiers                 all tiers
    python -m tests.tiers unit cluster    only these

Each tier writes `test-results/<tier>.xml` (JUnit). A tier whose real parts are missing is named with what to
install; with CI=true that, and any skipped test, is a failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "test-results"


@dataclass(frozen=True)
class Tier:
    """One tier: its commands, or a pytest marker; how many files of it run at once; and what it needs beyond Python."""

    name: str
    what: str
    commands: tuple[tuple[str, ...], ...] = ()
    missing: Callable[[], str | None] = lambda: None
    at_once: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a tier ended. `seconds` is wall time; `missing` says why it was not run."""

    tier: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    missing: str | None = None


def _root_on_debian() -> str | None:
    if os.geteuid() != 0:
        return "needs root: it installs Debian packages and starts daemons"
    release = Path("/etc/os-release")
    if not release.exists() or "VERSION_CODENAME=bookworm" not in release.read_text():
        return "needs Debian 12 (bookworm)"
    return None


def _cluster_parts() -> str | None:
    missing = _root_on_debian()
    if missing:
        return missing
    try:
        version = subprocess.run(("go", "version"), capture_output=True, text=True, check=True).stdout.split()[2]
        major, minor = (int(part) for part in version.removeprefix("go").split(".")[:2])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return "needs Go 1.26 or newer on PATH (https://go.dev/doc/install)"
    return None if (major, minor) >= (1, 26) else f"needs Go 1.26 or newer, found {version}"


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


_LABEXTENSION = (sys.executable, "images/labextension/build.py")


TIERS = (
    Tier(
        "lint",
        "ruff, mypy strict, import contract",
        (
            _python("ruff", "check", "."),
            _python("ruff", "format", "--check", "."),
            _python("mypy"),
            (str(Path(sys.executable).parent / "lint-imports"),),
        ),
    ),
    Tier("unit", "pure functions, tables, property tests, golden files", at_once=2),
    Tier("docs", "the documentation builds, warnings are errors", (_python("docs.build"),)),
    Tier("faults", "a scripted Kubernetes API that misbehaves"),
    Tier("hub", "a real JupyterHub, proxy, OpenID provider and sessions", missing=_cluster_parts, at_once=2),
    Tier(
        "labextension",
        "the JupyterLab extension: types, unit tests, the wheel",
        ((*_LABEXTENSION, "test"), (*_LABEXTENSION, "wheel")),
    ),
    Tier("browser", "Chromium through the whole journey", missing=_root_on_debian),
    Tier("cluster", "a real Kubernetes", missing=_cluster_parts),
    Tier("bench", "the benchmarks at a small scale", missing=_cluster_parts),
)


def run(tier: Tier) -> Outcome:
    """Run one tier and return how it ended; its output goes to the terminal as it comes."""
    missing = tier.missing()
    if missing:
        return Outcome(tier.name, missing=missing)
    print(f"\n=== {tier.name}: {tier.what}", flush=True)
    started = time.monotonic()
    outcome = _commands(tier) if tier.commands else _pytest(tier)
    return replace(outcome, seconds=time.monotonic() - started)


def _commands(tier: Tier) -> Outcome:
    passed = failed = 0
    for command in tier.commands:
        print("$", _shown(command), flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode == 0:
            passed += 1
        else:
            failed += 1
    return Outcome(tier.name, passed, failed)


def _shown(command: tuple[str, ...]) -> str:
    """The command without what is the same for all: this Python."""
    if command[1:2] == ("-m",):
        return " ".join(command[2:])
    return " ".join(command[1:] if command[0] == sys.executable else command)


def _pytest(tier: Tier) -> Outcome:
    RESULTS.mkdir(exist_ok=True)
    report = RESULTS / f"{tier.name}.xml"
    report.unlink(missing_ok=True)
    options = ["-m", tier.name, "-q", "-ra", "--durations=5", f"--junitxml={report}", "tests"]
    if tier.at_once > 1:
        options += ["-n", str(tier.at_once), "--dist", "loadfile"]  # a file's fixtures are made once
    status = subprocess.run(_python("pytest", *options), cwd=ROOT, check=False).returncode
    if not report.exists():
        return Outcome(tier.name, failed=1)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    if suite is None:
        return Outcome(tier.name, failed=1)
    count = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    if status != 0 and failed == 0:
        failed = 1  # pytest's own "no tests" or "interrupted"
    return Outcome(tier.name, max(0, count["tests"] - failed - count["skipped"]), failed, count["skipped"])


@contextmanager
def _built_meanwhile(tiers: Sequence[Tier]) -> Iterator[None]:
    """Build what the cluster's tiers need beside the tiers before them, which leave a processor free.

    Takes minutes on a new machine and nothing on one that has it. A tier that needs it sooner waits for it; if it
    fails that tier tries again, and says why.
    """
    if not any(tier.missing is _cluster_parts for tier in tiers) or _cluster_parts():
        yield
        return
    command = ("nice", *_python("tests.lab", "build"))
    building = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        if building.poll() is None:
            os.killpg(building.pid, signal.SIGTERM)
        building.wait()


def table(outcomes: list[Outcome]) -> str:
    """Return the table of tiers."""
    lines = [f"{'tier':12} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}"]
    for outcome in outcomes:
        note = f"  not run: {outcome.missing}" if outcome.missing else ""
        lines.append(
            f"{outcome.tier:12} {outcome.passed:7} {outcome.failed:7} {outcome.skipped:8} {outcome.seconds:8.1f}{note}"
        )
    return "\n".join(lines)


def exit_status(outcomes: list[Outcome], *, ci: bool) -> int:
    """Return 1 if anything failed; in CI also if anything was not run or skipped."""
    bad = any(outcome.failed for outcome in outcomes)
    undone = any(outcome.missing or outcome.skipped for outcome in outcomes)
    return 1 if bad or (ci and undone) else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the tiers that are named, or all, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.tiers", description=__doc__.split("\n", 1)[0])
    parser.add_argument("tier", nargs="*", help=f"one of {', '.join(tier.name for tier in TIERS)}; default: all")
    names = parser.parse_args(arguments).tier
    unknown = set(names) - {tier.name for tier in TIERS}
    if unknown:
        parser.error(f"no tier {', '.join(sorted(unknown))}; there are: {', '.join(tier.name for tier in TIERS)}")
    tiers = [tier for tier in TIERS if not names or tier.name in names]
    with _built_meanwhile(tiers):
        outcomes = [run(tier) for tier in tiers]
    print("\n" + table(outcomes))
    total = [sum(getattr(outcome, key) for outcome in outcomes) for key in ("passed", "failed", "skipped")]
    print(f"\n{total[0]} passed, {total[1]} failed, {total[2]} skipped", flush=True)
    return exit_status(outcomes, ci=os.environ.get("CI", "").lower() in ("true", "1"))


if __name__ == "__main__":
    sys.exit(main())
