"""Who acts: any number of controllers run, one of them leads, and only what it does counts.

The one that leads raises a number (`renewals`) in the database every now and then. Whoever sees that number unchanged
for `lease_s` on a clock of its own takes over and raises another one, the *epoch*. No two machines' clocks are ever
compared, so a clock that jumps makes nobody lead and nobody stop. One that was stopped, or cut off, and goes on may
believe that it still leads; `fenced` looks at the epoch in the same transaction as the write, so it can do no harm.
client-go's leader election times a lease in the same way; the epoch is a fencing token, which it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, insert, select, update

from hub.db.tables import lease as table
from hub.db.transaction import write

__all__ = ["CONTROLLER", "Lease", "StaleEpoch", "fenced"]

T = TypeVar("T")

CONTROLLER = "controller"
"""The name of the one lease there is; others may come."""


class StaleEpoch(RuntimeError):
    """Another one leads by now, or nobody: nothing was written."""


class Lease:
    """One candidate's view of the lease. Its methods block: call them in a thread, one at a time.

    Parameters
    ----------
    holder
        Who asks, for people: a host and a process, such as `hub-1:4711`. It decides nothing.
    lease_s
        How long the one that leads may be silent before another takes over, in seconds. Renew at a third of that.
    clock
        Seconds that only ever grow, also while this process is stopped.
    """

    def __init__(
        self,
        engine: Engine,
        holder: str,
        lease_s: float,
        *,
        name: str = CONTROLLER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not holder or lease_s <= 0:
            raise ValueError("a lease needs the name of its holder, and a time above 0")
        self._engine = engine
        self._holder = holder
        self.lease_s = lease_s
        self._name = name
        self._clock = clock
        self._epoch: int | None = None
        self._renewed_at = 0.0
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0

    @property
    def epoch(self) -> int | None:
        """The epoch under which this one led when it last asked; None: it does not lead."""
        return self._epoch

    @property
    def leading(self) -> bool:
        """Whether this one leads and nobody can have taken over yet; for what the database does not protect."""
        return self._epoch is not None and self._clock() - self._renewed_at < self.lease_s

    def try_acquire(self) -> int | None:
        """Take the lead if it is free or its holder has been silent for `lease_s`; return the epoch, else None.

        Silence is measured between calls of this function, so call it often: a second or two apart. One that leads
        already renews, and keeps its epoch.

        Raises
        ------
        hub.db.transaction.DatabaseAway
            The database did not answer; the silence goes on being measured.
        """
        if self._epoch is not None:
            try:
                self.renew()
            except StaleEpoch:
                return None
            return self._epoch
        began = self._clock()
        epoch = write(self._engine, self._look)
        if epoch is not None:
            self._epoch, self._renewed_at, self._seen = epoch, began, None
        return epoch

    def renew(self) -> None:
        """Say that this one lives.

        Raises
        ------
        StaleEpoch
            Another one leads: stop acting at once.
        hub.db.transaction.DatabaseAway
            The database did not answer; this one may go on trying, what it writes is refused if another took over.
        """
        epoch = self._leads_under()
        began = self._clock()
        try:
            fenced(self._engine, epoch, self._raise_renewals, name=self._name)
        except StaleEpoch:
            self._epoch = None
            raise
        self._renewed_at = began

    def release(self) -> None:
        """Give the lead back, so that another one takes over at its next look; nothing happens if another did already.

        Raises
        ------
        hub.db.transaction.DatabaseAway
            The database did not answer; others take over when `lease_s` is over.
        """
        epoch, self._epoch = self._epoch, None
        if epoch is None:
            return
        given_back = update(table).where(table.c.name == self._name, table.c.epoch == epoch).values(holder=None)
        write(self._engine, lambda connection: connection.execute(given_back))

    def _leads_under(self) -> int:
        if self._epoch is None:
            raise StaleEpoch("this one does not lead")
        return self._epoch

    def _look(self, connection: Connection) -> int | None:
        row = connection.execute(select(table).where(table.c.name == self._name).with_for_update()).one_or_none()
        if row is None:
            connection.execute(insert(table).values(name=self._name, epoch=1, renewals=0, holder=self._holder))
            return 1
        if row.holder is not None and not self._silent((row.epoch, row.renewals)):
            return None
        mine = update(table).where(table.c.name == self._name)
        connection.execute(mine.values(epoch=row.epoch + 1, renewals=0, holder=self._holder))
        return int(row.epoch) + 1

    def _silent(self, seen: tuple[int, int]) -> bool:
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
            return False
        return self._clock() - self._seen_at >= self.lease_s

    def _raise_renewals(self, connection: Connection) -> None:
        connection.execute(
            update(table).where(table.c.name == self._name).values(renewals=table.c.renewals + 1, holder=self._holder)
        )


def fenced(engine: Engine, epoch: int, work: Callable[[Connection], T], *, name: str = CONTROLLER) -> T:
    """Run `work` in a write transaction, but only if the lease is still held under this epoch.

    Raises
    ------
    StaleEpoch
        It is not: another one leads, or the lead was given back. Nothing was written.
    hub.db.transaction.DatabaseAway
        See `hub.db.transaction.write`.
    """

    def checked(connection: Connection) -> T:
        held = select(table.c.epoch, table.c.holder).where(table.c.name == name).with_for_update()
        row = connection.execute(held).one_or_none()
        if row is None or row.epoch != epoch or row.holder is None:
            now = "nobody leads" if row is None or row.holder is None else f"{row.holder} leads under epoch {row.epoch}"
            raise StaleEpoch(f"epoch {epoch} is over: {now}")
        return work(connection)

    return write(engine, checked)
