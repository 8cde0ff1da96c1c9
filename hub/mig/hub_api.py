"""Stops a session through the hub, so that the hub knows of it at once and its proxy's route goes first."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

__all__ = ["HubAccess", "HubProblem", "read_token"]

_TIMEOUT_S = 15.0


class HubProblem(Exception):
    """The hub did not stop it; the text says why, without an end."""


@dataclass(frozen=True)
class HubAccess:
    """One hub.

    Parameters
    ----------
    url
        Where its proxy listens, with the prefix: `https://hub.example.org/`.
    namespace
        Where its sessions run: a session elsewhere is another hub's.
    """

    url: str
    token: str = field(repr=False)
    namespace: str = ""

    def stop(self, user: str, server: str) -> None:
        """Ask the hub to stop a server; returns before it is gone.

        Raises
        ------
        HubProblem
            It does not answer, or does not do it.
        """
        one = f"servers/{quote(server, safe='')}" if server else "server"
        address = f"{self.url.rstrip('/')}/hub/api/users/{quote(user, safe='')}/{one}"
        asked = urllib.request.Request(  # noqa: S310  # http or https, checked where the command is read
            address, method="DELETE", headers={"Authorization": f"token {self.token}"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=_TIMEOUT_S):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            raise HubProblem(f"the hub answers with status {error.code}") from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise HubProblem("the hub does not answer") from error


def read_token(file: Path) -> str:
    """Return the token in a file.

    Raises
    ------
    HubProblem
        It cannot be read, or holds none.
    """
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HubProblem(f"The file {file} with the hub's token cannot be read: {error}.") from error
    if not token or not token.isascii() or any(sign.isspace() for sign in token):
        raise HubProblem(f"The file {file} must hold the hub's token and nothing else.")
    return token
