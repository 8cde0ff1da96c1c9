"""Cards as NVIDIA's library tells of them: constructed machines (see nvml_double), and the real library of this one."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pynvml
import pytest

from spawner.devices.nvml import Card, Driver, Instance, NvmlAway
from spawner.devices.reader import APPLICATION_XIDS, Reader
from tests.spawner.nvml_double import A100, MIB, FakeCard, FakeInstance, FakeNvml, a100


def only(card: FakeCard) -> Card:
    """Return how this card is seen."""
    (seen,) = Reader(FakeNvml(card)).look().cards
    return seen


def test_the_double_has_what_the_real_module_has() -> None:
    calls = {name for name in vars(Driver) if name.startswith("nvml")}
    assert {name for name in dir(FakeNvml) if name.startswith("nvml")} == calls
    assert [name for name in calls if not callable(getattr(pynvml, name, None))] == []


def test_a_plain_card() -> None:
    seen = only(FakeCard("GPU-1", minor=3, pids=(40, 12)))
    assert seen == Card("GPU-1", "Tesla T4", 3, 16 << 30, processes=(12, 40))


def test_a_partitioned_card_shows_its_instances() -> None:
    card = a100(
        "GPU-2", 1, FakeInstance("MIG-a", "1g.5gb", 7), FakeInstance("MIG-b", "3g.20gb", 2, pids=(99,)), mig=True
    )
    assert only(card).instances == (
        Instance("MIG-a", "1g.5gb", 7, 0, 4864 * MIB),
        Instance("MIG-b", "3g.20gb", 2, 0, 19968 * MIB, (99,)),
    )


@pytest.mark.parametrize("profile", ["1g.5gb", "2g.10gb", "3g.20gb", "1c.3g.20gb"])
def test_a_profile_that_is_not_in_the_name_follows_from_slices_and_memory(profile: str) -> None:
    assert only(a100("GPU-2", 1, FakeInstance("MIG-a", profile, 1, named=False))).instances[0].profile == profile


def test_instances_of_a_card_whose_mig_mode_is_off_do_not_count() -> None:
    seen = only(a100("GPU-2", 1, FakeInstance("MIG-a", "1g.5gb", 7), mig=False))
    assert (seen.mig, seen.instances) == (False, ())


def test_calls_that_a_card_does_not_support_are_survived() -> None:
    card = FakeCard("GPU-3", memory=None, mig=None, minor=None, uncorrected=None, rows=None, retired=None, action=None)
    assert only(card) == Card("GPU-3", "Tesla T4", None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"uncorrected": 2}, "memory errors that could not be corrected: 2"),
        ({"rows": (1, 1, 0, 1)}, "a broken memory row could not be replaced"),
        ({"rows": (1, 1, 1, 0)}, "a broken memory row is replaced by its next reset"),
        ({"rows": (5, 1, 0, 0)}, ""),
        ({"retired": 1}, "broken memory is taken out by its next reset"),
        ({"action": 1}, "it needs a reset"),
        ({"action": 2}, "it needs a restart of the machine"),
        ({"action": 9}, "the driver asks for a recovery (action 9)"),
        ({"fails": pynvml.NVML_ERROR_GPU_IS_LOST}, "it has fallen off the bus"),
        ({"fails": pynvml.NVML_ERROR_RESET_REQUIRED}, "it needs a reset"),
        ({"fails": pynvml.NVML_ERROR_UNKNOWN}, "the driver reports: Unknown Error"),
    ],
)
def test_a_card_that_is_not_well_says_why(change: dict[str, object], problem: str) -> None:
    assert only(replace(FakeCard("GPU-4"), **change)).problem == problem  # type: ignore[arg-type]


def test_a_card_that_is_lost_stays_known_as_long_as_the_machine_has_it() -> None:
    driver = FakeNvml(FakeCard("GPU-1"), FakeCard("GPU-2", minor=1))
    reader = Reader(driver)
    assert [card.problem for card in reader.look().cards] == ["", ""]
    driver.cards[1].lost = True
    seen = reader.look()
    assert {card.uuid: card.problem for card in seen.cards} == {
        "GPU-1": "",
        "GPU-2": "the driver cannot reach it any more",
    }
    assert seen.unreadable == ("NVIDIA card 1 cannot be read: GPU is lost",)
    driver.cards[1].lost = False
    assert [card.problem for card in reader.look().cards] == ["", ""]
    del driver.cards[1]
    assert [card.uuid for card in reader.look().cards] == ["GPU-1"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "This machine has no NVIDIA driver. libnvidia-ml.so.1 was not found"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "The NVIDIA driver is installed but not loaded. Run `modprobe nvidia`"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "The NVIDIA driver was updated while it ran. "),
        (pynvml.NVML_ERROR_NO_PERMISSION, "The hub may not use the NVIDIA driver. Its account needs"),
        (pynvml.NVML_ERROR_UNKNOWN, "The NVIDIA driver reports: Unknown Error. "),
    ],
)
def test_a_library_that_does_not_work_says_what_to_do(error: int, text: str) -> None:
    driver = FakeNvml(begins=error)
    reader = Reader(driver)
    with pytest.raises(NvmlAway) as caught:
        reader.look()
    assert str(caught.value).startswith(text)
    driver.begins = None  # and when it is mended, nobody has to restart anything
    assert reader.look().cards == ()


def test_this_machine_answers_in_a_sentence_or_with_cards() -> None:
    """The real library: here there is none, and where there is one, the cards have names and device nodes."""
    try:
        cards = Reader().look().cards
    except NvmlAway as error:
        assert "NVIDIA driver" in error.why
        assert error.advice
    else:
        assert all(card.uuid.startswith("GPU-") and card.product for card in cards)


def test_a_driver_that_hangs_holds_nobody_up_and_is_not_asked_again_meanwhile() -> None:
    driver = FakeNvml(FakeCard("GPU-1"))
    driver.hangs = threading.Event()
    reader = Reader(driver, timeout_s=0.05)
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(NvmlAway, match="does not answer"):
            reader.look()
    assert threading.active_count() == threads + 1
    driver.hangs.set()
    assert [card.uuid for card in until_seen(reader)] == ["GPU-1"]


def until_seen(reader: Reader) -> tuple[Card, ...]:
    """Return the cards as soon as the driver answers again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return reader.look().cards
        except NvmlAway:
            assert time.monotonic() < deadline


