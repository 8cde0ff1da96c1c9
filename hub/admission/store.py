"""What a decision is made from, read in the transaction that writes the answer; and by which rules it is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, partial
from typing import TypeVar

from sqlalchemy import Connection

from hub.admission.decide import Admitted, Queued, decide, queue, startable
from hub.admission.memory import Memory, Sight, Windows
from hub.admission.standing import Asked, Bounds, Standing, Waiting
from hub.admission.tickets import Ticket
from hub.admission.view import View
from hub.db.transaction import read
from hub.idle.limits import allowed_s
from hub.quotas import store as quotas_store
from hub.quotas.accounts import account_for, in_order
from hub.quotas.budgets import Used
from hub.quotas.model import Field, Limit, Limits, Quotas
from hub.quotas.resolve import own_limits, shared_limits, subjects_of
from hub.settings.idle import IdleSettings
from hub.settings.queue import QueueSettings
from hub.settings.quotas import QuotaSettings
from hub.usage import sums
from hub.usage.windows import WINDOWS, Window
from profiles.access import Person
from profiles.model import Catalogue
from profiles.model import Engine as EngineKind
from profiles.offers import title_of
from spawner.capacity.availability import Availability
from spawner.capacity.grant import grant
from spawner.occupied import share_of
from spawner.reservation import Reservation

__all__ = ["Rules", "Store"]

T = TypeVar("T")

_QUEUED = Field("queued")
_ASKED_AT_ONCE = 200
"""Subjects in one statement; databases limit how many values it may carry."""
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Rules:
    """By what is decided: what there is, and what the settings say."""

    catalogue: Catalogue
    engine: EngineKind
    nodes_may_appear: bool = False
    queue: QueueSettings = field(default_factory=QueueSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    idle: IdleSettings = field(default_factory=IdleSettings)

    @cached_property
    def titles(self) -> Mapping[str, str]:
        """What accelerators are called, by key."""
        return {key: title_of(card, self.engine) for key, card in self.catalogue.accelerators.items()}

    def asked(self, wanted: Reservation, account: str, *, replaces: str | None = None, may_wait: bool = True) -> Asked:
        """Return a request as it is decided: with the account, its share of cards, and how long it may last."""
        share = share_of(wanted.accelerator, wanted.count, self.catalogue)
        return Asked(
            wanted.id,
            wanted.user,
            wanted.server,
            wanted.profile,
            wanted.options,
            wanted.accelerator,
            wanted.count,
            wanted.cpu_m,
            wanted.memory,
            account,
            share,
            allowed_s(self.idle, wanted.profile, wanted.accelerator, account),
            may_wait=may_wait,
            replaces=replaces,
            by_hand=wanted.by_hand,
        )

    def image_of(self, held: Reservation) -> str:
        """Return the reference of the image that a reservation's session runs, for the ledger; empty: not known."""
        known = self.catalogue.images.get(str(held.options.get("image", "")))
        return str(known.reference or "") if known is not None else ""


