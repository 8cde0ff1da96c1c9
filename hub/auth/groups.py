"""Claims become group names. Pure functions.

Three shapes are understood: a list of names (`groups` of Keycloak, Canaille, GitLab …), a list of paths (`wlcg.groups`,
WLCG Common JWT Profiles), and entitlements (`eduperson_entitlement`, AARC-G002 and its successor AARC-G069).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

LONGEST_NAME = 255  # JupyterHub's column
ENTITLEMENT_CLAIMS = frozenset({"eduperson_entitlement", "entitlements", "eduPersonEntitlement"})
MEMBER_ROLES = frozenset({"", "member"})

# AARC-G069 2.1: <NAMESPACE>:group:<GROUP>[:<SUBGROUP>*][:role=<ROLE>]#<AUTHORITY>; the authority is optional in G069,
# and consumers need not compare it.
_ENTITLEMENT = re.compile(
    r"(?P<namespace>urn:[a-z0-9][a-z0-9-]{0,31}(?::[^:#\s]+)*?):group:(?P<group>[^:#\s=]+(?::[^:#\s=]+)*?)"
    r"(?::role=(?P<role>[^:#\s]+))?(?:#[^#\s]*)?",
    re.IGNORECASE,
)


def groups_from(
    userinfo: Mapping[str, Any],
    id_token: Mapping[str, Any],
    claims: Iterable[str],
    namespaces: Iterable[str] = (),
) -> frozenset[str]:
    """The groups that the claims name: those of the user information, or, if it has no such claim, of the ID token.

    The user information is asked for anew at each re-check, the ID token may be as old as the login: mixing both would
    keep a membership alive that was taken away.
    """
    wanted = tuple(claims)
    source = userinfo if names_groups(userinfo, wanted) else id_token
    found: set[str] = set()
    for claim in wanted:
        entitlement = claim.rpartition("/")[2] in ENTITLEMENT_CLAIMS
        for value in _values(find(source, claim)):
            name = _group(value, tuple(namespaces), entitlement=entitlement)
            if name and len(name) <= LONGEST_NAME and name.isprintable():
                found.add(name)
    return frozenset(found)


def names_groups(source: Mapping[str, Any], claims: Iterable[str]) -> bool:
    """Whether any of the claims is there at all, be it empty."""
    return any(find(source, claim) is not None for claim in claims)


def find(source: Mapping[str, Any], claim: str) -> Any:
    """A claim by its name, or by the way to it with slashes; None if there is none.

    The whole name goes first: names of claims may themselves be URLs.
    """
    if claim in source:
        return source[claim]
    value: Any = source
    for key in claim.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _values(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, str)]
    return []


def _group(value: str, namespaces: tuple[str, ...], *, entitlement: bool) -> str:
    """One value as a group name, or "" if it names none.

    An entitlement of a namespace that is not listed keeps it in its name: two organisations may both have a group
    `admins`.
    """
    match = _ENTITLEMENT.fullmatch(value)
    if match is None:
        return "" if entitlement else value
    role = unquote(match["role"] or "")
    group = ":".join(unquote(part) for part in match["group"].split(":"))
    if role not in MEMBER_ROLES:
        group += f":role={role}"
    if match["namespace"].lower() in {namespace.lower() for namespace in namespaces}:
        return group
    return f"{match['namespace'].lower()}:group:{group}"
