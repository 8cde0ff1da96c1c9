"""What an upgrade starts from: chart and images of the newest release that has a chart, built from its commit."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab import cache
from tests.lab.errors import LabError

__all__ = ["Earlier", "earlier"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_CHART = "helm/armillary"
IMAGES = ("hub", "proxy", "postgres", "base")
"""What an installation of it runs, and one image for sessions."""
# Run in the sources of then: how images were built is part of what they were.
_BUILD = "import sys; from tests.lab import images; [print(*images.archive(n), sep='\\t') for n in sys.argv[1:]]"


@dataclass(frozen=True)
class Earlier:
    """A version of before.

    Attributes:
        version: as in `releases.toml`; empty for a commit that is no release.
        commit: its full hash.
        sources: the files of that commit.
    """

    version: str
    commit: str
    sources: Path

    @property
    def chart(self) -> Path:
        """The chart's folder."""
        return self.sources / _CHART

    def images(self) -> dict[str, tuple[str, Path]]:
        """References and archives of its images by name, built by its own program when they are not in the cache.

        Raises:
            LabError: one cannot be built.
        """
        command = [sys.executable, "-c", _BUILD, *IMAGES]
        done = subprocess.run(
            command,
            cwd=self.sources,
            env=os.environ | {"PYTHONPATH": str(self.sources), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"the images of commit {self.commit} cannot be built; what was said is above")
        built = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
        return {name: (reference, Path(file)) for name, (reference, file) in zip(IMAGES, built, strict=True)}


def earlier(list_of_releases: Path = _REPOSITORY / "releases.toml", repository: Path = _REPOSITORY) -> Earlier:
    """The newest release with a chart or, while there is none, the first commit whose chart could be installed.

    Raises:
        LabError: the commit is not in this clone.
    """
    read = tomllib.loads(list_of_releases.read_text(encoding="utf-8"))
    for version, commit in _candidates(read):
        _known(repository, commit)
        if _git(repository, "ls-tree", "--name-only", commit, f"{_CHART}/Chart.yaml"):
            make = partial(_extract, repository, commit)
            notice = f"taking commit {commit[:12]} out of the repository"
            return Earlier(version, commit, cache.entry(f"sources-{commit[:12]}", make, notice))
    raise LabError(f"no release of {list_of_releases} has {_CHART}, nor has its first_chart")


def _candidates(read: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for release in read["release"]:
        if commit := release.get("commit"):  # the newest has none until the commit after it
            yield release["version"], commit
    yield "", read["first_chart"]


def _known(repository: Path, commit: str) -> None:
    try:
        _git(repository, "cat-file", "-e", f"{commit}^{{commit}}")
    except LabError as error:
        raise LabError(f"commit {commit} is not in this clone; get the whole history: git fetch --unshallow") from error


def _extract(repository: Path, commit: str, into: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_git(repository, "archive", "--format=tar", commit))) as archive:
        # As Python's documentation says for versions of which some know filters: Debian's 3.11.2 does not.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(into)


def _git(repository: Path, *words: str) -> bytes:
    # Also where the checkout belongs to somebody else than who runs the tests.
    command = ["git", "-c", f"safe.directory={repository}", "-C", str(repository), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"`git {' '.join(words)}` failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
