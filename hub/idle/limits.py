"""Which limits of idleness and length hold for a session. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hub.idle.policy import Rules
from hub.quotas.subjects import group_of
from hub.settings.idle import IdleRule, IdleSettings
from profiles.model import NO_ACCELERATOR
from spawner.reservation import Reservation

__all__ = ["allowed_s", "idle_s", "longest_s", "rules_of"]


def idle_s(settings: IdleSettings, held: Reservation) -> float | None:
    """Return how long a session may do nothing, in seconds; None: for ever."""
    usual = settings.gpu_hours if held.accelerator else settings.cpu_hours
    rules = _rules(settings, held.profile, held.accelerator, held.account)
    hours = next((rule.idle_hours for rule in rules if rule.idle_hours is not None), usual)
    return hours * 3600 or None


def longest_s(settings: IdleSettings, held: Reservation) -> float | None:
    """Return how long a session may last by the settings and by what it was granted, in seconds; None: no limit."""
    by_settings = allowed_s(settings, held.profile, held.accelerator, held.account)
    limits = [limit for limit in (by_settings, held.session_s) if limit is not None]
    return min(limits, default=None)


def allowed_s(settings: IdleSettings, profile: str, accelerator: str | None, account: str) -> float | None:
    """Return how long such a session may last by the settings, in seconds; None: no limit."""
    rules = _rules(settings, profile, accelerator, account)
    hours = (rule.session_hours for rule in rules if rule.session_hours is not None)
    return next(hours, settings.session_hours) * 3600 or None


def rules_of(settings: IdleSettings, held: Reservation) -> Rules:
    """Return what holds for a session."""
    return Rules(
        idle_s=idle_s(settings, held),
        warn_s=settings.warn_minutes * 60,
        silent_s=settings.silent_hours * 3600,
        grace_s=settings.budget_grace_minutes * 60,
    )


def _rules(settings: IdleSettings, profile: str, accelerator: str | None, account: str) -> Iterator[IdleRule]:
    """Yield the rules that apply, the first first."""
    given = {"profile": profile, "accelerator": accelerator or NO_ACCELERATOR, "group": group_of(account)}
    for rule in settings.limits:
        if all(getattr(rule, name) in (None, value) for name, value in given.items()):
            yield rule
