"""Who somebody is: the user name a claim becomes, and the mark that ties an account to one identity for good."""

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Any

from hub.auth.groups import find
from hub.auth.problems import Garbled, NotAllowed, quoted

LONGEST_NAME = 255  # JupyterHub's column


def user_name(claims: Mapping[str, Any], claim: str) -> str:
    """The user name, exactly as the claim has it: nothing is folded, neither case nor Unicode, so two stay two.

    Raises Garbled where the claim is missing, NotAllowed where its value cannot be a user name.
    """
    value = find(claims, claim)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise Garbled(log=f"claim {claim!r} (login.username_claim) is missing; present are {quoted(sorted(claims))}")
    reason = _unfit(value)
    if reason:
        raise NotAllowed(
            f"Your user name at the login service cannot be used here: {reason}. The people who run this hub can "
            "choose another claim for user names, or have yours changed at the login service.",
            log=f"user name {quoted(value)} refused: {reason}",
        )
    return value


def _unfit(name: str) -> str:
    if len(name) > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} characters"
    if not name.isprintable() or name != name.strip():
        return "it begins or ends with a space, or holds characters that cannot be seen"
    if any(letter in name for letter in "/\\%?#"):
        return "it holds one of / \\ % ? #"
    if set(name) == {"."}:
        return "it consists of dots"
    if unicodedata.normalize("NFC", name) != name:
        return "it is not written in Unicode's normal form (NFC), so it looks like another name"
    return ""


def mark_of(issuer: str, subject: str) -> str:
    """The identity behind an account as a short text: `iss` and `sub` together are unique in OpenID Connect."""
    return hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()
