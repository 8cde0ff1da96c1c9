"""Which limits of idleness and length hold for a session. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hub.idle.policy import Rules
from hub.quotas.subjects import group_of
from hub.settings.idle import IdleRule, IdleSettings
from profiles.model import NO_ACCELERATOR
from spawner.reservation import Reservation

__all__ = ["idle_s", "longest_s", "rules_of"]


def idle_s(settings: IdleSettings, held: Reservation) -> float | None:
    """Return how long a session may do nothing, in seconds; None: for ever."""
    usual = settings.gpu_hours if held.accelerator else settings.cpu_hours
    hours = next((rule.idle_hours for rule in _rules(settings, held) if rule.idle_hours is not None), usual)
    return hours * 3600 or None


def longest_s(settings: IdleSettings, held: Reservation) -> float | None:
    """Return how long a session may last by the settings and by what it was granted, in seconds; None: no limit."""
    rules = (rule.session_hours for rule in _rules(settings, held) if rule.session_hours is not None)
    by_settings = next(rules, settings.session_hours) * 3600
    limits = [limit for limit in (by_settings or None, held.session_s) if limit is not None]
    return min(limits, default=None)


def rules_of(settings: IdleSettings, held: Reservation) -> Rules:
    """Return what holds for a session."""
    return Rules(
        idle_s=idle_s(settings, held),
        warn_s=settings.warn_minutes * 60,
        silent_s=settings.silent_hours * 3600,
        grace_s=settings.budget_grace_minutes * 60,
    )


def _rules(settings: IdleSettings, held: Reservation) -> Iterator[IdleRule]:
    """Yield the rules that apply, the first first."""
    given = {
        "profile": held.profile,
        "accelerator": held.accelerator or NO_ACCELERATOR,
        "group": group_of(held.account),
    }
    for rule in settings.limits:
        if all(getattr(rule, name) in (None, value) for name, value in given.items()):
            yield rule
