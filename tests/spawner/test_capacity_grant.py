"""Who gets what: the words of every no, and that no sequence of grants ever gives more than there is."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from profiles.loader import loads
from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.capacity.cluster import ClusterState
from spawner.capacity.grant import grant
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.capacity.slim import slim_node, slim_pod
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.spawner.capacity_objects import MIG, NAMESPACE, catalogue, mine, node, pod

GIB = 1024**3
CATALOGUE = loads("""
accelerators:
  slice: {title: A100 slice 1/7, kubernetes: {resource: nvidia.com/mig-1g.5gb}, simulated: {count: 4}}
images: {lab: {title: Lab, reference: "example.org/lab:1", local: {}}}
profiles:
  gpu: {title: GPU, options: {image: lab, accelerator: [slice, none], count: [1, 2, 3, 8]}}
  elsewhere:
    title: Elsewhere
    options: {image: lab, accelerator: [slice, none]}
    kubespawner_override: {tolerations: [{key: far, operator: Exists}]}
  chosen:
    title: Chosen
    options:
      image: lab
      accelerator: [slice, none]
      choices:
        where:
          title: Where
          choices: {far: {title: Far, kubespawner_override: {tolerations: [{key: far, operator: Exists}]}}}
""")
ROOM = (Fit(4, 14_000, 90 * GIB),)


def held(spawn_id: str, user: str = "ben", count: int = 1, *, seen: bool = True, **more: Any) -> Reservation:
    return Reservation(spawn_id, user, "", "gpu", "slice", count, seen=seen, **more)


def wish(count: int = 1, profile: str = "gpu", **more: Any) -> Reservation:
    values = {"id": "new", "user": "ann", "server": "", "accelerator": "slice", "count": count}
    return Reservation(**{**values, "profile": profile, **more})


def known(count: Count | None, *reservations: Reservation, fresh: bool = True, key: str = "slice") -> Availability:
    counts = {} if count is None else {key: count}
    snapshot = Snapshot("kubernetes", datetime.now(UTC), counts)
    return Availability(snapshot, fresh, None, reservations)


def refused(availability: Availability, wanted: Reservation, engine: Any = "kubernetes", **more: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        grant(availability, wanted, CATALOGUE, engine, **more)
    return caught.value


ANN = held("a", "ann")


@pytest.mark.parametrize(
    ("count", "reservations", "asked", "code", "text"),
    [
        pytest.param(
            Count(7, 0, 1, 6), [ANN], 1, "full",
            "All 7 A100 slice 1/7 are in use: 6 by others, 1 by you. Try again later, or choose another accelerator.",
            id="all in use",
        ),
        pytest.param(
            Count(7, 0, 0, 7), [], 1, "full",
            "All 7 A100 slice 1/7 are in use: 7 by others. Try again later, or choose another accelerator.",
            id="all others'",
        ),
        pytest.param(
            Count(1, 0, 1, 0), [ANN], 1, "full",
            "The only A100 slice 1/7 is in use: 1 by you. Try again later, or choose another accelerator.",
            id="the only one",
        ),
        pytest.param(
            Count(7, 0, 1, 4, 2, (("cordoned", 2),)), [ANN], 1, "full",
            "None of the 7 A100 slice 1/7 is free: in use 4 by others, 1 by you; 2 cannot be used now: cordoned. "
            "Try again later, or choose another accelerator.",
            id="some held back",
        ),
        pytest.param(
            Count(7, 0, 0, 0, 7, (("cordoned", 5), ("unhealthy", 2))), [], 1, "full",
            "None of the 7 A100 slice 1/7 can be used now: 5 cordoned, 2 unhealthy. "
            "Try again later, or choose another accelerator.",
            id="all held back",
        ),
        pytest.param(
            Count(1, 0, 0, 0, 1, (("being partitioned", 1),)), [], 1, "full",
            "The only A100 slice 1/7 cannot be used now: being partitioned. Try again later, or choose another accelerator.",
            id="the only one is held back",
        ),
        pytest.param(
            Count(7, 1, 0, 6, 0, (), ROOM, ROOM), [], 2, "full",
            "Only 1 of 7 A100 slice 1/7 is free, you asked for 2: 6 by others in use. "
            "Ask for fewer, try again later, or choose another accelerator.",
            id="fewer than asked for",
        ),
        pytest.param(
            Count(7, 1, 0, 6, 0, (), ROOM, ROOM), [held("b", seen=False)], 1, "full",
            "All 7 A100 slice 1/7 are in use: 7 by others. Try again later, or choose another accelerator.",
            id="the last one was granted a moment ago",
        ),
        pytest.param(
            Count(), [], 1, "none-there",
            "No node of the cluster has A100 slice 1/7 at the moment. Try again later, or choose another accelerator.",
            id="none at all",
        ),
        pytest.param(
            Count(16, 8, 0, 8, 0, (), ROOM, ROOM), [], 8, "does-not-fit",
            "You asked for 8 A100 slice 1/7, but a session gets at most 4: no node has more. Ask for fewer.",
            id="more than any node has",
        ),
        pytest.param(
            Count(8, 2, 0, 6, 0, (), (Fit(1, 14_000, 90 * GIB),), ROOM), [], 2, "no-room-now",
            "2 A100 slice 1/7 are free, but on one node at most 1 at the moment, and a session runs on one. "
            "Ask for fewer, or try again later.",
            id="free ones on different nodes",
        ),
    ],
)  # fmt: skip
def test_what_is_said_when_there_are_not_enough(
    count: Count, reservations: list[Reservation], asked: int, code: str, text: str
) -> None:
    refusal = refused(known(count, *reservations), wish(asked))
    assert (refusal.code, refusal.status_code, refusal.text) == (code, 409, text)


@pytest.mark.parametrize(
    ("now", "empty", "cpu_m", "memory", "code", "text"),
    [
        pytest.param(
            ROOM, ROOM, 20_000, 64 * GIB, "does-not-fit",
            "20 CPU cores and 64 GiB do not fit: at most 14 CPU cores and 90 GiB beside one A100 slice 1/7 on any node. "
            "Ask for less.",
            id="never",
        ),
        pytest.param(
            ROOM, ROOM, 500, 128 * GIB, "does-not-fit",
            "0.5 CPU cores and 128 GiB do not fit: at most 14 CPU cores and 90 GiB beside one A100 slice 1/7 on any node. "
            "Ask for less.",
            id="never, for want of memory",
        ),
        pytest.param(
            ROOM, (Fit(4, 14_000, 90 * GIB), Fit(1, 8000, 200 * GIB)), 20_000, None, "does-not-fit",
            "20 CPU cores do not fit: at most 14 CPU cores and 90 GiB, or 8 CPU cores and 200 GiB, beside one A100 slice "
            "1/7 on any node. Ask for less.",
            id="two kinds of node",
        ),
        pytest.param(
            (Fit(1, 1000, GIB),), ROOM, 2000, GIB, "no-room-now",
            "No node has 2 CPU cores and 1 GiB free beside one A100 slice 1/7 at the moment: at most 1 CPU core and 1 GiB. "
            "Ask for less, or try again later.",
            id="not now",
        ),
    ],
)  # fmt: skip
def test_what_is_said_when_cpu_or_memory_does_not_fit_beside_it(
    now: tuple[Fit, ...], empty: tuple[Fit, ...], cpu_m: int, memory: int | None, code: str, text: str
) -> None:
    refusal = refused(known(Count(8, 4, 0, 4, 0, (), now, empty)), wish(cpu_m=cpu_m, memory=memory))
    assert (refusal.code, refusal.status_code, refusal.text) == (code, 409, text)


def test_a_session_without_accelerator_that_is_larger_than_any_node() -> None:
    count = Count(fits_now=(Fit(0, 4000, 8 * GIB),), fits_empty=(Fit(0, 32_000, 64 * GIB),))
    without = wish(0, accelerator=None, cpu_m=48_000, memory=GIB)
    refusal = refused(known(count, key="none"), without)
    assert (refusal.code, refusal.text) == (
        "does-not-fit",
        "48 CPU cores and 1 GiB do not fit: at most 32 CPU cores and 64 GiB on any node. Ask for less.",
    )
    refusal = refused(known(count, key="none"), replace(without, cpu_m=8000))
    assert (refusal.code, refusal.text) == (
        "no-room-now",
        "No node has 8 CPU cores and 1 GiB free at the moment: at most 4 CPU cores and 8 GiB. "
        "Ask for less, or try again later.",
    )
    smaller = replace(without, cpu_m=4000)
    assert grant(known(count, key="none"), smaller, CATALOGUE, "kubernetes") == smaller


FULL = Count(7, 0, 0, 7, 0, (), (), ROOM)


@pytest.mark.parametrize(
    ("availability", "more"),
    [
        pytest.param(known(FULL, fresh=False), {}, id="stale"),
        pytest.param(known(None), {}, id="never counted"),
        pytest.param(Availability(), {}, id="nothing known"),
        pytest.param(known(Count(unknown="half a pool")), {}, id="cannot be counted"),
        pytest.param(known(FULL), {"nodes_may_appear": True}, id="full, but nodes may appear"),
        pytest.param(known(Count()), {"nodes_may_appear": True}, id="none, but nodes may appear"),
    ],
)
def test_where_only_the_scheduler_knows_it_is_asked(availability: Availability, more: dict[str, bool]) -> None:
    assert grant(availability, wish(), CATALOGUE, "kubernetes", **more) == wish()


def test_where_nodes_may_appear_none_is_larger_than_those_that_are_there() -> None:
    assert refused(known(FULL), wish(8), nodes_may_appear=True).code == "does-not-fit"


@pytest.mark.parametrize("profile", ["elsewhere", "chosen"])
def test_a_profile_that_chooses_nodes_itself_is_judged_by_the_scheduler(profile: str) -> None:
    none = Count(fits_empty=(Fit(0, 1000, GIB),))
    far = wish(0, profile, accelerator=None, cpu_m=64_000)
    assert grant(known(none, key="none"), far, CATALOGUE, "kubernetes") == far
    tainted = Count(7, 0, 0, 0, 7, (("tainted (far)", 7),))
    assert grant(known(tainted), wish(profile=profile), CATALOGUE, "kubernetes") == wish(profile=profile)
    assert refused(known(Count(7, 0, 0, 7)), wish(profile=profile)).code == "full", "nobody can have what is in use"


def test_room_that_was_granted_a_moment_ago_is_gone_where_it_can_only_be_there() -> None:
    one_node = Count(7, 3, 0, 4, 0, (), (Fit(3, 10_000, 90 * GIB),), (Fit(7, 14_000, 90 * GIB),))
    unseen = [held("b", cpu_m=4000, memory=GIB, seen=False), held("c", cpu_m=4000, memory=GIB, seen=False)]
    small, large = wish(cpu_m=2000), wish(cpu_m=4000)
    assert grant(known(one_node, *unseen), small, CATALOGUE, "kubernetes") == small
    assert refused(known(one_node, *unseen), large).code == "no-room-now"
    two_nodes = replace(one_node, free=6)
    assert grant(known(two_nodes, *unseen), large, CATALOGUE, "kubernetes") == large


def test_the_wanted_one_does_not_stand_in_its_own_way() -> None:
    last = Count(7, 1, 0, 6, 0, (), ROOM, ROOM)
    assert grant(known(last, replace(wish(), seen=False)), wish(), CATALOGUE, "kubernetes") == wish()


def test_nobody_asks_for_none_of_an_accelerator() -> None:
    with pytest.raises(ValueError, match="0 slice"):
        grant(known(FULL), wish(0), CATALOGUE, "kubernetes")


# --- this machine --------------------------------------------------------------------------------------------------


def machine(*devices: DeviceState, held: tuple[Reservation, ...] = (), fresh: bool = True) -> Availability:
    count = Count(total=len(devices), free=len(devices))
    return Availability(Snapshot("local", datetime.now(UTC), {"slice": count}, devices=devices), fresh, None, held)


def card(number: int, replicas: int = 1, problem: str = "", accelerator: str = "slice") -> DeviceState:
    return DeviceState(f"GPU-{number}", accelerator, replicas, problem)


def test_devices_are_handed_out_in_order_each_once() -> None:
    cards = (card(0), card(1), card(2))
    assert grant(machine(*cards), wish(2), CATALOGUE, "local").devices == ("GPU-0", "GPU-1")
    taken = held("b", devices=("GPU-0",), seen=False)
    assert grant(machine(*cards, held=(taken,)), wish(2), CATALOGUE, "local").devices == ("GPU-1", "GPU-2")


def test_a_shared_device_is_handed_out_so_often_and_the_least_used_first() -> None:
    cards = (card(0, 2), card(1, 2))
    first = held("b", devices=("GPU-0",))
    assert grant(machine(*cards, held=(first,)), wish(), CATALOGUE, "local").devices == ("GPU-1",)
    three = (first, held("c", devices=("GPU-1",)), held("d", devices=("GPU-1",)))
    assert grant(machine(*cards, held=three), wish(), CATALOGUE, "local").devices == ("GPU-0",)
    refusal = refused(machine(*cards, held=three), wish(2), "local")
    assert refusal.code == "full", "one session never has the same device twice"


@pytest.mark.parametrize(
    ("availability", "asked", "code", "text"),
    [
        pytest.param(
            machine(card(0), card(1), held=(held("b", "ann", devices=("GPU-0",)), held("c", devices=("GPU-1",)))), 1, "full",
            "All 2 A100 slice 1/7 (simulated) are in use: 1 by others, 1 by you. Try again later, or choose another accelerator.",
            id="in use",
        ),
        pytest.param(
            machine(card(0), card(1, problem="ECC errors"), held=(held("c", devices=("GPU-0",)),)), 1, "full",
            "None of the 2 A100 slice 1/7 (simulated) is free: in use 1 by others; 1 cannot be used now: ECC errors. "
            "Try again later, or choose another accelerator.",
            id="one is broken",
        ),
        pytest.param(
            machine(card(0, accelerator="else")), 1, "none-there",
            "This machine has no A100 slice 1/7 (simulated) at the moment. Choose another accelerator, or tell your administrators.",
            id="none",
        ),
        pytest.param(
            machine(card(0)), 2, "does-not-fit",
            "You asked for 2 A100 slice 1/7 (simulated), but this machine has 1. Ask for fewer.",
            id="more than there are",
        ),
        pytest.param(
            machine(card(0, 2), card(1, 2), held=(held("b", devices=("GPU-0",)), held("c", devices=("GPU-0",)))), 2, "full",
            "2 of 4 A100 slice 1/7 (simulated) are free, but as shares of one device, and a session gets one share of each: "
            "you asked for 2. Ask for fewer, try again later, or choose another accelerator.",
            id="shares of one device",
        ),
        pytest.param(
            machine(card(0, 2), card(1, 2), held=(held("b", devices=("GPU-0",)), held("c", devices=("GPU-0",)),
                                                  held("d", "ann", devices=("GPU-1",)))), 2, "full",
            "Only 1 of 4 A100 slice 1/7 (simulated) is free, you asked for 2: 2 by others, 1 by you in use. "
            "Ask for fewer, try again later, or choose another accelerator.",
            id="one share",
        ),
    ],
)  # fmt: skip
def test_what_is_said_on_one_machine(availability: Availability, asked: int, code: str, text: str) -> None:
    refusal = refused(availability, wish(asked), "local")
    assert (refusal.code, refusal.status_code, refusal.text) == (code, 409, text)


@pytest.mark.parametrize(
    "availability",
    [Availability(), machine(card(0), fresh=False), known(None), known(Count(unknown="no NVIDIA library"))],
    ids=["never counted", "stale", "not counted", "unknown"],
)
def test_without_fresh_counts_no_device_of_this_machine_is_handed_out(availability: Availability) -> None:
    refusal = refused(availability, wish(), "local")
    assert (refusal.code, refusal.status_code) == ("capacity-unknown", 503)
    assert refusal.text.startswith("It is not known which A100 slice 1/7 (simulated) are free (")


def test_a_session_without_accelerator_needs_no_counts_on_one_machine() -> None:
    without = wish(0, accelerator=None, cpu_m=1000)
    assert grant(Availability(), without, CATALOGUE, "local") == without


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from(["take", "give"]), st.integers(1, 3)), max_size=40),
)
@settings(deadline=None)
def test_on_one_machine_no_sequence_gives_a_device_more_often_than_it_may(
    cards: list[tuple[int, bool]], steps: list[tuple[str, int]]
) -> None:
    devices = tuple(card(number, replicas, "broken" if bad else "") for number, (replicas, bad) in enumerate(cards))
    holding: list[Reservation] = []
    for step, (what, count) in enumerate(steps):
        if what == "give":
            holding = holding[1:]
            continue
        availability = machine(*devices, held=tuple(holding))
        before = copy.deepcopy(availability)
        try:
            given_out = grant(availability, wish(count, id=str(step)), CATALOGUE, "local")
        except Refusal:
            load = Counter(uuid for one in holding for uuid in one.devices)
            assert sum(not one.problem and load[one.uuid] < one.replicas for one in devices) < count
        else:
            assert len(set(given_out.devices)) == count
            holding.append(given_out)
        assert availability == before
        load = Counter(uuid for one in holding for uuid in one.devices)
        assert all(load[one.uuid] <= (0 if one.problem else one.replicas) for one in devices)


class Storm(RuleBasedStateMachine):
    """Starts are granted, their pods come and go when they like, others take cards beside us: what is granted and what
    others use is never more than there is.
    """

    catalogue: Catalogue = catalogue()

    def __init__(self) -> None:
        super().__init__()
        self.state = ClusterState(self.catalogue, NAMESPACE)
        for name in ("n1", "n2"):
            self.state.put_node(slim_node(node(name, {MIG: "3"})))
        self.held: dict[str, Reservation] = {}
        self.bound: set[str] = set()
        self.strangers = 0
        self.serial = 0

    def availability(self) -> Availability:
        snapshot = Snapshot("kubernetes", datetime.now(UTC), self.state.counts())
        return Availability(snapshot, True, None, tuple(self.held.values()))

    @rule(count=st.integers(1, 3), cpu_m=st.sampled_from([None, 1000]))
    def ask(self, count: int, cpu_m: int | None) -> None:
        self.serial += 1
        wanted = Reservation(str(self.serial), "ann", "", "gpu", "slice", count, cpu_m)
        try:
            self.held[wanted.id] = grant(self.availability(), wanted, self.catalogue, "kubernetes")
        except Refusal as refusal:
            assert refusal.code in ("full", "no-room-now", "does-not-fit")

    @precondition(lambda self: self.held.keys() - self.bound)
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        """The scheduler places a pod where it fits, if it fits anywhere; only then is it counted, and seen."""
        spawn_id = data.draw(st.sampled_from(sorted(self.held.keys() - self.bound)))
        wanted = self.held[spawn_id].count
        for name in ("n1", "n2"):
            usage = self.state._usage.get(name)
            if 3 - (usage.pieces.get(MIG, 0) if usage else 0) >= wanted:
                self.state.put_pod(slim_pod(mine(f"p{spawn_id}", name, {MIG: str(wanted)}, spawn_id)))
                self.bound.add(spawn_id)
                break
        for seen in self.state.seen():
            self.held[seen] = replace(self.held[seen], seen=True)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        spawn_id = data.draw(st.sampled_from(sorted(self.held)))
        self.state.forget_pod(f"{NAMESPACE}/p{spawn_id}")
        del self.held[spawn_id]
        self.bound.discard(spawn_id)

    @rule()
    def stranger(self) -> None:
        """Somebody else's pod, which asks nobody, takes a card that nobody was promised."""
        if self.availability().free("slice").free:
            self.strangers += 1
            free_on = max(("n1", "n2"), key=lambda name: -getattr(self.state._usage.get(name), "pods", 0))
            usage = self.state._usage.get(free_on)
            if 3 - (usage.pieces.get(MIG, 0) if usage else 0) > 0:
                self.state.put_pod(slim_pod(pod(f"x{self.strangers}", free_on, {MIG: "1"})))

    @invariant()
    def never_more_than_there_is(self) -> None:
        count = self.state.counts()["slice"]
        promised = sum(held.count for held in self.held.values())
        assert count.used_by_others + promised <= 6


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
