"""A site in virtual time whose only rules are the ones under test: sessions on devices or nodes, a queue, a clock.

What a session holds, where it runs and when it really ends is written down here, apart from the code that decides, so
that whoever is admitted can be checked against what there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from hub.admission.decide import Admitted, Queued, decide, queue, startable
from hub.admission.standing import Asked, Bounds, Standing, Waiting
from hub.admission.tickets import Ticket
from spawner.capacity.availability import Availability
from spawner.capacity.count import largest_only
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation
from tests.hub.queue_world import CATALOGUE, NOW

__all__ = ["Node", "Session", "Site"]


@dataclass(frozen=True)
class Node:
    """A node with so many cards of each kind, and thousandths of a core."""

    cards: Mapping[str, int]
    cpu_m: int = 64_000


@dataclass
class Session:
    """One that runs: until `ends_at`, of which the site knows only if `known`."""

    held: Reservation
    ends_at: float
    known: bool
    node: int = 0


@dataclass
class Site:
    """With `nodes` it is a cluster, else one machine with `devices`, each of which `replicas` sessions share."""

    devices: Mapping[str, int] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    replicas: int = 1
    bounds: dict[tuple[str, str], Bounds] = field(default_factory=dict)
    patience_s: float = 1800.0
    now: float = NOW
    fresh: bool = True
    sessions: dict[str, Session] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    granted_at: dict[str, float] = field(default_factory=dict)
    lasts: dict[str, tuple[float, bool]] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count()

    @property
    def engine(self) -> str:
        """Which of the two it is."""
        return "kubernetes" if self.nodes else "local"

    def standing(self) -> Standing:
        """Return what is known now."""
        held = tuple(session.held for session in self.sessions.values())
        ends = {name: session.ends_at if session.known else None for name, session in self.sessions.items()}
        snapshot = self._cluster() if self.nodes else self._machine()
        known = Availability(snapshot, self.fresh, datetime.fromtimestamp(self.now, UTC), held)
        return Standing(
            self.now,
            known,
            tuple(self.tickets.values()),
            ends,
            dict(self.granted_at),
            self.bounds,
            patience_s=self.patience_s,
        )

    def ask(self, wanted: Asked, *, lasts_s: float) -> Admitted | Queued:
        """Come to the door; a session that is admitted will really last so long. Raises `Refusal`."""
        name = f"{wanted.user}-{next(self._numbers)}"
        wanted = replace(wanted, spawn_id=name, server=name)
        self.lasts[name] = (lasts_s, wanted.session_s is not None)
        answer = decide(wanted, self.standing(), CATALOGUE, self.engine)  # type: ignore[arg-type]
        if isinstance(answer, Admitted):
            self._start(answer.reservation, name)
        else:
            self.tickets[name] = _ticket(wanted, name, self.now, answer.session_s)
        return answer

    def promote(self) -> list[str]:
        """Start those whose turn it is, one after the other, as the controller does; return their names."""
        promoted = []
        while first := next(startable(self.standing(), CATALOGUE, self.engine), None):  # type: ignore[arg-type]
            answer = decide(Asked.again(first, first.id), self.standing(), CATALOGUE, self.engine)  # type: ignore[arg-type]
            assert isinstance(answer, Admitted), f"whoever is planned to start now may: {answer}"
            self._start(answer.reservation, first.id)
            del self.tickets[first.id]
            promoted.append(first.id)
        return promoted

    def places(self) -> dict[str, Queued]:
        """Return where everybody stands."""
        return queue(self.standing(), CATALOGUE, self.engine)  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        """Let time go on; what has ended by then is given back."""
        self.now += seconds
        for name in [name for name, session in self.sessions.items() if session.ends_at <= self.now]:
            self.stop(name)

    def stop(self, name: str) -> None:
        """End a session."""
        del self.sessions[name]
        del self.granted_at[name]

    def _start(self, held: Reservation, name: str) -> None:
        lasts_s, known = self.lasts[name]
        node = self._node_for(held) if self.nodes else 0
        if node is None:
            assert not self.fresh, f"no node has room for {held}"
            return  # the scheduler had the last word, and said no
        self.sessions[name] = Session(replace(held, seen=True), self.now + lasts_s, known, node)
        self.granted_at[name] = self.now
        self.started[name] = self.now
        self.check()

    def check(self) -> None:
        """Nothing is held that is not there, and nothing twice."""
        if self.nodes:
            for number in range(len(self.nodes)):
                assert all(value >= 0 for value in self._left(number)[0].values()), f"node {number} has too many cards"
                assert self._left(number)[1] >= 0, f"node {number} has too much cpu"
            return
        load = Counter(uuid for session in self.sessions.values() for uuid in session.held.devices)
        assert all(number <= self.replicas for number in load.values()), load
        for session in self.sessions.values():
            held = session.held
            assert len(set(held.devices)) == len(held.devices) == held.count
            assert all(uuid.startswith(f"{held.accelerator}-") for uuid in held.devices)

    def _left(self, number: int) -> tuple[dict[str, int], int]:
        cards, cpu_m = dict(self.nodes[number].cards), self.nodes[number].cpu_m
        for session in self.sessions.values():
            if session.node == number:
                cpu_m -= session.held.cpu_m or 0
                if session.held.accelerator:
                    cards[session.held.accelerator] -= session.held.count
        return cards, cpu_m

    def _node_for(self, held: Reservation) -> int | None:
        """Return the node with the most cpu left that has it: as the scheduler spreads, and as hurts most."""
        fitting = []
        for number in range(len(self.nodes)):
            cards, cpu_m = self._left(number)
            if cpu_m >= (held.cpu_m or 0) and cards.get(held.accelerator or "", 0) >= held.count:
                fitting.append((cpu_m, number))
        return max(fitting)[1] if fitting else None

    def _cluster(self) -> Snapshot:
        kinds = sorted({kind for node in self.nodes for kind in node.cards})
        left = [self._left(number) for number in range(len(self.nodes))]
        counts = {}
        for kind in kinds:
            total = sum(node.cards.get(kind, 0) for node in self.nodes)
            free = sum(cards.get(kind, 0) for cards, _ in left)
            now = largest_only(Fit(cards[kind], cpu_m, 1 << 40) for cards, cpu_m in left if cards.get(kind, 0))
            empty = largest_only(
                Fit(node.cards[kind], node.cpu_m, 1 << 40) for node in self.nodes if kind in node.cards
            )
            counts[kind] = Count(total, free, total - free, fits_now=now, fits_empty=empty)
        return Snapshot("kubernetes", datetime.fromtimestamp(self.now, UTC), counts)

    def _machine(self) -> Snapshot:
        used: Counter[str | None] = Counter()
        for session in self.sessions.values():
            used[session.held.accelerator] += session.held.count
        states = tuple(
            DeviceState(f"{kind}-{number}", kind, self.replicas)
            for kind, many in self.devices.items()
            for number in range(many)
        )
        counts = {
            kind: Count(many * self.replicas, many * self.replicas - used[kind], used[kind])
            for kind, many in self.devices.items()
        }
        return Snapshot("local", datetime.fromtimestamp(self.now, UTC), counts, devices=states)


def _ticket(wanted: Waiting, name: str, now: float, session_s: float | None) -> Ticket:
    return Ticket(
        name,
        wanted.user,
        wanted.server,
        wanted.profile,
        account=wanted.account,
        accelerator=wanted.accelerator,
        count=wanted.count,
        cpu_m=wanted.cpu_m,
        memory=wanted.memory,
        share=wanted.share,
        session_s=session_s,
        priority=wanted.priority,
        rank=now,
        asked_at=now,
    )
