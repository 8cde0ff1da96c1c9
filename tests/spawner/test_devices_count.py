"""Which devices are which accelerators, and how many are free: constructed machines, pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.capacity.grant import grant
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot, from_json, to_json
from spawner.devices.count import FOREIGN, STRAY, Room, snapshot
from spawner.devices.inventory import busy, inventory, looks_at_cards, unmatched
from spawner.devices.nvml import Seen
from spawner.devices.reader import Reader
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.spawner.nvml_double import A100, T4, FakeCard, FakeInstance, FakeNvml, a100

NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)
GIB = 1 << 30
ROOM = Room(16_000, 64 * GIB)


def catalogue(**accelerators: Any) -> Catalogue:
    offered = accelerators or {
        "slice": {"title": "A100 1g", "local": {"product": A100, "mig": "1g.5gb"}},
        "a100": {"title": "A100", "local": {"product": [A100, "NVIDIA A100-PCIE-40GB"]}},
        "t4": {"title": "T4", "local": {"product": T4, "replicas": 3}},
        "toy": {"title": "Toy", "simulated": {"count": 2}},
        "far": {"title": "Far", "kubernetes": {"resource": "nvidia.com/gpu"}},
    }
    return Catalogue.model_validate({"accelerators": offered, "profiles": {"cpu": {"title": "CPU"}}})


def machine(*cards: FakeCard) -> Seen:
    """Return what is seen of a machine with these cards."""
    return Reader(FakeNvml(*cards)).look()


ALL = machine(
    a100("GPU-cut", 0, FakeInstance("MIG-a", "1g.5gb", 7), FakeInstance("MIG-b", "3g.20gb", 2, pids=(9,))),
    a100("GPU-whole", 1, mig=False),
    FakeCard("GPU-t4", minor=2, pids=(7,)),
    FakeCard("GPU-other", "NVIDIA H200", 3),
)


def held(spawn_id: str, accelerator: str, *devices: str, user: str = "ann", **more: Any) -> Reservation:
    return Reservation(spawn_id, user, "", "cpu", accelerator, len(devices), devices=devices, **more)


def test_devices_are_what_the_catalogue_calls_them_and_others_are_left_out() -> None:
    assert inventory(catalogue(), ALL) == (
        DeviceState("MIG-a", "slice"),
        DeviceState("GPU-whole", "a100"),
        DeviceState("GPU-t4", "t4", replicas=3),
        DeviceState("SIMULATED-toy-0", "toy", simulated=True),
        DeviceState("SIMULATED-toy-1", "toy", simulated=True),
    )


def test_what_is_left_out_is_told_with_what_would_be_written_for_it() -> None:
    empty = machine(a100("GPU-bare", 0), FakeCard("GPU-gone", lost=True))
    assert unmatched(catalogue(), ALL) == (
        f"MIG-b is not handed out: no accelerator of the catalogue has `local: {{product: {A100}, mig: 3g.20gb}}`",
        "GPU-other is not handed out: no accelerator of the catalogue has `local: {product: NVIDIA H200}`",
    )
    assert unmatched(catalogue(), empty) == (
        f"GPU-bare ({A100}) is in MIG mode but has no instances: nothing of it can be handed out",
        "NVIDIA card 1 cannot be read: GPU is lost",
    )


def test_a_name_is_matched_whole() -> None:
    near = catalogue(
        t4={"title": "T4", "local": {"product": "Tesla T4G"}}, a={"title": "A", "local": {"product": "A100"}}
    )
    assert inventory(near, ALL) == ()


def test_a_sick_card_takes_all_of_its_instances_along() -> None:
    card = a100("GPU-cut", 0, FakeInstance("MIG-a", "1g.5gb", 7))
    card.uncorrected = 1
    (state,) = inventory(catalogue(slice={"title": "S", "local": {"product": A100, "mig": "1g.5gb"}}), machine(card))
    assert state.problem == "memory errors that could not be corrected: 1"


def test_where_the_driver_is_away_imagined_devices_are_still_there() -> None:
    assert [state.uuid for state in inventory(catalogue(), None)] == ["SIMULATED-toy-0", "SIMULATED-toy-1"]


def test_the_driver_is_asked_only_where_the_catalogue_names_real_devices() -> None:
    assert looks_at_cards(catalogue())
    assert not looks_at_cards(catalogue(toy={"title": "Toy", "simulated": {"count": 1}}))


def counted(*reservations: Reservation, seen: Seen = ALL, **more: Any) -> Snapshot:
    offered = catalogue()
    return snapshot(offered, inventory(offered, seen), reservations, ROOM, NOW, **more)


def test_counts_of_an_idle_machine() -> None:
    made = counted()
    whole = Count(total=1, free=1, fits_now=(Fit(1, 16_000, 64 * GIB),), fits_empty=(Fit(1, 16_000, 64 * GIB),))
    assert made.accelerators["a100"] == made.accelerators["slice"] == whole
    assert (made.accelerators["t4"].total, made.accelerators["t4"].fits_now[0].count) == (3, 1)
    assert made.accelerators["toy"].simulated
    assert made.accelerators["none"].fits_now == (Fit(0, 16_000, 64 * GIB),)
    assert "far" not in made.accelerators
    assert from_json(to_json(made)) == made


def test_what_is_held_is_taken_off_with_its_cpu_and_memory() -> None:
    made = counted(held("1", "t4", "GPU-t4", cpu_m=2000, memory=8 * GIB), held("2", "a100", "GPU-whole", cpu_m=1000))
    assert made.accelerators["t4"] == Count(
        total=3,
        free=2,
        used_by_us=1,
        fits_now=(Fit(1, 13_000, 56 * GIB),),
        fits_empty=(Fit(1, 16_000, 64 * GIB),),
    )
    assert made.accelerators["a100"].fits_now == ()
    assert (made.accelerators["a100"].free, made.accelerators["a100"].used_by_us) == (0, 1)
    assert made.accelerators["none"].fits_now == (Fit(0, 13_000, 56 * GIB),)


def test_a_card_with_memory_errors_is_held_back_with_the_reason() -> None:
    sick = machine(FakeCard("GPU-1", uncorrected=4), FakeCard("GPU-2", minor=1))
    assert counted(seen=sick).accelerators["t4"] == Count(
        total=6,
        free=3,
        held_back=3,
        held_because=(("memory errors that could not be corrected: 4", 3),),
        fits_now=(Fit(1, 16_000, 64 * GIB),),
        fits_empty=(Fit(2, 16_000, 64 * GIB),),
    )


def test_a_card_on_which_a_strangers_program_runs_is_used_by_others() -> None:
    made = counted(busy=busy(ALL))
    assert (made.accelerators["t4"].used_by_others, made.accelerators["t4"].free) == (3, 0)
    assert {state.uuid: state.problem for state in made.devices if state.problem} == {"GPU-t4": FOREIGN}
    ours = counted(held("1", "t4", "GPU-t4"), busy=busy(ALL))
    assert (ours.accelerators["t4"].used_by_us, ours.accelerators["t4"].free) == (1, 2)


def test_a_device_of_a_session_that_lost_its_reservation_is_not_free() -> None:
    made = counted(stray={"GPU-whole"})
    assert (made.accelerators["a100"].used_by_us, made.accelerators["a100"].free) == (1, 0)
    assert {state.uuid: state.problem for state in made.devices if state.problem} == {"GPU-whole": STRAY}


def test_without_the_driver_real_ones_are_unknown_and_imagined_ones_are_counted() -> None:
    made = counted(seen=Seen(), unknown="this machine has no NVIDIA driver")
    assert made.accelerators["t4"] == Count(unknown="this machine has no NVIDIA driver")
    assert made.accelerators["toy"].free == 2


# --- what the desk makes of it -----------------------------------------------------------------------------------


def granted(made: Snapshot, wanted: str, *already: Reservation, count: int = 1) -> tuple[str, ...]:
    known = Availability(made, fresh=True, as_of=NOW, reservations=already)
    return grant(known, Reservation("new", "ben", "", "cpu", wanted, count), catalogue(), "local").devices


def test_a_device_is_given_to_one_and_a_shared_one_to_as_many_as_the_catalogue_says() -> None:
    already: list[Reservation] = []
    for number in range(3):
        assert granted(counted(), "t4", *already) == ("GPU-t4",)
        already.append(held(str(number), "t4", "GPU-t4"))
    with pytest.raises(Refusal) as caught:
        granted(counted(*already), "t4", *already)
    assert caught.value.code == "full"
    assert granted(counted(), "a100") == ("GPU-whole",)
    with pytest.raises(Refusal, match="in use"):
        granted(counted(), "a100", held("1", "a100", "GPU-whole"))


def test_what_has_a_problem_is_not_given_away() -> None:
    sick = machine(FakeCard("GPU-1", uncorrected=4), FakeCard("GPU-2", minor=1))
    for _ in range(3):
        assert granted(counted(seen=sick), "t4") == ("GPU-2",)
    for made in (counted(stray={"GPU-whole"}), counted(busy={"GPU-whole"})):
        with pytest.raises(Refusal) as caught:
            granted(made, "a100")
        assert caught.value.code == "full"
    with pytest.raises(Refusal, match="no NVIDIA driver") as caught:
        granted(counted(seen=Seen(), unknown="this machine has no NVIDIA driver"), "t4")
    assert caught.value.code == "capacity-unknown"


UUIDS = ("MIG-a", "GPU-whole", "GPU-t4", "SIMULATED-toy-0", "SIMULATED-toy-1")
OWNERS = dict(zip(UUIDS, ("slice", "a100", "t4", "toy", "toy"), strict=True))


@given(
    uses=st.lists(st.sampled_from(UUIDS), max_size=12),
    busy_ones=st.sets(st.sampled_from(UUIDS)),
    stray=st.sets(st.sampled_from(UUIDS)),
)
def test_the_parts_always_make_the_total(uses: list[str], busy_ones: set[str], stray: set[str]) -> None:
    reservations = [held(str(number), OWNERS[uuid], uuid) for number, uuid in enumerate(uses)]
    made = counted(*reservations, busy=busy_ones, stray=stray)
    for key, count in made.accelerators.items():
        assert count.total == count.free + count.used_by_us + count.used_by_others + count.held_back, key
        assert count.held_back == sum(number for _, number in count.held_because)
        assert bool(count.free) == bool(count.fits_now) or key == "none"
