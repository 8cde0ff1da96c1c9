"""Which limits hold for somebody: the most specific wins, field by field. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hub.quotas.model import Field, Limit, Limits, Quotas
from hub.quotas.subjects import DEFAULT, group_of

__all__ = ["own_limits", "shared_limits", "subjects_of"]


def own_limits(quotas: Quotas, user: str, account: str) -> Limits:
    """Return the limits of this person alone who charges this account: the person's own, else those of each who charges
    the group, else everybody's."""
    return _merged(quotas, _from_wide_to_narrow(user, account))


def shared_limits(quotas: Quotas, account: str) -> Limits:
    """Return the limits of all together who charge this account; of a person's own account there are none."""
    return _merged(quotas, [account] if account.startswith("group:") else [])


def subjects_of(user: str, groups: Iterable[str]) -> tuple[str, ...]:
    """Return every subject whose limits can matter to this person: for `hub.quotas.store.load`."""
    of_groups = [f"{prefix}:{group}" for group in sorted(groups) for prefix in ("member", "group")]
    return (DEFAULT, *of_groups, f"user:{user}")


def _from_wide_to_narrow(user: str, account: str) -> list[str]:
    group = group_of(account)
    return [DEFAULT, *([f"member:{group}"] if group is not None else []), f"user:{user}"]


def _merged(quotas: Quotas, subjects: Iterable[str]) -> Limits:
    found: dict[Field, Limit] = {}
    for subject in subjects:
        found.update({field: Limit(row.value, subject) for field, row in quotas.of(subject).items()})
    return Limits(found)
