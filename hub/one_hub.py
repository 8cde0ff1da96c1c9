"""One hub for one database: a second one that is started by mistake refuses to start.

Two hubs would each start and stop servers of the same names, and each write the proxy's routes as it knows them. Who
is the hub is a lease in the database (`hub.controller.lease`), so it holds across machines and through a pooler of
connections. It decides nothing but this: what the hub writes is guarded by transactions and spawn ids.

A hub that was killed is replaced at once where its successor can see that it is dead, which is on the same machine and
in the same container; elsewhere when it has been silent for `LEASE_S`.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy import Engine, select, update

from hub.controller.lease import Lease, StaleEpoch
from hub.db.engine import shown
from hub.db.tables import lease as table
from hub.db.transaction import DatabaseAway, read, write
from spawner.processes.identity import Process, boot_id, is_alive, look

__all__ = ["HUB", "LEASE_S", "AnotherHub", "be_the_hub"]

HUB = "hub"
"""The name of the lease."""

LEASE_S = 15.0
"""How long a hub may be silent before another one takes its place, in seconds; it says that it lives three times."""

_LOOK_S = 1.0
_log = logging.getLogger(__name__)
_held: dict[str, Callable[[], None]] = {}
"""The databases whose hub this process is, and what ends that: a configuration may be read more than once."""


class AnotherHub(RuntimeError):
    """Another hub uses this database, and lives."""


def be_the_hub(
    database: Engine,
    *,
    lease_s: float = LEASE_S,
    lost: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
) -> Callable[[], None]:
    """Be the one hub of this database until this process ends. Blocks while a hub that may be dead is waited for.

    Returns what gives the place back; it is called when Python ends.

    Parameters
    ----------
    lost
        Called, in a thread, when another hub has taken over because this process was stopped for longer than
        `lease_s`. By default this hub ends as if it were told to; sessions go on.

    Raises
    ------
    AnotherHub
        There is one, and it has said within `lease_s` that it lives.
    hub.db.transaction.DatabaseAway
        The database does not answer.
    """
    name = database.url.render_as_string(hide_password=False)
    if name in _held:
        return _held[name]
    lease = Lease(database, _myself(), lease_s, name=HUB)
    _acquire(lease, database, lease_s)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, ended, lost), name="armillary-one-hub", daemon=True)
    renewing.start()

    def leave() -> None:
        atexit.unregister(leave)
        if _held.pop(name, None):
            _leave(lease, ended, renewing)

    _held[name] = atexit.register(leave)
    return leave


def _acquire(lease: Lease, database: Engine, lease_s: float) -> None:
    _forget_the_dead(database)
    # One that lives renews at least once in this time.
    deadline = time.monotonic() + lease_s + 2 * _LOOK_S
    while lease.try_acquire() is None:
        if time.monotonic() > deadline:
            raise AnotherHub(
                f"another hub runs with {shown(database)}: {_of_people(_holder(database))}. Two hubs would stop each "
                "other's servers. Stop that one first, or give this one a database of its own (`database.url`)"
            )
        time.sleep(min(_LOOK_S, lease_s / 3))


def _renew(lease: Lease, ended: threading.Event, lost: Callable[[], None]) -> None:
    while not ended.wait(lease.lease_s / 3):
        try:
            lease.renew()
        except StaleEpoch as error:
            _log.critical("Another hub has taken over (%s): this one ends. Sessions go on.", error)
            lost()
            return
        except DatabaseAway as error:  # nobody else can take over meanwhile, and nobody starts
            _log.warning("The hub could not say that it lives: %s", error)


def _leave(lease: Lease, ended: threading.Event, renewing: threading.Thread) -> None:
    """Give the place back; where that fails it runs out by itself."""
    ended.set()
    renewing.join(timeout=2.0)
    if renewing.is_alive():  # the database does not answer
        return
    try:
        lease.release()
    except DatabaseAway as error:
        _log.warning("The hub's place was not given back: %s", error)


def _myself() -> str:
    """Name this process so that another on the same machine can tell whether it lives, and people can find it."""
    stat = look(os.getpid())
    assert stat is not None, "this process is there"
    return " ".join((quote(platform.node()), str(stat.pid), str(stat.started), boot_id(), _pids()))


def _pids() -> str:
    """Where this process's pid means it: containers have pids of their own."""
    return Path("/proc/self/ns/pid").readlink().name


def _forget_the_dead(database: Engine) -> None:
    """Free the place of a hub that has ended without giving it back, if that can be seen from here."""
    holder = _holder(database)
    if holder is None or not _is_dead(holder):
        return
    dead = update(table).where(table.c.name == HUB, table.c.holder == holder).values(holder=None)
    write(database, lambda connection: connection.execute(dead))


def _is_dead(holder: str) -> bool:
    try:
        node, pid, started, boot, pids = holder.split()
        process = Process(int(pid), int(started), boot)
    except ValueError:
        return False
    seen_from_here = (unquote(node), boot, pids) == (platform.node(), boot_id(), _pids())
    return seen_from_here and not is_alive(process)


def _holder(database: Engine) -> str | None:
    query = select(table.c.holder).where(table.c.name == HUB)
    return read(database, lambda connection: connection.execute(query).scalar())


def _of_people(holder: str | None) -> str:
    words = (holder or "").split()
    return f"process {words[1]} on {unquote(words[0])}" if len(words) > 1 else "its name is not known"
