"""Writes down what was decided about running sessions: what is announced, why, and what their owners are told.

Each thing once: notices have ids made from what they are about. Functions of a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cached_property

from sqlalchemy import Connection

from hub import audit, notices
from hub.idle import sessions, words
from hub.idle.budgets import Charged, Payer
from hub.idle.limits import longest_s
from hub.idle.policy import Announce, Leave, Spent, Stop, Verdict, Withdraw
from hub.idle.sessions import Known
from hub.idle.words import Named
from hub.quotas.model import Window
from hub.quotas.renewal import renewals
from hub.settings import Settings
from profiles.model import Catalogue, Engine
from profiles.offers import title_of
from spawner.reservation import Reservation

__all__ = ["ACTOR", "Clerk", "Texts", "end_of", "named", "payer", "stopped_id", "warning_id"]

ACTOR = "controller"
"""In the audit trail."""


def payer(held: Reservation) -> Payer:
    """Return who pays for a session."""
    return held.user, held.account or f"user:{held.user}"


def named(held: Reservation, catalogue: Catalogue, engine: Engine) -> Named:
    """Return a session as its owner knows it."""
    card = catalogue.accelerators.get(held.accelerator or "")
    return Named(held.server, title_of(card, engine) if card else held.accelerator or "")


def end_of(held: Reservation, known: Known, settings: Settings) -> float | None:
    """Return when a session ends by the limit of its length."""
    longest = longest_s(settings.idle, held)
    return None if longest is None or known.ready_at is None else known.ready_at + longest


def warning_id(spawn_id: str, kind: str) -> str:
    """Return the id of the notice that announces a stop of a session for this cause."""
    return f"{spawn_id}/{kind}"


def stopped_id(spawn_id: str) -> str:
    """Return the id of the notice that tells why a session was stopped."""
    return f"{spawn_id}/stopped"


class Texts:
    """What is said of budgets."""

    def __init__(
        self, budgets: Mapping[Payer, tuple[Charged, ...]], now: float, settings: Settings, catalogue: Catalogue
    ) -> None:
        self._budgets = budgets
        self._now = now
        self._settings = settings
        self._catalogue = catalogue

    def of(self, held: Reservation) -> tuple[Charged, ...]:
        """Return the budgets that a session uses."""
        found = self._budgets.get(payer(held), ())
        return tuple(one for one in found if one.budget.concerns(held.accelerator))

    def spent(self, held: Reservation) -> tuple[Spent, ...]:
        """Return those that are used up."""
        return tuple(Spent(one.budget.field, self.why(one)) for one in self.of(held) if one.budget.spent)

    def why(self, one: Charged) -> str:
        """Return that a budget is used up, and when it renews."""
        return words.spent(one, self.title(one), self.renewal(one.budget.window))

    def title(self, one: Charged) -> str:
        """Return what a budget's accelerator is called; empty: it is about all of them."""
        card = self._catalogue.accelerators.get(one.budget.kind)
        return title_of(card, self._settings.engine) if card else one.budget.kind

    def renewal(self, window: Window) -> str:
        """Return when a window renews, as a sentence."""
        return renewals([window], self._now, self._settings.quotas.zone)[window]


