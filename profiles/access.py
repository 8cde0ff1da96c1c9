"""Who may start what."""

from dataclasses import dataclass, field

from profiles.parts import Access

__all__ = ["Person", "reason_not_allowed"]


@dataclass(frozen=True)
class Person:
    """Who asks; as much of a user as access rules need."""

    name: str
    groups: frozenset[str] = field(default=frozenset())
    admin: bool = False
    """Administrators may start everything."""


def reason_not_allowed(access: Access, person: Person) -> str | None:
    """Why the person may not, in words for the person, or None if they may.

    Names of other users are never told: where only users are listed, the reason says no more than that.
    """
    if access.everyone or person.admin or person.name in access.users or person.groups.intersection(access.groups):
        return None
    if not access.groups:
        return "for certain users only"
    if len(access.groups) == 1:
        return f"needs group {access.groups[0]}"
    return f"needs one of the groups {', '.join(access.groups)}"
