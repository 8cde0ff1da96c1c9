"""Use as files: what a spreadsheet and a data frame get, complete, whatever happens meanwhile."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from arro3.io import read_parquet

from hub.db.transaction import DatabaseAway
from hub.usage import export, ledger
from hub.usage.export import COLUMNS, cell, write_days, write_sessions
from hub.usage.reports import Scope
from tests.hub.usage_world import ROME, Books, at, held

BEGIN = at("2026-11-21T22:00")


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, BEGIN)
    yield made
    made.close_engine()


def frame(file: Path) -> dict[str, list[object]]:
    """The columns of a Parquet file."""
    found = read_parquet(str(file)).read_all()
    return {name: found.column(name).to_pylist() for name in found.schema.names}


def test_days_are_lines(books: Books) -> None:
    books.open(held("s"), held("t", user="ben", account="user:ben", accelerator=None, count=0, share=0.0))
    books.clock.advance(3 * 3600)
    books.close("s")
    books.fold()
    out = io.StringIO()
    assert write_days(books.engine, Scope(), date(2026, 11, 1), date(2026, 11, 30), ROME, out) == 4
    lines = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert lines[0] == {
        "day": "2026-11-21",
        "account": "group:cms",
        "user": "ann",
        "accelerator": "t4",
        "accelerator_hours": "1.000000",
        "card_hours": "2.000000",
        "session_hours": "2.000000",
        "core_hours": "4.000000",
    }
    assert [(line["day"], line["user"], line["accelerator"], line["session_hours"]) for line in lines[1:]] == [
        ("2026-11-21", "ben", "", "2.000000"),
        ("2026-11-22", "ann", "t4", "1.000000"),
        ("2026-11-22", "ben", "", "1.000000"),  # still open, counted up to now
    ]
    assert "\r\n" in out.getvalue()


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", "\rx"])
def test_no_name_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell("ann=1") == "ann=1"


def test_every_session_is_a_row(books: Books, tmp_path: Path) -> None:
    books.open(held("over"), held("open", user="ben"), held("earlier", user="cid"))
    books.write(lambda c: ledger.beat(c, {"over": ledger.Ran("n1", "lab:1", "sha256:aa")}))
    books.close("earlier")
    books.clock.advance(7200)
    books.close("over")
    made = books.write(lambda c: ledger.correct(c, "over", -600, "root: it hung"))
    file = tmp_path / "use.parquet"
    assert write_sessions(books.engine, Scope(), BEGIN + 60, BEGIN + 86_400, file) == 3
    found = frame(file)
    assert list(found) == [column.name for column in COLUMNS]
    assert found["id"] == [made, "over", "open"]  # in the order of their ends, the open ones last
    assert found["corrects"] == ["over", None, None]
    assert found["seconds"] == pytest.approx([-600, 7200, 0], abs=1e-3)
    assert found["image"] == ["lab:1", "lab:1", ""]
    assert found["by"][0] == "root: it hung"
    opened = found["opened_at"][1]
    assert isinstance(opened, datetime)
    assert abs(opened - datetime.fromtimestamp(BEGIN, UTC)).total_seconds() < 0.001
    assert found["closed_at"][2] is None


def test_whose_sessions_they_are(books: Books, tmp_path: Path) -> None:
    books.open(
        held("a"), held("b", user="ben"), held("c", account="user:ann"), held("d", user="ben", account="user:ben")
    )
    books.clock.advance(60)
    books.close("a", "b", "c")
    file = tmp_path / "use.parquet"
    for scope, ids in (
        (Scope("ann"), {"a", "c"}),
        (Scope(account="group:cms"), {"a", "b"}),
        (Scope("ben", "group:cms"), {"b"}),
        (Scope("ben"), {"b", "d"}),
        (Scope("nobody"), set()),
    ):
        assert write_sessions(books.engine, scope, 0, BEGIN + 86_400, file) == len(ids)
        assert set(frame(file)["id"]) == ids


def test_more_rows_than_are_read_at_once(books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 7)
    keys = [f"s{number:03}" for number in range(50)]
    books.write(lambda c: [ledger.open(c, held(key)) for key in keys])
    for number in range(0, 45, 5):  # five end at the same moment
        books.clock.advance(60)
        books.close(*keys[number : number + 5])
    file = tmp_path / "use.parquet"
    assert write_sessions(books.engine, Scope(), 0, BEGIN + 86_400, file) == 50
    assert sorted(str(key) for key in frame(file)["id"]) == keys


def test_a_session_that_ends_meanwhile_is_there_once(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 2)
    books.open(*(held(f"s{number}") for number in range(6)))
    usual, asked = export.sessions_closed, 0

    def slow(*words: object) -> object:
        nonlocal asked
        asked += 1
        return usual(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "sessions_closed", slow)
    rows = export._sessions(books.engine, Scope(), 0, BEGIN + 86_400)
    books.clock.advance(60)
    books.close("s0", "s1")
    seen = [row.id for row in next(rows)]
    books.clock.advance(60)
    books.close("s2", "s3")
    seen += [row.id for page in rows for row in page]
    assert seen == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert asked == 3


def test_a_database_that_goes_away_is_said_and_no_file_is_taken_for_whole(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.open(*(held(f"s{number}") for number in range(4)))
    books.close(*(f"s{number}" for number in range(4)))
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 2)
    usual, asked = export.read, 0

    def away(*words: object) -> object:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise DatabaseAway("the database has gone")
        return usual(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "read", away)
    with pytest.raises(DatabaseAway, match="has gone"):
        write_sessions(books.engine, Scope(), 0, BEGIN + 86_400, tmp_path / "use.parquet")


def test_an_empty_time_is_a_file_with_columns_only(books: Books, tmp_path: Path) -> None:
    file = tmp_path / "use.parquet"
    with file.open("wb") as out:
        assert write_sessions(books.engine, Scope(), 0, BEGIN, out) == 0
    assert frame(file)["id"] == []
