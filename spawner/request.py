"""A validated choice: what exactly a person asked for. Values only; nothing here knows a catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from profiles.model import NO_ACCELERATOR
from profiles.quantities import format_cpu, format_memory

__all__ = ["ACCOUNT", "UNLISTED_SUFFIX", "Chosen", "Request"]

ACCOUNT = "account"
"""The key by which options say what is to be charged, beside those of the profile; one that has an option of this name
leaves it to the default."""

UNLISTED_SUFFIX = "--unlisted-choice"
"""How KubeSpawner names the key that carries the text of an unlisted choice; clients know it already."""


@dataclass(frozen=True)
class Chosen:
    """The answer to one free-form option: a listed choice, or a text where the option allows one."""

    option: str
    choice: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Request:
    """What a person asked for, checked against the catalogue.

    `cpu` is in cores, `memory` in bytes, `count` in accelerators (0 without one). None means that the profile
    does not let one choose it. `account` is what is to be charged (`user:NAME`, `group:NAME`); None: the default.
    """

    profile: str
    image: str | None = None
    cpu: Decimal | None = None
    memory: int | None = None
    accelerator: str | None = None
    count: int = 0
    choices: tuple[Chosen, ...] = ()
    account: str | None = None
    app: str | None = None
    """Key of the application that the session opens with; None: where its image says."""
    declined: bool = field(default=False, compare=False)
    """Whether none was picked where there are accelerators to pick: a profile's default may be one of them."""

    def options(self) -> dict[str, Any]:
        """Return the options that parse to this request again: what is saved for the next start."""
        options: dict[str, Any] = {"profile": self.profile}
        if self.image is not None:
            options["image"] = self.image
        if self.cpu is not None:
            options["cpu"] = format_cpu(self.cpu)
        if self.memory is not None:
            options["memory"] = format_memory(self.memory)
        if self.accelerator is not None:
            options["accelerator"] = self.accelerator
        elif self.declined:
            options["accelerator"] = NO_ACCELERATOR
        if self.count:
            options["count"] = str(self.count)
        for chosen in self.choices:
            if chosen.text is not None:
                options[chosen.option + UNLISTED_SUFFIX] = chosen.text
            else:
                options[chosen.option] = chosen.choice
        if self.app is not None:
            options["app"] = self.app
        if self.account is not None:
            options[ACCOUNT] = self.account
        return options
