"""Settings for every session by which it may reach nodes that are not counted: the scheduler alone decides then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.kube import ArmillarySpawner
from spawner.refusal import Refusal
from tests.spawner import kube_spawners
from tests.spawner.catalogues import catalogue

GIB = 1024**3
FAR = {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
SMALL = (Fit(0, 100, GIB // 64),)
COUNTS = {"none": Count(fits_now=SMALL, fits_empty=SMALL), "t4": Count(4, 0, 0, 0, 4, (("tainted (far)", 4),))}


class Desk:
    """A desk that decides as the real one does, with counts of which all nodes are too small or tainted."""

    def __deepcopy__(self, memo: object) -> Desk:
        return self

    async def availability(self) -> Availability:
        return Availability(Snapshot("kubernetes", datetime.now(UTC), COUNTS), fresh=True)

    async def reserve(self, wanted: Any, *, expires_in_s: float, person: Any = None) -> Any:
        from spawner.capacity.grant import grant

        return grant(await self.availability(), wanted, catalogue(), "kubernetes")

    async def release(self, spawn_id: str) -> None:
        pass


async def hold(spawner: ArmillarySpawner, **options: Any) -> Any:
    spawner.user_options = options
    request = await spawner.decide()
    await spawner.load_user_options()
    await spawner._hold(request, 60)
    return spawner.reservation


ASKED = [{"profile": "cpu"}, {"profile": "gpu", "accelerator": "t4"}]


@pytest.mark.parametrize("options", ASKED, ids=["none", "t4"])
@pytest.mark.parametrize(
    "own",
    [{"tolerations": [FAR]}, {"extra_pod_config": {"tolerations": [FAR]}}, {"scheduler_name": "other"}],
    ids=["tolerations", "extra_pod_config", "scheduler_name"],
)
async def test_what_no_counted_node_has_is_left_to_the_scheduler(
    own: dict[str, Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = kube_spawners.make(monkeypatch, desk=Desk(), cpu_limit=8, **own)
    assert await hold(spawner, **options) is not None
    assert "data-by-hand" in await spawner.render_form()


@pytest.mark.parametrize("options", ASKED, ids=["none", "t4"])
@pytest.mark.parametrize("own", [{}, {"tolerations": [FAR], "counted_tolerations": [FAR]}], ids=["nothing", "counted"])
async def test_what_is_counted_is_refused(
    own: dict[str, Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = kube_spawners.make(monkeypatch, desk=Desk(), cpu_limit=8, **own)
    with pytest.raises(Refusal) as refusal:
        await hold(spawner, **options)
    assert refusal.value.code == ("full" if "accelerator" in options else "does-not-fit")
    assert "data-by-hand" not in await spawner.render_form()
