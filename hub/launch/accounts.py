"""The demonstration's people: four accounts in three groups, with passwords made once for this installation."""

import json
from dataclasses import dataclass
from pathlib import Path

from hub.launch.secrets import keep, password

MEMBER_GROUPS = ("researchers", "instructors")
ADMIN_GROUP = "admins"


@dataclass(frozen=True)
class Account:
    """Somebody who can log in at the demonstration's provider."""

    name: str
    title: str
    groups: tuple[str, ...]


ACCOUNTS = (
    Account("researcher-1", "First Researcher", ("researchers",)),
    Account("researcher-2", "Second Researcher", ("researchers",)),
    Account("instructor", "Instructor", ("instructors",)),
    Account("administrator", "Administrator", (ADMIN_GROUP,)),
)


def passwords(file: Path) -> dict[str, str]:
    """Read everybody's password, by account name; made at the first call and the same ever after.

    Raises ValueError if the file was spoilt: new passwords would not be those that the provider knows.
    """
    text = keep(file, lambda: json.dumps({account.name: password() for account in ACCOUNTS}, indent=1))
    known = json.loads(text)
    if not isinstance(known, dict) or not all(isinstance(known.get(account.name), str) for account in ACCOUNTS):
        raise ValueError(f"{file} does not name a password for every account")
    return {account.name: known[account.name] for account in ACCOUNTS}