def problems(reader: Reader) -> dict[str, str]:
    """Return every card's and instance's problem."""
    cards = reader.look().cards
    return {card.uuid: card.problem for card in cards} | {
        one.uuid: one.problem for card in cards for one in card.instances
    }


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN])
def test_the_partitions_of_a_card_that_fails_stay_what_they_are(error: int) -> None:
    cut = a100("GPU-1", 0, FakeInstance("MIG-a", "1g.5gb", 7), FakeInstance("MIG-b", "1g.5gb", 8))
    reader = Reader(FakeNvml(cut))
    (before,) = reader.look().cards
    cut.fails = error
    for _ in range(2):
        (seen,) = reader.look().cards
        assert seen.problem
        assert replace(seen, problem="") == before
    cut.fails = None
    assert reader.look().cards == (before,)


def test_a_card_that_never_said_all_is_shown_with_its_problem() -> None:
    seen = only(FakeCard("GPU-1", fails=pynvml.NVML_ERROR_GPU_IS_LOST))
    assert seen == Card("GPU-1", "Tesla T4", 0, problem="it has fallen off the bus", complete=False)


def test_a_failure_that_the_driver_reports_is_remembered_and_those_of_programs_are_not() -> None:
    slice_a, slice_b = FakeInstance("MIG-a", "1g.5gb", 7), FakeInstance("MIG-b", "1g.5gb", 8)
    cut, whole = a100("GPU-1", 0, slice_a, slice_b), FakeCard("GPU-2", minor=1)
    driver = FakeNvml(cut, whole)
    reader = Reader(driver)
    assert set(problems(reader).values()) == {""}
    for number in APPLICATION_XIDS:
        driver.xid(whole, number)
    driver.xid(cut, 94, slice_a)
    wait_for(lambda: problems(reader)["MIG-a"] != "")
    assert problems(reader) == {
        "GPU-1": "",
        "MIG-a": "it reported a failure (XID 94)",
        "MIG-b": "",
        "GPU-2": "",
    }
    driver.xid(whole, 79)
    wait_for(lambda: problems(reader)["GPU-2"] != "")
    assert problems(reader)["GPU-2"] == "it reported a failure (XID 79)"
    assert {13, 31, 43, 45, 68, 109} == APPLICATION_XIDS


def test_a_card_that_tells_of_no_failures_does_not_keep_the_others_from_it() -> None:
    old, new = FakeCard("GPU-1", uncorrected=None), FakeCard("GPU-2", minor=1, product=A100)
    driver = FakeNvml(old, new)
    reader = Reader(driver)
    reader.look()
    driver.xid(new, 79)
    wait_for(lambda: problems(reader)["GPU-2"] != "")
    assert driver.registered == [new]


def wait_for(condition: object) -> None:
    """Wait until it holds; a test that waits longer has failed."""
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
