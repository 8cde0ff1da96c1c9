"""The check of a machine's own cards: what it takes for right and wrong, and that it runs from end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spawner.devices.nodes import Node
from spawner.devices.reader import Reader
from tests.bench import devices
from tests.bench.devices import Part, catalogue_of, check, faults, parts_of
from tests.spawner.nvml_double import A100, FakeCard, FakeInstance, FakeNvml, a100

UUID = "5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
CARD = Part(f"GPU-{UUID}", "Tesla T4", None, "nvidia1")
OTHER = "00000000-0000-0000-0000-000000000001"


def seen(uuids: list[str], bare: list[str], opened: str = "", error: str = "") -> dict[str, Any]:
    nodes = {name: name == opened for name in ("nvidia0", "nvidia1")}
    return {"cuda": {"uuids": uuids, "error": error}, "bare": {"uuids": bare, "error": ""}, "nodes": nodes}


@pytest.mark.parametrize(
    ("part", "said", "enforced", "wrong"),
    [
        pytest.param(CARD, seen([UUID], [UUID], "nvidia1"), True, 0, id="its-own"),
        pytest.param(CARD, seen([UUID], [], "nvidia1"), True, 0, id="its-own-and-none-without-variables"),
        pytest.param(CARD, seen([UUID, OTHER], [UUID], "nvidia1"), True, 1, id="one-too-many"),
        pytest.param(CARD, seen([OTHER], [UUID], "nvidia1"), True, 1, id="another-one"),
        pytest.param(CARD, seen([UUID], [UUID, OTHER], "nvidia1"), True, 1, id="variables-only"),
        pytest.param(CARD, seen([UUID], [UUID, OTHER], "nvidia1"), False, 0, id="variables-only-where-advisory"),
        pytest.param(CARD, seen([UUID], [UUID], "nvidia0"), True, 1, id="another-node"),
        pytest.param(CARD, seen([], [], error="cuInit 999"), True, 2, id="broken"),
        pytest.param(None, seen([], []), True, 0, id="none"),
        pytest.param(None, seen([], [UUID], "nvidia0"), True, 2, id="none-but-open"),
        pytest.param(None, seen([UUID], []), False, 1, id="none-but-visible"),
    ],
)
def test_what_is_wrong_inside_a_session(part: Part | None, said: dict[str, Any], enforced: bool, wrong: int) -> None:
    assert len(faults(part, said, enforced=enforced)) == wrong


def test_every_healthy_part_is_checked_once_and_has_an_accelerator() -> None:
    cards = Reader(
        FakeNvml(
            a100("GPU-1", 0, FakeInstance("MIG-a", "1g.5gb", 7), FakeInstance("MIG-b", "3g.20gb", 2)),
            FakeCard("GPU-2", minor=1),
            FakeCard("GPU-3", minor=2, uncorrected=1),
        )
    ).look()
    parts = parts_of(cards)
    assert [(part.uuid, part.node) for part in parts] == [
        ("MIG-a", "nvidia0"),
        ("MIG-b", "nvidia0"),
        ("GPU-2", "nvidia1"),
    ]
    assert {key: one.local.mig for key, one in catalogue_of(parts).accelerators.items() if one.local} == {
        "nvidia-a100-sxm4-40gb-1g-5gb": "1g.5gb",
        "nvidia-a100-sxm4-40gb-3g-20gb": "3g.20gb",
        "tesla-t4": None,
    }
    assert parts[0].product == A100


def test_without_cards_it_says_so_and_what_to_do() -> None:
    argv = [sys.executable, "-m", "tests.bench.devices"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stderr == ""
    assert (done.returncode == 2) == done.stdout.startswith("This machine has no NVIDIA driver.")


async def test_it_runs_from_end_to_end_and_finds_that_imagined_cards_do_not_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cards that only the double knows: everything is real but they, so each session that has one is found wrong."""
    reader = Reader(FakeNvml(FakeCard(f"GPU-{UUID}", minor=1), FakeCard(f"GPU-{OTHER}", minor=2)))
    monkeypatch.setattr(devices, "this_machine", lambda: reader)
    monkeypatch.setattr("hub.controller.local.this_machine", lambda: reader)
    monkeypatch.setattr("spawner.devices.hand_out.nodes_of", lambda *_: (Node(195, 1, "/dev/nvidia1"),))
    tmp_path.chmod(0o711)
    machine = SimpleNamespace(**vars(devices.detect("shared")), device_notices=list)
    monkeypatch.setattr(devices, "detect", lambda: machine)
    assert await check(reader.look(), tmp_path) == 3
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" in ")[0] for line in said if line.startswith("reserved")] == [
        f"reserved GPU-{UUID}",
        f"reserved GPU-{OTHER}",
        "reserved nothing",
    ]
    assert len([line for line in said if line.startswith("WRONG: ") and "libcuda" in line]) == 3
    assert said[-1].startswith("given back and counted as free after")