class Store:
    """Reads standings and decides; for several threads. Its functions are for a transaction of the caller's.

    Parameters
    ----------
    stale_after_s
        From this age on counts are no truth any more (`controller.stale_after_s`).
    """

    def __init__(self, rules: Rules, stale_after_s: float) -> None:
        self.rules = rules
        self._view = View(stale_after_s)
        self._memory = Memory()
        self._windows: dict[str, tuple[Window, ...]] = {"by": (), "group": ()}
        self._charged: frozenset[str] = frozenset()  # groups' accounts

    def availability(self, connection: Connection) -> Availability:
        """Return what is known of what is free."""
        return self._view.of(connection, self.look(connection))

    def look(self, connection: Connection, person: Person | None = None, account: str = "") -> Sight:
        """Return what there is in this transaction, with the limits that can matter to this person.

        Parameters
        ----------
        account
            What they want to charge, where they have said so.
        """
        if person is None:
            return self._memory.look(connection)
        windows = self.windows_of(person, account)
        return self._memory.look(connection, subjects_of(person.name, person.groups), windows, self.rules.quotas.zone)

    def windows_of(self, person: Person, account: str) -> Windows:
        """Return the windows whose use will have to be known, as far as can be told before the limits are read: those
        over which anybody's limits were, or any group's."""
        found = {f"by:{person.name}": self._windows["by"]}
        if not account:
            groups = sorted(self._charged & {f"group:{group}" for group in person.groups})
            account = next(iter(in_order(person, groups, self.rules.quotas.accounts)), "")
        if account.startswith("group:"):
            found[account] = self._windows["group"]
        return {subject: windows for subject, windows in found.items() if windows}

    def charged(self, sight: Sight, person: Person, asked: str) -> str:
        """Return the account that this person's request is charged to.

        Parameters
        ----------
        sight
            What was seen with their limits.

        Raises
        ------
        Refusal
            `account`: they may not charge that one.
        """
        account = account_for(person, sight.quotas, self.rules.quotas.accounts, asked or None)
        if account.startswith("group:") and account not in self._charged:
            self._charged |= {account}
        return account

    def standing(
        self, connection: Connection, sight: Sight | None = None, *, charged: str = "", without: str = ""
    ) -> Standing:
        """Return how everything stands now.

        Parameters
        ----------
        sight
            What `look` has told in this transaction, if nothing has been written since.
        charged
            The account of a request that has no ticket yet.
        without
            Leave out this ticket.
        """
        sight = sight or self.look(connection)
        now, known = sight.now, sight.known
        waiting = tuple(known.waiting.values())
        if without:
            waiting = tuple(one for one in waiting if one.id != without)
        return Standing(
            now=now,
            availability=self._view.of(connection, sight),
            tickets=waiting,
            ends=known.ends,
            granted_at=known.granted_at,
            bounds=_BoundsOf(connection, self.rules, waiting, sight, self._note),
            fair=_FairOf(connection, self.rules, known.waiters.by_account.keys() | ({charged} - {""})),
            weights=self.rules.quotas.weights,
            holders=known.holders,
            waiters=None if without else known.waiters,
            titles=self.rules.titles,
        )

    def _note(self, windows: Mapping[str, Collection[Window]]) -> None:
        """Remember over which windows limits were; there are some few."""
        for subject, theirs in windows.items():
            kind = "by" if subject.startswith("by:") else "group"
            if not self._windows[kind] or not set(theirs).issubset(self._windows[kind]):
                self._windows[kind] = tuple(window for window in WINDOWS if window in {*theirs, *self._windows[kind]})

    def decide(self, asked: Asked, standing: Standing, *, slot: bool = True) -> Admitted | Queued:
        """Decide by these rules; see `hub.admission.decide.decide`."""
        rules = self.rules
        return decide(asked, standing, rules.catalogue, rules.engine, rules.nodes_may_appear, slot=slot)

    def granted(self, asked: Asked, known: Availability) -> Reservation:
        """Return the reservation of somebody who is planned to start now, on the local engine with its devices.

        Raises
        ------
        Refusal
            It is not to be had after all; see `spawner.capacity.grant.grant`.
        """
        rules = self.rules
        return grant(known, asked.reservation(), rules.catalogue, rules.engine, nodes_may_appear=rules.nodes_may_appear)

    def queue(self, standing: Standing) -> dict[str, Queued]:
        """Return where everybody in the queue stands, by ticket id, first who comes first."""
        return queue(standing, self.rules.catalogue, self.rules.engine, self.rules.nodes_may_appear)

    def startable(self, standing: Standing) -> Iterator[Waiting]:
        """Find whose turn it is, first who comes first."""
        return startable(standing, self.rules.catalogue, self.rules.engine, self.rules.nodes_may_appear)

    def place(self, connection: Connection, ticket: Ticket) -> Queued | None:
        """Return where a waiting ticket stands; None: it does not wait."""
        return self.queue(self.standing(connection)).get(ticket.id)


