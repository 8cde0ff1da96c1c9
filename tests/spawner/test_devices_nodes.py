"""Device nodes and the environment: what leads to a device, and what a session is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from spawner.devices.environment import device_environment
from spawner.devices.hand_out import hand_out
from spawner.devices.nodes import Node, NodesMissing, card_majors, nodes_of
from spawner.devices.nvml import NvmlAway
from spawner.devices.reader import Reader
from tests.spawner.nvml_double import FakeCard, FakeInstance, FakeNvml, a100

DEVICES = """Character devices:
  1 mem
  5 /dev/tty
195 nvidia
195 nvidia-modeset
195 nvidiactl
234 nvidia-caps-imex-channels
235 nvidia-nvswitch
237 nvidia-uvm
236 nvidia-caps

Block devices:
  7 loop
238 nvidia-is-no-disk
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc as in the MIG User Guide, "Device Nodes and Capabilities" (numbers constructed)."""
    (tmp_path / "devices").write_text(DEVICES)
    group = tmp_path / "driver/nvidia/capabilities/gpu1/mig/gi7"
    (group / "ci0").mkdir(parents=True)
    (group / "access").write_text("DeviceFileMinor: 66\nDeviceFileMode: 256\nDeviceFileModify: 1\n")
    (group / "ci0" / "access").write_text("DeviceFileMinor: 67\nDeviceFileMode: 256\nDeviceFileModify: 1\n")
    return tmp_path


CARDS = (FakeCard("GPU-0", minor=0), a100("GPU-1", 1, FakeInstance("MIG-a", "1g.5gb", 7)))
READER = Reader(FakeNvml(*CARDS))
COMMON = [
    Node(195, 254, "/dev/nvidia-modeset", optional=True),
    Node(195, 255, "/dev/nvidiactl"),
    Node(237, 0, "/dev/nvidia-uvm"),
    Node(237, 1, "/dev/nvidia-uvm-tools", optional=True),
]


def test_everything_of_the_driver_is_closed_also_where_it_is_not_loaded(proc: Path) -> None:
    assert card_majors(proc) == {195, 234, 235, 236, 237}
    (proc / "devices").write_text("Character devices:\n  1 mem\n\nBlock devices:\n  7 loop\n")
    assert card_majors(proc) == {195}


def test_a_card_is_reached_through_its_own_node_and_the_common_ones(proc: Path) -> None:
    found = nodes_of(["GPU-0"], READER.look(), proc)
    assert list(found) == sorted([*COMMON, Node(195, 0, "/dev/nvidia0")])


def test_a_partition_is_reached_through_its_card_and_its_two_capabilities(proc: Path) -> None:
    found = nodes_of(["MIG-a"], READER.look(), proc)
    own = [
        Node(195, 1, "/dev/nvidia1"),
        Node(236, 66, "/dev/nvidia-caps/nvidia-cap66"),
        Node(236, 67, "/dev/nvidia-caps/nvidia-cap67"),
    ]
    assert list(found) == sorted([*COMMON, *own])


def test_a_session_without_devices_gets_no_node_and_nobody_asks_the_driver(proc: Path) -> None:
    broken = Reader(FakeNvml(begins=12))
    for nothing in ((), ("SIMULATED-toy-0",)):
        given = hand_out(nothing, broken, proc)
        assert given.nodes == ()
        assert given.rule.numbers() == frozenset()
        assert given.rule.majors == {195, 234, 235, 236, 237}
    with pytest.raises(NvmlAway):
        hand_out(("GPU-0",), broken, proc)


def test_the_rule_opens_what_was_given_and_no_more(proc: Path) -> None:
    given = hand_out(("GPU-0",), READER, proc)
    assert given.rule.numbers() == {(195, 0), (195, 254), (195, 255), (237, 0), (237, 1)}


@pytest.mark.parametrize(
    ("uuid", "text"),
    [
        ("GPU-9", "the device GPU-9 is not in this machine any more"),
        ("GPU-2", "the device GPU-2 has failed since it was counted: memory errors"),
        ("GPU-3", "the driver does not say which /dev/nvidiaN the card GPU-3 is"),
        ("MIG-b", "gi9/access cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_handed_out_says_why(proc: Path, uuid: str, text: str) -> None:
    reader = Reader(
        FakeNvml(
            FakeCard("GPU-2", uncorrected=1),
            FakeCard("GPU-3", minor=None),
            a100("GPU-1", 1, FakeInstance("MIG-b", "1g.5gb", 9)),
        )
    )
    with pytest.raises(NodesMissing, match=text):
        hand_out((uuid,), reader, proc)


def test_a_driver_without_the_module_for_cuda_says_how_it_is_loaded(proc: Path) -> None:
    (proc / "devices").write_text("Character devices:\n195 nvidia\n\nBlock devices:\n")
    with pytest.raises(NodesMissing, match="nvidia-modprobe -u -c 0"):
        hand_out(("GPU-0",), READER, proc)


def test_capabilities_that_are_files_of_proc_only_are_an_error(proc: Path) -> None:
    (proc / "devices").write_text(DEVICES.replace("236 nvidia-caps", "236 nothing"))
    with pytest.raises(NodesMissing, match="without nvidia-caps"):
        hand_out(("MIG-a",), READER, proc)


# --- the environment ---------------------------------------------------------------------------------------------

NO_OTHERS = {"HIP_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1", "ONEAPI_DEVICE_SELECTOR": "*:cpu"}


def test_a_session_without_accelerator_sees_none() -> None:
    assert device_environment(None, ()) == {
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": "void",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **NO_OTHERS,
    }


def test_a_session_is_told_its_devices_by_uuid() -> None:
    assert device_environment("a100", ("GPU-1", "GPU-2")) == {
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "ARMILLARY_ACCELERATOR": "a100",
        "ARMILLARY_DEVICES": "GPU-1,GPU-2",
        **NO_OTHERS,
    }


def test_imagined_devices_are_no_devices_to_cuda_and_are_labelled() -> None:
    told = device_environment("toy", ("SIMULATED-toy-0",))
    assert (told["CUDA_VISIBLE_DEVICES"], told["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert (told["ARMILLARY_DEVICES"], told["ARMILLARY_ACCELERATOR_SIMULATED"]) == ("SIMULATED-toy-0", "1")
