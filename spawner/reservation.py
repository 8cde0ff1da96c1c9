"""What was granted and not yet given back. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Reservation"]


@dataclass(frozen=True)
class Reservation:
    """The hold of one start on cards, cpu and memory.

    `id` is the start's spawn id: unique, and what the pod (annotation) or the launch record carries too. `cpu_m` in
    thousandths of a core and `memory` in bytes; None where the profile leaves it to the deployer. `devices` are the
    uuids of this machine's devices, one per accelerator (local engine). `seen`: the published snapshot counts it
    already; others have to be taken off its free counts. `by_hand`: settings that the counts do not know take part in
    the choice of its node; of interest only while it is asked for.

    `account` is what is charged (`user:…`, `group:…`), by `share` of whole cards, all of the count together. `state`
    is `granted` while the hub is yet to be asked for the start, or has not begun it. `ticket` is the one that it was
    promoted from. `options` are those of the request, as `spawner.request.Request.options` returns them. `session_s`
    is how long the session may last in seconds; None: no limit.
    """

    id: str
    user: str
    server: str
    profile: str
    accelerator: str | None = None
    count: int = 0
    cpu_m: int | None = None
    memory: int | None = None
    devices: tuple[str, ...] = ()
    seen: bool = False
    account: str = ""
    share: float = 0.0
    state: Literal["granted", "begun"] = "begun"
    ticket: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    session_s: float | None = None
    by_hand: bool = field(default=False, compare=False)
