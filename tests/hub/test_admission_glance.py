"""What is asked first of all: what was used comes with it, where it is known over which windows, and when these begin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from hub.admission.memory import Memory, Sight
from hub.usage.sums import used_by_each
from hub.usage.windows import WINDOWS
from tests.hub.statements import statements
from tests.hub.usage_world import ROME, Books, at, held

HOUR = 3600.0
ASKED = {"by:ann": WINDOWS, "group:cms": ("week", "month"), "by:nobody": ("day",)}


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    found = Books(database_url, at("2026-11-20T22:10"))
    for name, share in (("one", 1.0), ("two", 0.25)):
        found.open(held(name, share=share))
        found.clock.advance(HOUR)
    found.close("one")
    found.clock.advance(HOUR / 7)
    yield found
    found.close_engine()


def look(books: Books, memory: Memory) -> Sight:
    return books.read(lambda connection: memory.look(connection, ("default",), ASKED, ROME))


def test_what_was_used_comes_with_the_second_look_and_is_what_a_question_of_its_own_tells(books: Books) -> None:
    memory = Memory()
    assert look(books, memory).windows == {}  # when the windows begin is known by the first
    with statements(books.engine) as sent:
        sight = look(books, memory)
    [one] = [one for one in sent if "usage_spans" in one]
    assert "snapshot" in one
    assert sight.windows == ASKED

    def alone(connection: Connection) -> None:
        told = used_by_each(connection, ASKED, ROME, now=sight.now)
        assert set(told) == set(sight.used) == set(ASKED)
        for subject, used in told.items():
            assert dict(sight.used[subject]) == pytest.approx(dict(used), abs=0.5)

    books.read(alone)
    assert sight.used["by:ann"]["week", ""] > HOUR
    assert sight.used["by:nobody"] == {}


def test_where_the_clock_was_set_over_the_beginning_of_a_window_it_is_left_out_once(books: Books) -> None:
    memory = Memory()
    look(books, memory)
    for days in (8, -8):
        books.clock.advance(days * 24 * HOUR)
        assert look(books, memory).windows == {}
        again = look(books, memory)
        assert again.windows == ASKED
        assert again.used["by:ann"]["day", ""] > 0


def test_a_fold_in_between_changes_nothing_of_it(books: Books) -> None:
    memory = Memory()
    look(books, memory)
    before = look(books, memory).used
    books.fold()
    after = look(books, memory).used
    assert {subject: dict(used) for subject, used in after.items()} == {
        subject: pytest.approx(dict(used), abs=0.5) for subject, used in before.items()
    }
