"""What a session says of its own work, and for how long it has done none. Pure.

Ages, never moments: the session's clock is nobody else's. A busy kernel works, however silent it is and whether or not
a browser is connected (jupyterhub-idle-culler sees only `last_activity`, which a silent computation does not move:
its issues 10 and 55). A page that is left open and asks for news is no work (jupyterhub issue 3044 and its like); that
of an application such as VS Code is, for as long as it holds a connection: what is done in it nobody else can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hub.settings.idle import IdleSettings

__all__ = ["Accelerated", "Measures", "picture", "quiet_s"]

_PICTURED = 60

Age = Annotated[float, Field(ge=0, le=1e9)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
Cores = Annotated[float, Field(ge=0, le=1e5)]
Number = Annotated[int, Field(ge=0, le=100_000)]


class Accelerated(BaseModel):
    """One accelerator as the session sees it."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(max_length=200)] = Field("", description="As its driver calls it.")
    utilisation: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Over the last interval, as a part of 1; null: the driver does not tell."
    )
    memory_used: Bytes | None = Field(None, description="Bytes.")
    memory_total: Bytes | None = Field(None, description="Bytes.")


class Measures(BaseModel):
    """What a session's server extension sends every 30 s. What is missing is not known."""

    model_config = ConfigDict(frozen=True)

    cpu: Cores | None = Field(None, description="Cores in use, over the last interval.")
    cpu_limit: Cores | None = Field(None, description="Cores that it may use.")
    memory: Bytes | None = Field(None, description="Bytes in use, without what is only cached.")
    memory_limit: Bytes | None = Field(None, description="Bytes that it may use.")
    devices: Annotated[list[Accelerated], Field(max_length=64)] = Field([], description="Its accelerators.")
    kernels: Number = Field(0, description="Kernels that run.")
    busy_kernels: Number = Field(0, description="Of them: those that execute something.")
    terminals: Number = Field(0, description="Terminals that are open.")
    busy_terminals: Number = Field(0, description="Of them: those with a command that uses the processor.")
    connections: Number = Field(0, description="Open connections of applications such as VS Code.")
    quiet_s: Age | None = Field(
        None,
        description="Seconds since somebody did something: a cell was executed, a key pressed in a terminal, a file "
        "saved. Pages that ask for news do not count.",
    )


def quiet_s(measures: Measures, settings: IdleSettings, *, shares: bool = False) -> float | None:
    """Return for how many seconds a session has done nothing; 0: it works; None: it cannot tell.

    Parameters
    ----------
    shares
        It has parts of cards: what their drivers tell of a card is of all who use it, and tells nothing of this one.
    """
    if measures.busy_kernels or measures.busy_terminals or measures.connections:
        return 0.0
    if measures.cpu is not None and measures.cpu >= settings.busy_cores:
        return 0.0
    if not shares and any((one.utilisation or 0.0) >= settings.busy_accelerator for one in measures.devices):
        return 0.0
    return measures.quiet_s


def picture(before: Mapping[str, Any], measures: Measures, at: float) -> dict[str, Any]:
    """Return what is kept of a session's measures: the last in full, and the course of half an hour.

    `past` is a list of `[at, cpu, memory, utilisation]`, the oldest first; null: not known.
    """
    used = [one.utilisation for one in measures.devices if one.utilisation is not None]
    point = [round(at, 1), measures.cpu, measures.memory, max(used, default=None)]
    past = before.get("past")
    return {"last": measures.model_dump(), "past": [*(past if isinstance(past, list) else [])[1 - _PICTURED :], point]}
