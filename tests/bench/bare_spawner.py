"""A spawner that does nothing: what a storm at its hub costs is JupyterHub's own."""

from __future__ import annotations

import os
from typing import Any

from jupyterhub.spawner import Spawner

__all__ = ["BareSpawner"]


class BareSpawner(Spawner):  # type: ignore[misc]  # JupyterHub is untyped
    """Says at once that its server runs, at the stub's address, and keeps nothing but whether it does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._runs = False

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember over a restart of the hub."""
        super().load_state(state)
        self._runs = bool(state.get("runs"))

    def get_state(self) -> dict[str, Any]:
        """Return what `load_state` reads."""
        return {**super().get_state(), "runs": self._runs}

    async def start(self) -> tuple[str, int]:
        """Return where the stub is."""
        address, port = os.environ["BENCH_SERVERS"].rsplit(":", 1)
        self._runs = True
        return address, int(port)

    async def stop(self, now: bool = False) -> None:
        """Forget that it runs."""
        self._runs = False

    async def poll(self) -> int | None:
        """Return None while it runs."""
        return None if self._runs else 0