class Clerk:
    """Writes verdicts down, with their reasons."""

    def __init__(
        self,
        connection: Connection,
        budgets: Mapping[Payer, tuple[Charged, ...]],
        now: float,
        settings: Settings,
        catalogue: Catalogue,
    ) -> None:
        self._connection = connection
        self._now = now
        self._settings = settings
        self._catalogue = catalogue
        self._texts = Texts(budgets, now, settings, catalogue)

    @cached_property
    def _warned(self) -> frozenset[str]:
        """The notices about budgets that there are."""
        return notices.ids(self._connection, "budget/")

    def length(self, held: Reservation, known: Known) -> Known:
        """Note when a session ends by the limit of its length, should that be new or have changed."""
        ends_at = end_of(held, known, self._settings)
        if ends_at == known.ends_at:
            return known
        sessions.set_end(self._connection, held.id, ends_at)
        return replace(known, ends_at=ends_at)

    def spent(self, held: Reservation) -> tuple[Spent, ...]:
        """Return the budgets of a session that are used up."""
        return self._texts.spent(held)

    def warn(self, held: Reservation) -> None:
        """Warn of budgets that are nearly used up: of each part of each once in its window."""
        parts = self._settings.quotas.warn_at
        for one in self._texts.of(held):
            window = one.bounds.since if one.renews_at else self._now // 86_400
            about = f"budget/{held.user}/{one.subject}/{one.budget.field}"
            reached = [part for part in parts if one.budget.reached(Decimal(repr(part)))]
            if one.renews_at:  # what slides goes to and fro by itself
                # There is more budget than when this was said: it is not true any more, and may become so again.
                unreached = {f"{about}/{part:g}/{window:.0f}" for part in parts if part not in reached}
                notices.withdraw(self._connection, unreached & self._warned)
            if not reached or one.budget.spent:
                continue
            part = max(reached)
            notices.add(
                self._connection,
                held.user,
                "budget",
                "danger" if part == parts[-1] and len(parts) > 1 else "warning",
                words.nearly_spent(one, part, self._texts.title(one), self._texts.renewal(one.budget.window)),
                id=f"{about}/{part:g}/{window:.0f}",
                until=one.renews_at,
                for_s=None if one.renews_at else 86_400.0,
            )

    def write(self, held: Reservation, known: Known, verdict: Verdict) -> None:
        """Write down what was decided about a session."""
        match verdict:
            case Leave():
                return
            case Withdraw():
                sessions.withdraw(self._connection, held.id)
                self._forget_warnings(held)
                notices.withdraw(self._connection, [stopped_id(held.id)])  # the hub did not do it in time
                self._record(held, "session.spare", {"because": known.stop_because}, None)
            case Announce():
                self._announce(held, known, verdict)
            case Stop():
                self._stop(held, verdict)

    def _announce(self, held: Reservation, known: Known, verdict: Announce) -> None:
        sessions.announce(self._connection, held.id, verdict.stop_at, verdict.because)
        self._forget_warnings(held)
        text = words.announced(
            named(held, self._catalogue, self._settings.engine),
            verdict.because,
            verdict.stop_at,
            self._now,
            self._settings.quotas.zone,
            since=verdict.since,
            why=self._why(held),
            keeps=max(0, self._settings.idle.keeps - known.keeps),
        )
        kind = verdict.because
        notices.add(
            self._connection,
            held.user,
            kind,
            "warning" if kind == "idle" else "danger",
            text,
            id=warning_id(held.id, kind),
            spawn_id=held.id,
        )
        self._record(held, "session.announce", None, {"because": kind, "in_s": round(verdict.stop_at - self._now)})

    def _stop(self, held: Reservation, verdict: Stop) -> None:
        text = words.stopped(
            named(held, self._catalogue, self._settings.engine),
            verdict.because,
            self._now,
            self._settings.quotas.zone,
            since=verdict.since,
            why=self._why(held),
        )
        id = stopped_id(held.id)
        if notices.add(self._connection, held.user, "stopped", "warning", text, id=id, spawn_id=held.id) is None:
            return  # an earlier look has written it down; the hub is only asked again
        self._forget_warnings(held)
        self._record(held, "session.stop", None, {"because": verdict.because, "said": text})

    def _why(self, held: Reservation) -> str:
        return next((one.text for one in self.spent(held)), "")

    def _forget_warnings(self, held: Reservation) -> None:
        notices.withdraw(self._connection, [warning_id(held.id, kind) for kind in ("idle", "limit", "budget")])

    def _record(
        self, held: Reservation, action: str, before: Mapping[str, object] | None, after: Mapping[str, object] | None
    ) -> None:
        what = {"user": held.user, "server": held.server}
        audit.record(
            self._connection,
            ACTOR,
            action,
            f"session:{held.id}",
            None if before is None else {**what, **before},
            None if after is None else {**what, **after},
        )
