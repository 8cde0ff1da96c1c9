"""The section about limits of people and groups, and whose turn it is when they wait for the same."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from hub.quotas.model import QuotaProblem
from hub.quotas.subjects import OWN, check_account
from hub.settings.values import Name, PathSetting, Section, setting
from profiles.syntax import shown

__all__ = ["QuotaSettings"]

Weight = Annotated[float, Field(gt=0, le=1_000_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class QuotaSettings(Section):
    """Limits of people and groups, who may charge whom, and fair share between accounts."""

    file: PathSetting | None = setting(
        None,
        "A YAML file of limits; they are taken over at every start, marked as declared, and those that the file no "
        "longer has are removed. Limits that administrators set on the page stay beside them. Default: none.",
        example="quotas.yaml",
    )
    timezone: Name = setting(
        "UTC",
        "The zone whose days, weeks (from Monday) and months budgets are counted in: a name of the IANA database. UTC, "
        "because a machine's own zone may differ between the machines of one site.",
        example="Europe/Rome",
    )
    accounts: tuple[Name, ...] = setting(
        (),
        "Groups that their members may charge even if no limit is set of them, and the order in which somebody's "
        "accounts are offered, the default first: `group:NAME`, or `user` for everybody's own account. What is not "
        "named follows: other groups with limits by name, then the own account. Default: none.",
        example=["group:cms", "user"],
    )
    half_life_days: Annotated[float, Field(gt=0, le=3650)] = setting(
        7.0,
        "Fair share: after how long an hour of an accelerator counts half against the account that used it. 7: who "
        "used much last week is behind others this week, and no longer next month.",
        example=14.0,
        unit="days",
    )
    weights: dict[str, Weight] = setting(
        {},
        "Fair share: how much of the accelerators an account should get, compared with the others; one with 2 may use "
        "twice as much as one with 1 before it comes behind it. Default: 1 for each.",
        example={"group:cms": 2},
    )
    warn_at: tuple[Fraction, ...] = setting(
        (0.8, 0.95),
        "At which parts of a budget, as parts of 1, the people whose sessions use it are warned; rising. Then they "
        "still have time to save, or to ask for more.",
        example=[0.5, 0.9],
    )
    leaders: dict[str, tuple[Name, ...]] = setting(
        {},
        "Who leads which groups, and so sees what each member of them used: members of the group on the left lead the "
        "groups on the right. Default: nobody but administrators.",
        example={"cms-leaders": ["cms"]},
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):  # no name of a zone, a folder of zones, not known
            raise ValueError(
                "is no time zone that this machine knows; write one such as UTC or Europe/Rome (they come with the "
                "system's package tzdata)"
            ) from None
        return value

    @field_validator("accounts")
    @classmethod
    def _accounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for account in value:
            if account != OWN and not (account.startswith("group:") and _is_account(account)):
                raise ValueError(f"{shown(account)} cannot stand here; legal: group:NAME, {OWN}")
        if twice := sorted({account for account in value if value.count(account) > 1}):
            raise ValueError(f"{twice[0]} is there twice")
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: dict[str, float]) -> dict[str, float]:
        for account in value:
            check_account(account)
        return value

    @field_validator("warn_at")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must rise: each part above the one before")
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the budgets' windows."""
        return ZoneInfo(self.timezone)


def _is_account(text: str) -> bool:
    try:
        check_account(text)
    except QuotaProblem:
        return False
    return True
