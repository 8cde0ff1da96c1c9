"""The queue as a whole, step by step against a simple model: what is there, who holds it, who asked when.

The site (`tests.hub.queue_site`) writes down what is held and when sessions really end; the rules under test only see
what they would see. After each step nothing is held twice, no limit is broken, places are 1 to n, whoever was promised
a time is started by then, and nobody waits for what is free unless it is kept for somebody in front.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.admission.decide import Admitted, startable
from hub.admission.order import keeps_place, line
from hub.admission.standing import Bounds
from spawner.refusal import Refusal
from tests.hub.queue_site import Node, Site
from tests.hub.queue_world import CATALOGUE, MINUTE, asked, limits

GROUP_SERVERS = {"group:a": 2, "group:b": 3}
OWN_SERVERS = 2
LONGEST = 25
KINDS = ("t4", "t4", "slice")


class Queue(RuleBasedStateMachine):
    """People ask, leave, change, stop; sessions end, counts grow old and young again, the controller promotes."""

    @initialize(
        cluster=st.booleans(),
        cards=st.integers(1, 3),
        replicas=st.integers(1, 2),
        known=st.booleans(),
        fair=st.booleans(),
    )
    def set_up(self, cluster: bool, cards: int, replicas: int, known: bool, fair: bool) -> None:
        nodes = (Node({"t4": cards, "slice": 1}), Node({"t4": 1})) if cluster else ()
        self.site = Site({"t4": cards, "slice": 2}, nodes, 1 if cluster else replicas, patience_s=20 * MINUTE)
        self.known = known
        self.grouped = fair
        self.number = 0
        self.promised: dict[str, float] = {}
        self.first_asked: dict[str, float] = {}

    def _asker(self, person: int) -> tuple[str, str]:
        """With groups three people share two accounts; without, everybody asks once and comes in the order of asking."""
        self.number += 1
        if not self.grouped:
            return f"u{self.number}", f"user:u{self.number}"
        user, account = f"u{person}", f"group:{'ab'[person % 2]}"
        own, shared = limits(servers=OWN_SERVERS, queued=3), limits(account, servers=GROUP_SERVERS[account])
        self.site.bounds[user, account] = Bounds(own, shared)
        return user, account

    @rule(
        person=st.integers(0, 3),
        kind=st.sampled_from(KINDS),
        count=st.integers(1, 2),
        cpu=st.sampled_from([1000, 40_000]),
        lasts=st.integers(1, LONGEST),
    )
    def ask(self, person: int, kind: str, count: int, cpu: int, lasts: int) -> None:
        user, account = self._asker(person)
        wanted = asked(user, kind, count, account=account, cpu_m=cpu, session_s=lasts * MINUTE if self.known else None)
        before = self.site.standing()
        try:
            answer = self.site.ask(wanted, lasts_s=lasts * MINUTE)
        except Refusal as refusal:
            assert refusal.code in {"quota-servers", "queue-full", "does-not-fit", "capacity-unknown"}, refusal
            return
        if isinstance(answer, Admitted) and before.availability.fresh:
            waiting = {one.id for one in startable(before, CATALOGUE, self.site.engine)}  # type: ignore[arg-type]
            after = {one.id for one in startable(self.site.standing(), CATALOGUE, self.site.engine)}  # type: ignore[arg-type]
            assert waiting <= after or self.grouped, "whose turn it was has their turn still"

    @precondition(lambda self: self.site.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.site.tickets)))
        del self.site.tickets[name]
        self.promised.pop(name, None)

    @precondition(lambda self: self.site.tickets)
    @rule(data=st.data(), count=st.integers(1, 2), kind=st.sampled_from(KINDS))
    def change(self, data: st.DataObject, count: int, kind: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.site.tickets)))
        before = self.site.tickets[name]
        share = {"t4": 1.0, "slice": 1 / 7}[kind] * count
        after = replace(before, accelerator=kind, count=count, share=share)
        kept = keeps_place(before, after)
        assert kept is (kind == before.accelerator and count <= before.count)
        self.site.tickets[name] = after if kept else replace(after, rank=self.site.now)
        self.promised.clear()  # those behind may come earlier, and later by those that move up

    @precondition(lambda self: self.site.sessions)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        self.site.stop(data.draw(st.sampled_from(sorted(self.site.sessions))))
        self.promised.clear()  # who comes earlier than planned may take what another one was planned on

    @rule(fresh=st.booleans())
    def counts_grow_old_or_young(self, fresh: bool) -> None:
        self.site.fresh = fresh
        self.promised.clear()

    @rule(minutes=st.integers(1, 15))
    def pass_time(self, minutes: int) -> None:
        for _ in range(minutes):
            self.site.pass_time(MINUTE)
            self.site.promote()

    @rule()
    def promote(self) -> None:
        order = [one.id for one in line(self.site.standing())]
        promoted = self.site.promote()
        assert promoted == [name for name in order if name in promoted], "in their order"

    @invariant()
    def nothing_is_held_twice(self) -> None:
        self.site.check()

    @invariant()
    def no_limit_is_broken(self) -> None:
        if not self.grouped:
            return
        held = [session.held for session in self.site.sessions.values()]
        of_groups = Counter(one.account for one in held)
        assert all(number <= GROUP_SERVERS[account] for account, number in of_groups.items())
        assert all(number <= OWN_SERVERS for number in Counter(one.user for one in held).values())

    @invariant()
    def places_are_one_to_n(self) -> None:
        found = self.site.places()
        assert set(found) == set(self.site.tickets)
        lines: dict[str | None, list[tuple[int, int]]] = {}
        for name, one in found.items():
            lines.setdefault(self.site.tickets[name].accelerator, []).append((one.place, one.of))
        for places in lines.values():
            assert places == [(place, len(places)) for place in range(1, len(places) + 1)]

    @invariant()
    def who_was_told_a_time_has_started_by_then(self) -> None:
        """Without groups nobody is put in front of anybody; then a firm time is kept, or beaten."""
        for name, moment in list(self.promised.items()):
            if name in self.site.tickets:
                assert self.site.now <= moment, f"{name} was told {(moment - self.site.now) / MINUTE} minutes ago"
            else:
                del self.promised[name]
        if self.grouped:
            return
        for name, one in self.site.places().items():
            estimate = one.estimate
            if estimate.at is not None and "at the earliest" not in estimate.because:
                assert estimate.at >= self.site.now
                self.promised[name] = min(self.promised.get(name, estimate.at), estimate.at)

    @invariant()
    def nothing_stays_free_that_the_first_could_have(self) -> None:
        self.site.promote()
        if not self.site.fresh:
            return
        for one in self.site.places().values():
            if one.place == 1:
                assert one.cause in {"full", "room", "limit", "own-limit", "group"}, one.why

    def teardown(self) -> None:
        """With sessions that end, and nobody new, everybody who can ever start has started."""
        if not hasattr(self, "site"):
            return
        self.site.fresh = True
        left = {name for name in self.site.tickets if self._can_ever_start(name)}
        for _ in range((len(left) + 2) * (LONGEST + 1)):
            left &= set(self.site.tickets)
            if not left:
                return
            self.site.pass_time(MINUTE)
            self.site.promote()
        places = self.site.places()
        raise AssertionError({name: places[name].why for name in left})

    def _can_ever_start(self, name: str) -> bool:
        """Whether it would start if nobody else was there."""
        one = self.site.tickets[name]
        alone = replace(self.site, sessions={}, tickets={name: one}, granted_at={})
        return bool(startable(alone.standing(), CATALOGUE, self.site.engine))  # type: ignore[arg-type]


TestQueue = pytest.mark.timeout(300)(Queue.TestCase)
TestQueue.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
