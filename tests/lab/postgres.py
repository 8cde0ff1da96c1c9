"""A PostgreSQL of Debian's package, for one test session: on a Unix socket, in a temporary folder, gone afterwards.

    with postgres.running() as server:
        url = server.fresh_database()

Nothing is durable in it (fsync off): it is as fast as memory, and what is tested is our use of it. Benchmarks of
commits take one that writes through to a disk and is reached over loopback: `running(durable=folder)`.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.lab import packages
from tests.lab.errors import LabError, LabUnavailable

PACKAGES = ("postgresql-15",)
PROGRAMS = Path("/usr/lib/postgresql/15/bin")

_PREFIX = "armillary-postgres-"
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "deadlock_timeout": "200ms",
}


_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "256MB"}


class Server:
    """One server. Everybody who gets at its socket is its superuser, and only root and the server's account do.

    Args:
        folder: where data and log are; owned by the account that the server runs under.
        sockets: where its socket is, the same or another such folder; its path may not be long.
        durable: commits are on the disk when they return, and the URLs lead over loopback, with a password.
    """

    def __init__(self, folder: Path, sockets: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self._sockets = sockets
        self._port = _free_port() if durable else 0
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log"

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        if self._port:
            return f"postgresql+psycopg://postgres:{self._password}@127.0.0.1:{self._port}/{database}"
        return f"postgresql+psycopg://postgres@/{database}?host={self._sockets}"

    def fresh_database(self, options: str = "TEMPLATE template0 ENCODING 'UTF8'") -> str:
        """Makes an empty database; returns its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self._administer(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Removes a database, and with it whoever is connected to it."""
        self._administer(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")

    def cut_off(self, url: str) -> None:
        """Ends all connections to a database, as a restart of the server does."""
        self._administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(url)}'")

    @property
    def _by_host(self) -> str:
        return "scram-sha-256" if self._port else "reject"

    def initialise(self) -> None:
        """Makes the files of the server."""
        options = ("--username=postgres", "--auth-local=trust", f"--auth-host={self._by_host}", "--encoding=UTF8")
        command: list[str | Path] = [
            PROGRAMS / "initdb",
            "-D",
            self.folder / "data",
            "--no-sync",
            "--locale=C.UTF-8",
            *options,
        ]
        done = subprocess.run(_as_owner(command), cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"initdb of PostgreSQL failed:\n{done.stdout}{done.stderr}")

    def start(self) -> None:
        """Starts the server and waits until it answers; again, after it was killed."""
        # Asked for, a dead one is reaped: until then its pid is taken, and the next one refuses its files.
        if self._process is not None and self._process.poll() is None:
            raise LabError("PostgreSQL is still running")
        settings = dict(_SETTINGS)
        if self._port:
            settings |= {**_DURABLE, "listen_addresses": "127.0.0.1", "port": str(self._port)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [PROGRAMS / "postgres", "-D", self.folder / "data", "-k", self._sockets, *words]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                # Should this process be killed, the server gets SIGINT: end at once, but in order.
                _as_owner(command, "--pdeathsig", "INT"),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"PostgreSQL did not start; {self.log}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        if self._port:
            self._administer(f"ALTER USER postgres PASSWORD '{self._password}'")

    def stop(self) -> None:
        """Ends the server and everybody's connection."""
        if self._process is None:
            return
        for what in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(what)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                continue
            self._process = None
            return
        raise LabError("PostgreSQL does not end")

    @property
    def pid(self) -> int:
        """Of the server's first process; kill it, and `start` begins another on the same files."""
        assert self._process is not None
        return self._process.pid

    def _answers(self) -> bool:
        try:
            self._administer("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _administer(self, statement: str) -> None:
        with psycopg.connect(
            host=str(self._sockets),
            port=self._port or None,
            user="postgres",
            dbname="postgres",
            autocommit=True,
            connect_timeout=10,
        ) as connection:
            connection.execute(statement.encode())


@contextmanager
def running(durable: Path | None = None) -> Iterator[Server]:
    """A server of one's own; nothing is left of it afterwards.

    Args:
        durable: a folder on a disk; commits are written through to it then, and the server is reached over loopback.

    Raises:
        LabUnavailable: the package is missing, and cannot be installed here.
    """
    packages.install(PACKAGES)
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    with ExitStack() as folders:
        sockets = folders.enter_context(_folder(memory))
        # The path of a socket has 107 bytes, that of a disk's folder may be longer.
        folder = sockets if durable is None else folders.enter_context(_folder(durable))
        server = Server(folder, sockets, durable=durable is not None)
        try:
            server.initialise()
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    """A folder of the server's account, held as long as this process lives, so that others know that it is wanted."""
    _remove_leftovers(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        if os.geteuid() == 0:
            _give_to_owner(folder)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(handle)


def _remove_leftovers(place: Path) -> None:
    """Removes the folders of sessions that were killed; their servers have ended by themselves."""
    for folder in place.glob(f"{_PREFIX}*"):
        if time.time() - folder.stat().st_mtime < 60:
            continue  # it may be just being made
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _give_to_owner(folder: Path) -> None:
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise LabUnavailable("The account `postgres` is missing: reinstall the package postgresql-common.") from None
    os.chown(folder, account.pw_uid, account.pw_gid)


def _as_owner(command: Sequence[str | Path], *options: str) -> list[str]:
    """The command under the server's account: PostgreSQL refuses to run as root."""
    account = ("--reuid=postgres", "--regid=postgres", "--init-groups") if os.geteuid() == 0 else ()
    return ["setpriv", *account, *options, *map(str, command)]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]
