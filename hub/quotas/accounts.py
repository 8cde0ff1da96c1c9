"""Whom somebody may charge. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hub.quotas.model import Quotas
from hub.quotas.subjects import OWN, say_account
from profiles.access import Person
from profiles.syntax import shown
from spawner.refusal import Refusal

__all__ = ["account_for", "accounts_of", "in_order"]


def accounts_of(person: Person, quotas: Quotas, order: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the accounts that somebody may charge, the default first.

    A group can be charged by its members if limits are set of it (`group:` or `member:`), or if `order` names it.

    Parameters
    ----------
    order
        The setting `quotas.accounts`: `group:NAME`, or `user` for everybody's own account. What it does not name
        follows: groups by name, then the own account.
    """
    groups = [
        f"group:{group}"
        for group in sorted(person.groups)
        if f"group:{group}" in order or quotas.of(f"group:{group}") or quotas.of(f"member:{group}")
    ]
    return in_order(person, groups, order)


def in_order(person: Person, groups: Iterable[str], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the accounts of these groups and the person's own, the default first; see `accounts_of`."""
    own = [f"user:{person.name}"] if person.name else []
    places = {account: place for place, account in enumerate(order)}
    own_place = places.get(OWN, len(order) + 1)
    ranked = [(places.get(account, len(order)), account) for account in groups]
    ranked += [(own_place, account) for account in own]
    return tuple(account for _, account in sorted(ranked, key=lambda pair: pair[0]))


def account_for(person: Person, quotas: Quotas, order: Sequence[str] = (), asked: str | None = None) -> str:
    """Return the account that a request is charged to.

    Parameters
    ----------
    asked
        What the request says; None or empty: the default.

    Raises
    ------
    Refusal
        `account`: this person may not charge that one, or none at all.
    """
    legal = accounts_of(person, quotas, order)
    if not legal:
        raise Refusal("account", "There is no account that this could be charged to: log in as a person.", status=403)
    if not asked:
        return legal[0]
    if asked not in legal:
        may = " or ".join(f"{say_account(account, person.name)} ({account})" for account in legal)
        raise Refusal(
            "account",
            f"You cannot charge {shown(asked)}. You may charge {may}. Choose one of these, or ask your administrators "
            "which groups can be charged.",
            status=403,
        )
    return asked
