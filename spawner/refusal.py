"""A "no" to a request, and a start that failed for a known reason.

Both are one class below JupyterHub's `SpawnException`, which is not counted as a failure of the hub.
JupyterHub 6.1 shows a bare SpawnException wrongly on the form and the progress page: `format_exception` reads
only `jupyterhub_message`, and `str()` gives the log's text. Setting both here makes the text for the user
appear everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from jupyterhub.spawner import SpawnException

__all__ = ["Refusal", "StartFailed"]


class Refusal(SpawnException):  # type: ignore[misc]  # JupyterHub is untyped
    """A request that is not granted.

    Parameters
    ----------
    code
        Short and stable; the label in metrics and the value of the header `Armillary-Refusal`.
    text
        For the user: what happened, which limit, what to do now.
    log
        For the log; default: code and text. Must hold no secret: JupyterHub may show it to administrators.
    status
        HTTP status.
    headers
        Further headers of the answer, such as Retry-After.
    """

    def __init__(
        self, code: str, text: str, *, log: str = "", status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text, reason=code, log_message=log or f"{code}: {text}", status_code=status)
        self.code = code
        self.text = text
        self.jupyterhub_message = text
        self.headers = {"Armillary-Refusal": code, **(headers or {})}

    def __str__(self) -> str:
        return self.text


class StartFailed(Refusal):
    """A request was granted, but the server could not be started, for a cause we can name."""

    def __init__(self, code: str, text: str, *, log: str = "", status: int = 502) -> None:
        super().__init__(code, text, log=log, status=status)
