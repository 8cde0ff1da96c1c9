"""The claim that a home lies on: found again, made when missing, never lost through a change of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from spawner.api_refusals import explain
from spawner.kube_api import ApiFailure, KubeApi
from spawner.refusal import StartFailed

__all__ = ["ensure_claim", "names_person", "names_server"]

_FIELD = re.compile(r"\{(\w+)")
_BOTH = frozenset({"user_server", "safe_user_server", "escaped_user_server", "pod_name"})
_PERSON = _BOTH | {"userid", "username", "safe_username", "escaped_username", "unescaped_username"}
_SERVER = _BOTH | {"servername", "safe_servername", "escaped_servername", "unescaped_servername"}


def names_person(template: str) -> bool:
    """Return whether a template gives each person a claim of their own; if not, no one's leaving may delete it."""
    return bool(_PERSON & set(_FIELD.findall(template)))


def names_server(template: str) -> bool:
    """Return whether a template gives each named server a claim of its own."""
    return bool(_SERVER & set(_FIELD.findall(template)))


async def ensure_claim(
    api: KubeApi,
    namespace: str,
    candidates: Sequence[str],
    *,
    manifest: Callable[[str], Any],
    known: bool,
    say: Callable[[str], None],
) -> str:
    """Return the name of the claim to mount, making the claim if none of the candidates exists.

    Looked at before each start, at the same time as other preparations: KubeSpawner checks a claim once in its
    life, and a pod whose claim was deleted since then waits for it until the time is up.

    Parameters
    ----------
    candidates
        Names, best first; the later ones are of older naming schemes (kubespawner#937: who skips these gives
        people an empty home).
    manifest
        Makes the claim's manifest for a name.
    known
        The first candidate was in use before, so that its absence is worth a word to the user.
    say
        Tells the user.

    Raises
    ------
    Refusal
        With the cause in plain words.
    """
    try:
        for name in candidates:
            claim = await api.read_claim(namespace, name)
            if claim is not None:
                _check(claim)
                return name
        if known:
            say("Your old home does not exist any more; you get a new, empty one")
        await api.create_claim(namespace, manifest(candidates[0]))
    except ApiFailure as failure:
        raise explain(failure, "your home") from failure
    return candidates[0]


def _check(claim: dict[str, Any]) -> None:
    name = claim["metadata"]["name"]
    if claim["metadata"].get("deletionTimestamp"):
        text = "Your home is being deleted at this moment. Tell your administrators if you still need its files."
        raise StartFailed("home-deleted", text, log=f"claim {name} has a deletionTimestamp", status=409)
    if (claim.get("status") or {}).get("phase") == "Lost":
        text = "The volume that your home lies on is lost. Tell your administrators; do not start again before."
        raise StartFailed("home-lost", text, log=f"claim {name} is Lost: its volume does not exist", status=503)
