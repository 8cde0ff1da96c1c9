"""Whose home an existing claim is, and whether our hub finds it by the name that it will look for."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import escapism
from kubespawner.slugs import safe_slug

__all__ = ["Claim", "Home", "homes"]

_PERSON = "hub.jupyter.org/username"
_SAFE = frozenset(string.ascii_lowercase + string.digits)
_BEGINS = "claim-"


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim, as far as it matters here."""

    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Home:
    """A claim with its owner (empty: nobody can tell), and by which kind of name our hub finds it (empty: by none)."""

    claim: str
    user: str
    scheme: str


def homes(claims: Iterable[Claim], template: str) -> list[Home]:
    """Return the homes among these claims, in order of their names.

    Parameters
    ----------
    template
        `c.KubeSpawner.pvc_name_template` of the hub to be: `claim-{username}`, for instance.
    """
    found = []
    for claim in sorted(claims, key=lambda one: one.name):
        user = _owner(claim)
        if user is None:
            continue
        found.append(Home(claim.name, user, _scheme(claim.name, user, template) if user else ""))
    return found


def _owner(claim: Claim) -> str | None:
    """Whose it is: by the annotation of KubeSpawner, else by its name; None: it is no home."""
    if claim.annotations.get(_PERSON):
        return claim.annotations[_PERSON]
    written = claim.labels.get(_PERSON) or (claim.name.removeprefix(_BEGINS) if claim.name.startswith(_BEGINS) else "")
    if not written:
        return None
    try:
        user: str = escapism.unescape(written, escape_char="-")
    except (ValueError, UnicodeDecodeError):
        return ""
    return user if _escaped(user) == written else ""


def _scheme(name: str, user: str, template: str) -> str:
    for scheme, word in (("safe", safe_slug(user)), ("escape", _escaped(user))):
        if name == _expanded(template, word):
            return scheme
    return ""


def _expanded(template: str, word: str) -> str:
    for field_ in ("{username}", "{user_server}", "{escaped_user_server}"):
        template = template.replace(field_, word)
    return template.replace("{servername}", "").replace("{unescaped_username}", word).rstrip("-")


def _escaped(user: str) -> str:
    escaped: str = escapism.escape(user, safe=_SAFE, escape_char="-").lower()
    return escaped
