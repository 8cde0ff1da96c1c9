"""An API that may be away for a while, and the time that one has."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hub.cluster_api import Away, ClusterApi, Json

__all__ = ["PatientApi", "Say"]

Say = Callable[[str], None]
"""Prints one sentence."""

_PAUSE_S = 2.0
_TOO_MANY_REQUESTS = 429


class PatientApi(ClusterApi):
    """Asks again for as long as the API server is away, and says so once.

    Parameters
    ----------
    api
        The one to ask.
    patience_s
        How long it may be away at a stretch, in seconds.
    """

    def __init__(self, api: ClusterApi, say: Say, patience_s: float) -> None:
        super().__init__(None, api.name)
        self._api, self._say, self._patience_s = api, say, patience_s

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: Json | None = None,
        kind: str = "application/json",
    ) -> Json:
        """Send one request, again and again while there is no answer."""
        since = time.monotonic()
        told = False
        while True:
            try:
                answer = self._api.ask(method, path, query, body, kind)
            except Away as problem:
                if problem.status == _TOO_MANY_REQUESTS and path.endswith("/eviction"):
                    raise  # a PodDisruptionBudget says no, not the server
                if time.monotonic() - since > self._patience_s:
                    raise
                if not told:
                    self._say(f"{problem} It is asked again until it does.")
                    told = True
                time.sleep(_PAUSE_S)
            else:
                if told:
                    self._say("The API server answers again.")
                return answer