class _FairOf(Mapping[str, float]):
    """What these accounts used lately, decayed, over their weights; read when it is first asked for, since many
    decisions do not depend on the order of those who wait."""

    def __init__(self, connection: Connection, rules: Rules, accounts: Collection[str]) -> None:
        self._connection = connection
        self._rules = rules
        self._accounts = accounts

    @cached_property
    def _found(self) -> Mapping[str, float]:
        if len(self._accounts) < 2:
            return {}  # nobody whose order it could decide
        settings = self._rules.quotas
        asked = partial(sums.decayed, half_life_s=settings.half_life_days * _DAY_S, accounts=self._accounts)
        used = _read(self._connection, asked)
        return {account: seconds / settings.weights.get(account, 1.0) for account, seconds in used.items()}

    def __getitem__(self, account: str) -> float:
        return self._found[account]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _BoundsOf(Mapping[tuple[str, str], Bounds]):
    """The limits of those who are looked up: the asker's first, then of all who wait for the same account, then of all.

    What is looked up after the transaction (the place of a new ticket) is read in one of its own.
    """

    def __init__(
        self,
        connection: Connection,
        rules: Rules,
        waiting: Sequence[Ticket],
        sight: Sight,
        note: Callable[[Mapping[str, Collection[Window]]], None],
    ) -> None:
        self._connection = connection
        self._rules = rules
        self._waiting = waiting
        self._sight = sight
        self._note = note
        self._found: dict[tuple[str, str], Bounds] = {}

    def __getitem__(self, key: tuple[str, str]) -> Bounds:
        if key not in self._found:
            # Some few statements, however many wait: a decision asks about one account, a page about all of them.
            accounts = {account for _, account in self._found}
            others = [(one.user, one.account) for one in self._waiting] if accounts else []
            if accounts == {key[1]}:
                others = [one for one in others if one[1] == key[1]]
            self._look_up([one for one in dict.fromkeys([key, *others]) if one not in self._found])
        return self._found[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _look_up(self, keys: Sequence[tuple[str, str]]) -> None:
        needed = {subject for user, account in keys for subject in subjects_of(user, _groups(account))}
        if needed <= self._sight.subjects:
            quotas = self._sight.quotas
        else:
            quotas = _read(self._connection, lambda connection: quotas_store.load(connection, needed))
        limits = {key: (self._own(quotas, *key), shared_limits(quotas, key[1])) for key in keys}
        windows: defaultdict[str, set[Window]] = defaultdict(set)
        for (user, account), (own, shared) in limits.items():
            windows[f"by:{user}"].update(own.windows)
            windows[account].update(shared.windows)
        used = self._used_in({subject: some for subject, some in windows.items() if some})
        nothing: Used = {}
        for (user, account), (own, shared) in limits.items():
            used_own = used.get(f"by:{user}", nothing)
            self._found[user, account] = Bounds(own, shared, used_own, used.get(account, nothing))

    def _own(self, quotas: Quotas, user: str, account: str) -> Limits:
        own = own_limits(quotas, user, account)
        if not own:
            return self._default  # most have none of their own, and it is known what follows from it
        return own if _QUEUED in own else Limits({**own, **self._default})

    @cached_property
    def _default(self) -> Limits:
        return Limits({_QUEUED: Limit(Decimal(self._rules.queue.tickets), "default")})

    def _used_in(self, windows: Mapping[str, set[Window]]) -> Mapping[str, Used]:
        """Return what each subject has used in its windows."""
        self._note(windows)
        sight = self._sight
        found = {name: sight.used[name] for name in windows if windows[name] <= {*sight.windows.get(name, ())}}
        zone, names = self._rules.quotas.zone, sorted(windows.keys() - found)
        for start in range(0, len(names), _ASKED_AT_ONCE):
            some = {name: sorted(windows[name]) for name in names[start : start + _ASKED_AT_ONCE]}
            asked = partial(sums.used_by_each, windows=some, zone=zone, now=self._sight.now)
            found.update(_read(self._connection, asked))
        return found


def _read(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Read in this transaction, or in one of its own where that is over."""
    return read(connection.engine, work) if connection.closed else work(connection)


def _groups(account: str) -> tuple[str, ...]:
    return (account.removeprefix("group:"),) if account.startswith("group:") else ()
