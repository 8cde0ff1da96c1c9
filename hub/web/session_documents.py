"""What is told of running sessions: to their owners, to the extension inside them, to pages.

`images/labextension/src/state.ts` has the same shapes. Functions of a connection make them; they read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from hub import notices
from hub.admission import reservations, tickets
from hub.admission.tickets import Ticket
from hub.db.clock import Now
from hub.db.tables import reservations as held_table
from hub.idle import sessions
from hub.idle.budgets import Charged, charged
from hub.idle.clerk import payer
from hub.idle.sessions import Known
from hub.quotas.model import Window
from hub.settings.idle import IdleSettings
from hub.settings.quotas import QuotaSettings
from profiles.model import Catalogue, Engine
from profiles.offers import title_of
from spawner.reservation import Reservation

__all__ = [
    "BudgetSaid",
    "InLine",
    "LinksSaid",
    "LiveSession",
    "NoticeSaid",
    "SessionSaid",
    "StateSaid",
    "Teller",
    "said_notice",
]

_WINDOWS: dict[Window, str] = {
    "day": "today",
    "week": "this week",
    "month": "this month",
    "24h": "the last 24 hours",
    "7d": "the last 7 days",
    "30d": "the last 30 days",
}

_MOMENT = "Seconds since 1970 by the database's clock."


class KeepSaid(BaseModel):
    """Whether *Keep my session* would do something now."""

    possible: bool = Field(description="A stop is announced that it would put off.")
    left: int | None = Field(description="How often it may still be asked for in this session.")


class SessionSaid(BaseModel):
    """A running session."""

    id: str = Field(description="Names this start of the server.")
    server: str = Field(description="Name of the server; empty: the one without a name.")
    accelerator: str = Field(description="Key; empty: none.")
    title: str = Field(description="What it is called on screen; empty: none.")
    count: int = Field(description="How many.")
    share: float = Field(description="Of whole cards, all of the count together.")
    simulated: bool = Field(description="Whether it is only imagined.")
    profile: str = Field(description="Title of what was started.")
    account: str = Field(description="What is charged: `user:NAME` or `group:NAME`.")
    started_at: float | None = Field(description=_MOMENT)
    ends_at: float | None = Field(description="When its length reaches its limit; null: it has none. " + _MOMENT)
    stop_at: float | None = Field(description="When it will be stopped; null: nothing is announced. " + _MOMENT)
    stop_because: str = Field(description="Why: idle, limit, budget, switch or admin; empty: it will not be.")
    active_at: float | None = Field(description="Last sign of work. " + _MOMENT)
    keep: KeepSaid


class BudgetSaid(BaseModel):
    """One limit over a time, in share-hours: hours of a whole card."""

    whose: str = Field(description="`you`, or for example `group cms`.")
    what: str = Field(description="What is counted; empty: accelerators of every kind.")
    window: str = Field(description="`this week`, `the last 24 hours` …")
    used_h: float = Field(description="Share-hours used in it.")
    limit_h: float = Field(description="Share-hours that may be.")
    renews_at: float | None = Field(description="When it begins anew; null: it slides. " + _MOMENT)
    field: str = Field(description="As in the API of quotas.")


class NoticeSaid(BaseModel):
    """Something to be read."""

    id: str = Field(description="Names it.")
    kind: str = Field(description="idle, budget, limit, stopped, queue or maintenance.")
    level: str = Field(description="info, warning or danger.")
    text: str = Field(description="What is to be read.")
    made_at: float = Field(description=_MOMENT)
    until: float | None = Field(description="Not shown from then on; null: until it is dismissed. " + _MOMENT)


class TicketSaid(BaseModel):
    """A place in the queue for what the session is to be switched to."""

    id: str = Field(description="Names it.")
    title: str = Field(description="What is waited for, as on screen.")
    place: int = Field(description="1: next; 0: it is being started.")
    of: int = Field(description="How many wait.")
    text: str = Field(description="Why it waits, and an estimate if there is one.")


class LinksSaid(BaseModel):
    """Paths of pages."""

    usage: str = Field(description="Of what was used.")
    queue: str = Field(description="Of the queue.")


class StateSaid(BaseModel):
    """All that a session is told of itself."""

    now: float = Field(description=_MOMENT)
    session: SessionSaid
    budgets: list[BudgetSaid] = Field(description="What is left of each.")
    notices: list[NoticeSaid] = Field(description="The newest first.")
    ticket: TicketSaid | None = Field(description="What it waits to be switched to; null: nothing.")
    links: LinksSaid


class LiveSession(SessionSaid):
    """A running session with what it measured of itself."""

    measured_at: float | None = Field(description="When that was; null: never. " + _MOMENT)
    measures: dict[str, object] = Field(
        description="`last`: cpu (cores), memory (bytes), devices and more; `past`: half an hour of "
        "`[at, cpu, memory, utilisation]`, the oldest first. Empty: nothing is known."
    )


@dataclass(frozen=True)
class InLine:
    """Where a ticket stands, in words.

    `stops_at`: when the session is stopped that is switched by it; None: it waits yet.
    """

    place: int
    of: int
    text: str
    stops_at: float | None = None


class Teller:
    """Makes the documents.

    Parameters
    ----------
    links
        Where pages are.
    place
        Where a ticket stands; None: nobody can tell.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        engine: Engine,
        idle: IdleSettings,
        quotas: QuotaSettings,
        links: LinksSaid,
        place: Callable[[Connection, Ticket], InLine | None] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._engine = engine
        self._idle = idle
        self._quotas = quotas
        self._links = links
        self._place = place

    def state(self, connection: Connection, user: str, server: str) -> StateSaid | None:
        """Return what a session is told; None: nothing is held for this server."""
        held = _newest(reservations.of_server(connection, user, server))
        if held is None:
            return None
        now, known = _now(connection), sessions.of(connection, held.id)
        budgets = charged(connection, [payer(held)], self._quotas.zone)[payer(held)]
        ticket = tickets.of_server(connection, user, server)
        where = self._place(connection, ticket) if self._place and ticket else None
        switched_at = where.stops_at if where and ticket and ticket.replaces == held.id else None
        session = self.session(held, known, _started(connection, [held.id]).get(held.id))
        return StateSaid(
            now=now,
            session=_switched(session, switched_at),
            budgets=[self._budget(one) for one in budgets],
            notices=[said_notice(one) for one in notices.of_user(connection, user, spawn_id=held.id)],
            ticket=None if ticket is None else self._ticket(ticket, where or InLine(0, 0, ticket.said)),
            links=self._links,
        )

    def live(self, connection: Connection, user: str) -> list[LiveSession]:
        """Return this person's sessions that run."""
        begun = (held_table.c.user_name == user, held_table.c.state == "begun")
        ids: Sequence[str] = connection.scalars(
            select(held_table.c.id).where(*begun).order_by(held_table.c.reserved_at)
        ).all()
        mine = [held for id in ids if (held := reservations.find(connection, id)) is not None]
        started = _started(connection, [one.id for one in mine])
        found = []
        for held in mine:
            known = sessions.of(connection, held.id)
            said = self.session(held, known, started.get(held.id)).model_dump()
            measures = dict(known.measures) if known else {}
            found.append(LiveSession(**said, measured_at=known.measured_at if known else None, measures=measures))
        return found

    def session(self, held: Reservation, known: Known | None, granted_at: float | None) -> SessionSaid:
        """Return one session."""
        card = self._catalogue.accelerators.get(held.accelerator or "")
        profile = self._catalogue.profiles.get(held.profile)
        left = max(0, self._idle.keeps - (known.keeps if known else 0))
        because = known.stop_because if known else ""
        return SessionSaid(
            id=held.id,
            server=held.server,
            accelerator=held.accelerator or "",
            title=card.title if card else held.accelerator or "",
            count=held.count,
            share=held.share,
            simulated=bool(card and self._engine == "local" and card.simulated),
            profile=profile.title if profile else held.profile,
            account=held.account,
            started_at=(known.ready_at if known else None) or granted_at,
            ends_at=known.ends_at if known else None,
            stop_at=known.stop_at if known else None,
            stop_because=because,
            active_at=known.active_at if known else None,
            keep=KeepSaid(possible=because == "idle" and left > 0, left=left),
        )

    def _budget(self, one: Charged) -> BudgetSaid:
        card = self._catalogue.accelerators.get(one.budget.kind)
        return BudgetSaid(
            whose=one.whose,
            what=title_of(card, self._engine) if card else one.budget.kind,
            window=_WINDOWS[one.budget.window],
            used_h=round(float(one.budget.used_hours), 4),
            limit_h=float(one.budget.limit_hours),
            renews_at=one.renews_at,
            field=one.budget.field,
        )

    def _ticket(self, ticket: Ticket, where: InLine) -> TicketSaid:
        card = self._catalogue.accelerators.get(ticket.accelerator or "")
        title = title_of(card, self._engine) if card else ticket.accelerator or "no accelerator"
        return TicketSaid(id=ticket.id, title=title, place=where.place, of=where.of, text=where.text)


def said_notice(one: notices.Notice) -> NoticeSaid:
    """Return a notice as it is told."""
    return NoticeSaid(id=one.id, kind=one.kind, level=one.level, text=one.text, made_at=one.made_at, until=one.until)


def _switched(session: SessionSaid, at: float | None) -> SessionSaid:
    """Return the session with the stop that comes first, of that of a switch and what else is announced."""
    if at is None or (session.stop_at is not None and session.stop_at <= at):
        return session
    if session.stop_because == "switch":
        return session
    keep = session.keep.model_copy(update={"possible": False})
    return session.model_copy(update={"stop_at": at, "stop_because": "switch", "keep": keep})


def _newest(held: Sequence[Reservation]) -> Reservation | None:
    return next((one for one in reversed(held) if one.state == "begun"), None)


def _started(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    mine = select(held_table.c.id, held_table.c.reserved_at).where(held_table.c.id.in_(ids))
    return {row.id: row.reserved_at for row in connection.execute(mine)}


def _now(connection: Connection) -> float:
    return float(connection.scalar(select(Now())) or 0.0)
