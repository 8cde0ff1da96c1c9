"""Discovery of this machine's cards: what NVML says becomes a catalogue that is accepted."""

from __future__ import annotations

from typing import Any

import pytest

from hub import cli
from hub.discover.finding import Inventory
from hub.discover.local import findings_of_cards
from hub.discover.render import section
from profiles.loader import loads
from profiles.model import Accelerator
from spawner.devices.nvml import Card, NvmlAway, Seen, read
from spawner.devices.reader import Reader
from tests.spawner.nvml_double import T4, FakeCard, FakeInstance, FakeNvml, a100

REST = "profiles:\n  one: {title: One}\n"


def text(seen: Seen) -> str:
    findings, remarks = findings_of_cards(seen)
    return section(Inventory("a test", findings, remarks))


def found(*cards: FakeCard) -> dict[str, Accelerator]:
    return dict(loads(text(read(FakeNvml(*cards))) + REST).accelerators)


def local(card: Accelerator) -> dict[str, Any]:
    assert card.local is not None
    return card.local.model_dump(exclude_defaults=True)


def test_whole_cards_and_slices_are_told_apart() -> None:
    slices = [FakeInstance(f"MIG-{at}", "1g.5gb", at) for at in range(3)] + [FakeInstance("MIG-9", "3g.20gb", 9)]
    cards = found(FakeCard("GPU-1"), FakeCard("GPU-2"), a100("GPU-3", 2, *slices), a100("GPU-4", 3, mig=False))
    assert {key: (card.per_node, local(card)) for key, card in cards.items()} == {
        "a100": (1, {"product": ("NVIDIA A100-SXM4-40GB",)}),
        "a100-1g.5gb": (3, {"product": ("NVIDIA A100-SXM4-40GB",), "mig": "1g.5gb"}),
        "a100-3g.20gb": (1, {"product": ("NVIDIA A100-SXM4-40GB",), "mig": "3g.20gb"}),
        "t4": (2, {"product": (T4,)}),
    }
    assert cards["a100-1g.5gb"].memory == 4864 * 2**20
    assert round(1 / cards["a100-1g.5gb"].share, 9) == 7


def test_what_cannot_be_handed_out_is_said() -> None:
    said = text(read(FakeNvml(FakeCard("GPU-1", lost=True), FakeCard("GPU-2", uncorrected=3), a100("GPU-3", 2))))
    assert "NVIDIA card 0 cannot be read" in said
    assert "  # not handed out now: GPU-2: memory errors that could not be corrected: 3\n" in said
    assert "# Left out: NVIDIA A100-SXM4-40GB GPU-3: MIG is on, but it has no instances\n" in said


def test_a_part_of_a_slice_is_left_out_as_no_catalogue_can_name_it() -> None:
    said = text(read(FakeNvml(a100("GPU-1", 0, FakeInstance("MIG-1", "1c.3g.20gb", 1)))))
    assert "# Left out: A100 slice 1c.3g.20gb: local.mig: " in said
    assert said.endswith("accelerators: {}\n")


@pytest.mark.parametrize("product", ["x: y # z", "a\nb", "{", "NVIDIA \u2028 T4", "", "✨" * 300])
def test_odd_names_of_products_stay_where_they_belong(product: str) -> None:
    seen = Seen((Card("GPU-1", product, 0, 1 << 34),))
    read_back = loads(text(seen) + REST).accelerators
    assert all(local(card)["product"] == (product.strip(),) for card in read_back.values())


def test_without_a_driver_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(self: Reader) -> Seen:
        raise NvmlAway("this machine has no NVIDIA driver", "Install it.")

    monkeypatch.setattr(Reader, "look", away)
    assert cli.main(["discover", "local"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "This machine has no NVIDIA driver. Install it.\n")


def test_with_a_driver_the_section_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Reader, "look", lambda self: read(FakeNvml(FakeCard("GPU-1"))))
    assert cli.main(["discover", "local", "--complete"]) == 0
    assert list(loads(capsys.readouterr().out).accelerators) == ["t4"]
