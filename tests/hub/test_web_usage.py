"""What the service tells of use: everybody their own, leaders their groups', administrators all; as JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arro3.io import read_parquet

from hub.db.transaction import write
from hub.settings.quotas import QuotaSettings
from hub.usage import ledger
from hub.web.usage import led_by
from tests.hub.usage_world import held
from tests.hub.web_world import FakeHub, World, problem

pytestmark = pytest.mark.hub

TODAY = datetime.fromtimestamp(time.time(), UTC).date()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    quotas = QuotaSettings(leaders={"cms-leaders": ("cms",)})
    with FakeHub() as hub, World(tmp_path_factory.mktemp("service"), hub, quotas=quotas).running() as running:
        hub.person("ann", "ann", "cms")
        hub.person("lea", "lea", "cms-leaders")
        hub.person("root", "root", admin=True)
        hub.tokens["robot"] = {**hub.tokens["ann"], "kind": "service", "name": "robot", "groups": []}
        made = [
            held("a"),
            held("b", user="ben"),
            held("c", account="user:ann"),
            held("d", user="ben", account="group:lhcb"),
        ]
        write(running.database, lambda c: [ledger.open(c, one) for one in made])
        since = time.time() - 7200
        shift = "UPDATE ledger SET opened_at = :since, beat_at = :since"
        write(running.database, lambda c: c.exec_driver_sql(shift.replace(":since", str(since))))
        write(running.database, lambda c: ledger.close(c, ["a", "c", "d"], "stopped"))
        yield running


def hours(answer: Any) -> float:
    assert answer.status_code == 200, answer.text
    return float(answer.json()["total"]["session_hours"])


SINCE = "from=" + str(TODAY.replace(day=1) if TODAY.day > 1 else TODAY.replace(year=TODAY.year - 1))


@pytest.mark.parametrize(
    ("token", "query", "expected"),
    [
        ("ann", "", 4),
        ("ann", "user=ann&account=group:cms", 2),
        ("ann", "account=user:ann", 2),
        ("lea", "", 0),
        ("lea", "account=group:cms", 4),
        ("lea", "account=group:cms&user=ben", 2),
        ("root", "everybody=true", 8),
        ("root", "user=ben", 4),
        ("root", "account=group:lhcb", 2),
    ],
)
def test_everybody_sees_what_is_theirs_to_see(world: World, token: str, query: str, expected: float) -> None:
    assert hours(world.get(f"/api/usage?{SINCE}&{query}", token)) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("token", "query"),
    [
        ("ann", "user=ben"),
        ("ann", "account=group:cms"),
        ("ann", "account=user:ben"),
        ("ann", "account=user:ben&user=ben"),
        ("ann", "everybody=true"),
        ("lea", "account=group:lhcb"),
        ("lea", "user=ben"),
        ("lea", "everybody=true"),
        ("robot", "user=ann"),
        ("robot", "account=user:robot"),
    ],
)
@pytest.mark.parametrize("path", ["/api/usage", "/api/usage/days.csv", "/api/usage.parquet"])
def test_nobody_sees_what_is_not(world: World, path: str, token: str, query: str) -> None:
    problem(world.get(f"{path}?{query}", token), 403, "not-allowed")


def test_nobody_sees_anything_without_a_login(world: World) -> None:
    problem(world.get("/api/usage"), 401, "login-needed")


def test_it_is_told_apart_as_asked(world: World) -> None:
    said = world.get(f"/api/usage?{SINCE}&everybody=true&by=account&by=user", "root").json()
    assert (said["timezone"], said["last"]) == ("UTC", str(TODAY))
    assert [(row["account"], row["user"], row["day"], row["accelerator"]) for row in said["rows"]] == [
        ("group:cms", "ann", None, None),
        ("group:cms", "ben", None, None),
        ("group:lhcb", "ben", None, None),
        ("user:ann", "ann", None, None),
    ]
    assert said["rows"][0]["accelerator_hours"] == pytest.approx(1, abs=0.02)
    assert said["rows"][0]["core_hours"] == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-11-02&to=2026-11-01", "query.to"),
        ("from=2020-01-01&to=2026-11-01", "query.from"),
        ("from=0001-01-01&to=0001-01-01", "query.from"),
        ("to=9999-12-31", "query.from"),
        ("from=yesterday", "query.from"),
        ("by=colour", "query.by.0"),
        ("account=cms", "query.account"),
        ("account=x:cms", "query.account"),
        ("user=", "query.user"),
        ("colour=red", "query.colour"),
        ("everybody=true&user=ann", "query.everybody"),
    ],
)
def test_what_cannot_be_meant_is_said(world: World, query: str, field: str) -> None:
    said = problem(world.get(f"/api/usage?{query}", "root"), 422, "bad-request")
    assert said["errors"][0]["field"] == field


def test_refusals_of_days_that_cannot_be_counted_back_from(world: World) -> None:
    said = world.get("/api/refusals?to=0001-01-05", "root")
    assert (said.status_code, said.json()["first"]) == (200, "0001-01-01"), said.text
    backwards = world.get("/api/refusals?from=2026-11-02&to=2026-11-01", "root")
    assert problem(backwards, 422, "bad-request")["errors"][0]["field"] == "query.to"


def test_a_program_says_whose_use_it_wants(world: World) -> None:
    said = problem(world.get("/api/usage", "robot"), 422, "bad-request")
    assert said["errors"][0]["field"] == "query.user"


def test_days_as_csv(world: World) -> None:
    answer = world.get(f"/api/usage/days.csv?{SINCE}", "ann")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="usage-')
    assert int(answer.headers["content-length"]) == len(answer.content)
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(line["account"], line["user"]) for line in lines} == {("group:cms", "ann"), ("user:ann", "ann")}
    assert sum(float(line["session_hours"]) for line in lines) == pytest.approx(4, abs=0.05)


def test_sessions_as_parquet(world: World, tmp_path: Path) -> None:
    answer = world.get(f"/api/usage.parquet?{SINCE}&account=group:cms", "lea")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    file = tmp_path / "use.parquet"
    file.write_bytes(answer.content)
    assert read_parquet(str(file)).read_all().column("id").to_pylist() == ["a", "b"]


def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    with FakeHub() as hub, World(tmp_path, hub).running() as world:
        hub.person("ann", "ann", "cms")
        world.database.dispose()
        world.file.write_bytes(b"nothing" * 1000)
        for path in ("/api/usage", "/api/usage/days.csv", "/api/usage.parquet"):
            said = problem(world.get(path, "ann"), 503, "database-away")
            assert "Try again in a minute" in said["detail"]


def test_who_leads_whom() -> None:
    leaders = {"cms-leaders": ("cms", "cms-gpu"), "heads": ("lhcb",)}
    assert led_by(leaders, frozenset({"cms-leaders", "cms"})) == {"cms", "cms-gpu"}
    assert led_by(leaders, frozenset({"cms"})) == frozenset()
