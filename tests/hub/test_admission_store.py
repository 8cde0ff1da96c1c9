"""Requests at the service: what is granted, what waits, what is refused; in one transaction, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, select

from hub import audit
from hub.admission import changes, reservations, tickets
from hub.admission.doors import Starts, Waits, change
from hub.db.tables import ledger
from spawner.refusal import Refusal
from tests.hub.admission_world import Site
from tests.hub.hub_double import HubDouble
from tests.hub.statements import statements


@pytest.fixture
def site(database: Engine) -> Site:
    return Site(database, HubDouble())


def test_what_is_free_is_reserved_with_its_ticket_starting_and_its_ledger_row_open(site: Site) -> None:
    answer = site.ask("ann")
    assert isinstance(answer, Starts)
    assert answer.new
    assert answer.ticket.state == "starting"
    [held] = site.read(reservations.all)
    assert (held.id, held.state, held.ticket) == (answer.ticket.spawn_id, "granted", answer.ticket.id)
    assert (held.account, held.share, held.devices) == ("user:ann", 1.0, ("card-0",))
    rows = site.read(lambda found: list(found.execute(select(ledger.c.id, ledger.c.closed_at, ledger.c.account))))
    assert [tuple(row) for row in rows] == [(held.id, None, "user:ann")]


def place_of(site: Site, waits: Waits) -> tuple[int, int]:
    found = site.read(lambda connection: site.desk.store.place(connection, waits.ticket))
    assert found is not None
    return found.place, found.of


def test_asking_again_for_the_same_changes_nothing(site: Site) -> None:
    first = site.ask("ann")
    again = site.ask("ann")
    assert isinstance(again, Starts)
    assert not again.new
    assert again.ticket == first.ticket
    site.ask("bob")
    waits = site.ask("cleo")
    assert isinstance(waits, Waits)
    again = site.ask("cleo")
    assert isinstance(again, Waits)
    assert again.ticket == waits.ticket
    assert place_of(site, again) == (1, 1)
    assert len(site.held()) == 2


def test_asking_again_for_the_same_with_a_mail_is_heard(site: Site) -> None:
    site.ask("ann", count=2)
    first = site.ask("bob")
    assert not first.ticket.notify
    assert site.ask("bob", notify=True).ticket.notify
    assert site.ask("bob").ticket.notify
    assert site.ticket(first.ticket.id).notify


def test_places_follow_the_order_of_asking(site: Site) -> None:
    for name in ("ann", "bob", "cleo", "dan", "eve"):
        site.ask(name)
    places = site.read(lambda found: site.desk.store.queue(site.desk.store.standing(found)))
    assert [(one.place, one.of) for one in places.values()] == [(1, 3), (2, 3), (3, 3)]


def test_who_may_not_wait_is_refused_and_leaves_no_trace(site: Site) -> None:
    site.ask("ann", count=2)
    with pytest.raises(Refusal) as refused:
        site.ask("bob", may_wait=False)
    assert refused.value.code == "full"
    assert site.read(lambda found: tickets.of_user(found, "bob")) == ()


def test_a_server_that_runs_is_not_started_again(site: Site) -> None:
    site.ask("ann")
    with pytest.raises(Refusal) as refused:
        site.ask("ann", "slice")
    assert (refused.value.code, refused.value.status_code) == ("already-running", 409)
    assert isinstance(site.ask("ann", "slice", server="two"), Starts)


def test_without_a_start_slot_it_waits_and_holds_nothing(database: Engine) -> None:
    site = Site(database, HubDouble(), start_slots=1)
    site.ask("ann")
    answer = site.ask("bob")
    assert isinstance(answer, Waits)
    assert answer.queued is None
    assert "starting" in answer.ticket.said
    assert list(site.held()) == ["ann/"]


def test_the_number_of_places_is_limited(database: Engine) -> None:
    site = Site(database, HubDouble(), tickets=1)
    site.ask("ann", count=2)
    assert isinstance(site.ask("bob"), Waits)
    with pytest.raises(Refusal) as refused:
        site.ask("bob", server="two")
    assert refused.value.code == "queue-full"


def test_a_limit_refuses_and_a_shared_one_queues(site: Site) -> None:
    site.limit("default", "accelerators:card", 1)
    site.limit("group:cms", "accelerators", 1)
    with pytest.raises(Refusal) as refused:
        site.ask("ann", count=2)
    assert refused.value.code.startswith("quota-")
    first = site.ask("ann", groups=["cms"])
    assert first.ticket.account == "group:cms"
    second = site.ask("bob", groups=["cms"])
    assert isinstance(second, Waits)
    assert second.queued is not None
    assert second.queued.cause == "limit"
    own = site.ask("bob", groups=["cms"], server="own", options={"account": "user:bob"})
    assert isinstance(own, Starts)
    with pytest.raises(Refusal) as refused:
        site.ask("cleo", options={"account": "group:cms"})
    assert refused.value.code == "account"


@pytest.mark.parametrize("named", [True, False])
def test_what_was_used_comes_with_the_first_statement_whether_the_account_is_named_or_not(
    site: Site, database: Engine, *, named: bool
) -> None:
    site.groups = {name: frozenset({"cms", "alice"}) for name in ("ann", "bob", "cleo", "dan")}
    site.limit("group:cms", "hours:week", 100)
    site.limit("default", "hours:month", 50)

    def asked(user: str) -> list[str]:
        with statements(database) as sent:
            answer = site.ask(user, "none", options={"account": "group:cms"} if named else {})
        assert answer.ticket.account == "group:cms"
        return [text for text in sent if "usage_spans" in text]

    for user in ("ann", "bob"):  # which windows matter, and whose, is learnt
        asked(user)
    assert [len(asked(user)) for user in ("cleo", "dan")] == [1, 1]


def test_a_smaller_request_keeps_its_place_and_a_larger_one_loses_it(site: Site) -> None:
    site.ask("ann", count=2)
    first = site.ask("bob", count=2)
    site.ask("cleo")
    assert isinstance(first, Waits)
    smaller = site.write(lambda found: change(found, site.desk.store, first.ticket, site.wish("bob", count=1)))
    assert smaller.ticket.rank == first.ticket.rank
    assert place_of(site, smaller) == (1, 2)
    larger = site.write(lambda found: change(found, site.desk.store, smaller.ticket, site.wish("bob", count=2)))
    assert larger.ticket.rank > first.ticket.rank
    assert place_of(site, larger) == (2, 2)


def test_another_request_for_a_server_that_waits_takes_its_tickets_place(site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob")
    answer = site.ask("bob", "slice")
    assert isinstance(answer, Starts)
    assert site.ticket(waits.ticket.id).ended_as == "left"
    assert len(site.read(lambda found: tickets.of_user(found, "bob"))) == 1


def test_leaving_gives_back_what_was_granted_and_lets_nobody_in_twice(site: Site) -> None:
    answer = site.ask("ann", count=2)
    left = site.write(lambda found: changes.leave(found, answer.ticket.id, "left", "You left the queue."))
    assert left is not None
    assert left.state == "starting"
    assert site.held() == {}
    assert site.write(lambda found: changes.leave(found, answer.ticket.id, "left", "Again.")) is None
    closed = site.read(lambda found: found.execute(select(ledger.c.ended_as, ledger.c.closed_at)).one())
    assert closed.ended_as == "left"
    assert closed.closed_at is not None


def test_moved_and_expedited_tickets_have_other_places_and_are_audited(site: Site) -> None:
    site.ask("ann", count=2)
    first, second, third = (site.ask(name).ticket.id for name in ("bob", "cleo", "dan"))

    def order() -> list[str]:
        return list(site.read(lambda found: site.desk.store.queue(site.desk.store.standing(found))))

    assert order() == [first, second, third]
    site.write(lambda found: changes.move(found, third, second, "user:admin"))
    assert order() == [first, third, second]
    site.write(lambda found: changes.move(found, first, None, "user:admin"))
    assert order() == [third, second, first]
    site.write(lambda found: changes.expedite(found, first, "user:admin"))
    assert order() == [first, third, second]
    site.write(lambda found: changes.leave(found, second, "cancelled", "Maintenance.", "user:admin"))
    actions = [entry.action for entry in site.read(audit.recent)]
    assert sorted(actions) == ["ticket.cancel", "ticket.expedite", "ticket.move", "ticket.move"]


def test_who_was_put_in_front_can_be_put_behind_all_again(site: Site) -> None:
    site.ask("ann", count=2)
    first, second, third = (site.ask(name).ticket.id for name in ("bob", "cleo", "dan"))
    site.write(lambda found: changes.expedite(found, first, "user:admin"))
    moved = site.write(lambda found: changes.move(found, first, None, "user:admin"))
    assert list(site.read(lambda found: site.desk.store.queue(site.desk.store.standing(found)))) == [
        second,
        third,
        first,
    ]
    assert moved is not None
    assert moved.priority == 0


def test_a_place_between_two_is_there_however_often_somebody_is_moved_there(site: Site) -> None:
    site.ask("ann", count=2)
    names = [site.ask(f"user{number}").ticket.id for number in range(4)]
    order = list(names)
    for number in range(40):  # each time between the same two: half of what was left
        last = order[-1] if number % 2 else order[-2]
        order.remove(last)
        order.insert(1, last)
        before = order[2]
        site.write(lambda found, last=last, before=before: changes.move(found, last, before, "user:admin"))
        assert [one.id for one in site.read(tickets.waiting)] == order, number
    assert len({one.rank for one in site.read(tickets.waiting)}) == 4


def test_requests_at_once_never_grant_more_than_there_is(site: Site) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: site.ask(f"user{number}"), range(24)))
    assert sum(isinstance(answer, Starts) for answer in answers) == 2
    devices = [device for held in site.read(reservations.all) for device in held.devices]
    assert sorted(devices) == ["card-0", "card-1"]
    waiting = site.read(tickets.waiting)
    assert len(waiting) == 22


# --- start slots, places and limits ----------------------------------------------------------------------------------


def test_without_a_start_slot_the_limit_of_places_holds_as_well(database: Engine) -> None:
    site = Site(database, HubDouble(), start_slots=1, tickets=2)
    assert isinstance(site.ask("ann", "none"), Starts)
    for name in ("a", "b"):
        assert isinstance(site.ask("bob", "none", server=name), Waits)
    with pytest.raises(Refusal) as refused:
        site.ask("bob", "none", server="c")
    assert (refused.value.code, refused.value.status_code) == ("queue-full", 409)
    with pytest.raises(Refusal) as refused:
        site.ask("cleo", "none", may_wait=False)
    assert (refused.value.code, refused.value.status_code) == ("no-slot", 503)
    assert refused.value.headers["Retry-After"] == "5"
    assert len(site.read(tickets.waiting)) == 2


def test_where_nobody_queues_who_finds_no_slot_is_told_to_try_again(database: Engine) -> None:
    site = Site(database, HubDouble(), start_slots=1, tickets=0)
    assert isinstance(site.ask("ann", "none"), Starts)
    with pytest.raises(Refusal) as refused:
        site.ask("bob", "none")
    assert refused.value.code == "no-slot"


def test_places_and_lengths_of_a_group_are_limited_together(site: Site) -> None:
    site.limit("group:cms", "queued", 1)
    site.limit("group:cms", "session_s", 600)
    for user in ("ann", "bob", "cleo"):
        site.groups[user] = frozenset({"cms"})
    site.ask("xenia", count=2)
    first = site.ask("ann")
    assert isinstance(first, Waits)
    assert (first.ticket.account, first.ticket.session_s) == ("group:cms", 600)
    with pytest.raises(Refusal) as refused:
        site.ask("bob")
    assert refused.value.code == "queue-full"
    assert "group cms" in refused.value.text
    assert isinstance(site.ask("dora"), Waits), "who charges something else is not concerned"


def test_a_change_to_less_keeps_the_place_although_a_limit_shortens_sessions(site: Site) -> None:
    site.limit("default", "session_s", 3600)
    site.ask("xenia", count=2)
    mine = site.ask("ann", count=2).ticket
    site.ask("bob")
    assert mine.session_s == 3600
    changed = site.write(lambda found: change(found, site.desk.store, mine, site.wish("ann"))).ticket
    assert changed.rank == mine.rank


def test_who_was_put_in_front_and_asks_for_something_else_stands_there_as_everybody_else(site: Site) -> None:
    site.ask("xenia", count=2)
    site.ask("yuri", "slice", count=2)
    before = site.ask("bob", "slice")
    mine = site.ask("ann").ticket
    site.write(lambda found: tickets.move(found, mine.id, priority=1))
    moved = site.ticket(mine.id)
    changed = site.write(lambda found: change(found, site.desk.store, moved, site.wish("ann", "slice"))).ticket
    assert changed.priority == 0
    assert changed.rank > before.ticket.rank
