"""Whose limits there are, and whom a session can be charged to: names, and how they are said to people.

Subjects: `default` (each person), `user:NAME` (that person), `member:GROUP` (each person who charges the group),
`group:GROUP` (all together who charge it). Accounts are the subjects `user:…` and `group:…`.
"""

from __future__ import annotations

from hub.quotas.model import QuotaProblem
from profiles.syntax import SyntaxProblem, check_plain_text, shown
from profiles.wording import did_you_mean

__all__ = ["DEFAULT", "OWN", "check_account", "check_subject", "group_of", "holds_for", "say_account"]

DEFAULT = "default"
OWN = "user"
"""In the setting `quotas.accounts`: the own account of whoever asks."""

_PREFIXES = ("user", "member", "group")
_LEGAL = "default, user:NAME, member:GROUP, group:GROUP"
_LONGEST = 255


def check_subject(text: str) -> str:
    """Return a subject as it is.

    Raises
    ------
    QuotaProblem
        It is none.
    """
    if text == DEFAULT:
        return text
    prefix, colon, name = text.partition(":")
    if prefix not in _PREFIXES:
        raise QuotaProblem(
            f"{shown(text)} is no subject of limits{did_you_mean(prefix, (DEFAULT, *_PREFIXES))}; legal: {_LEGAL}"
        )
    if not colon or not name:
        raise QuotaProblem(f"{shown(text)} names nobody; legal: {_LEGAL}")
    if name != name.strip() or len(name) > _LONGEST:
        raise QuotaProblem(f"{shown(text)}: a name has 1 to {_LONGEST} characters, and no space at its ends")
    try:
        check_plain_text(name)
    except SyntaxProblem as error:
        raise QuotaProblem(str(error)) from None
    return text


def check_account(text: str) -> str:
    """Return an account as it is.

    Raises
    ------
    QuotaProblem
        Nobody can be charged by this name.
    """
    if not text.startswith(("user:", "group:")):
        raise QuotaProblem(f"{shown(text)} is no account; legal: user:NAME, group:GROUP")
    return check_subject(text)


def group_of(account: str) -> str | None:
    """Return the group that an account, or a subject, is about; None: it is a person's."""
    prefix, _, name = account.partition(":")
    return name if prefix in ("group", "member") else None


def holds_for(subject: str, user: str = "") -> str:
    """Return for whom a limit holds: `for each person`, `for all together who charge group cms`.

    Parameters
    ----------
    user
        Who reads it; that person is called "you".
    """
    prefix, _, name = subject.partition(":")
    match prefix:
        case "user":
            return "for you" if name == user else f"for {name}"
        case "member":
            return f"for each person who charges group {name}"
        case "group":
            return f"for all together who charge group {name}"
        case _:
            return "for each person"


def say_account(account: str, user: str = "") -> str:
    """Return what an account is called in a sentence: `group cms`, `your own account`, `ann's own account`."""
    prefix, _, name = account.partition(":")
    if prefix == "group":
        return f"group {name}"
    return "your own account" if name == user else f"{name}'s own account"
