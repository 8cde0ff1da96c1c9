"""Limits by the API: everybody sees what limits them and what is left; administrators set them, and nobody unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Connection

from hub.admission import reservations, tickets
from hub.admission.tickets import Ticket
from hub.db.transaction import read, write
from hub.quotas.model import parse_field
from hub.quotas.store import declare, etag, load
from hub.settings.quotas import QuotaSettings
from spawner.reservation import Reservation
from tests.hub.quota_world import quotas
from tests.hub.web_world import FakeHub, World, problem


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeHub() as hub, World(tmp_path, hub, quotas=QuotaSettings(timezone="Europe/Rome")).running() as world:
        hub.person("ann", "ann", "cms")
        hub.person("root", "root", admin=True)
        yield world


def ask(world: World, method: str, path: str, token: str = "root", body: Any = None, **headers: str) -> httpx.Response:
    """Ask as a program; `If_Match` is the header If-Match."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.request(
        method,
        f"{world.url}/api/quotas{path}",
        headers={"Authorization": f"token {token}", **named},
        json=body,
        timeout=20,
    )


def put(world: World, path: str, value: object, **headers: str) -> httpx.Response:
    return ask(world, "PUT", path, body={"value": value}, **(headers or {"If_None_Match": "*"}))


def in_database(world: World, work: Callable[[Connection], Any]) -> Any:
    return write(world.database, work)


def actions(world: World) -> list[tuple[str, str, str]]:
    said = world.get("/api/audit", "root").json()
    return [(entry["actor"], entry["action"], entry["subject"]) for entry in said["entries"]]


# --- what limits me ----------------------------------------------------------------------------------------------


def test_everybody_sees_their_limits_what_is_used_and_what_is_left(world: World) -> None:
    in_database(
        world,
        lambda connection: declare(
            connection,
            quotas(
                {
                    "default": {"servers": 2, "accelerators:t4": 1, "session_s": "12h"},
                    "group:cms": {"hours:week": 40, "accelerators": "unlimited", "accelerators:t4": 3},
                }
            ),
            "file quotas.yaml",
        ),
    )
    for held in (
        Reservation("a", "ann", "", "lab", "t4", 1, share=1.0, account="group:cms"),
        Reservation("b", "ben", "", "lab", "t4", 1, share=1.0, account="group:cms"),
    ):
        in_database(world, lambda connection, held=held: reservations.insert(connection, held, expires_in_s=60))
    said = ask(world, "GET", "", "ann").json()
    assert said["timezone"] == "Europe/Rome"
    assert [(one["account"], one["title"], one["default"]) for one in said["accounts"]] == [
        ("group:cms", "group cms", True),
        ("user:ann", "your own account", False),
    ]
    cms, own = ({(limit["field"], limit["shared"]): limit for limit in one["limits"]} for one in said["accounts"])
    servers = cms["servers", False]
    assert (servers["value"], servers["used"], servers["left"], servers["unit"]) == (2, 1, 1, "servers")
    assert (servers["text"], servers["holds_for"], servers["declared"]) == ("2 servers", "for each person", True)
    assert (cms["accelerators:t4", False]["left"], cms["accelerators:t4", True]["left"]) == (0, 1)
    assert cms["accelerators:t4", True]["text"] == "3 T4 (simulated)"
    assert cms["accelerators:t4", True]["unit"] == "pieces"
    week = cms["hours:week", True]
    assert (week["value"], week["left"], week["unit"]) == (40, pytest.approx(40, abs=0.1), "card-hours")
    assert week["text"] == "40 card-hours a week"
    assert week["renews_at"] > servers["value"]
    unlimited = cms["accelerators", True]
    assert (unlimited["value"], unlimited["left"], unlimited["text"]) == (None, None, "no limit of cards")
    length = cms["session_s", False]
    assert (length["used"], length["text"]) == (None, "sessions of at most 12 hours")
    assert set(own) == {("servers", False), ("accelerators:t4", False), ("session_s", False)}


def test_places_of_a_group_that_are_taken_are_told(world: World) -> None:
    in_database(world, lambda connection: declare(connection, quotas({"group:cms": {"queued": 3}}), "file"))
    for name in ("ben", "cid"):
        waits = Ticket(name, name, "", "lab", {}, "group:cms", "t4", 1)
        in_database(world, lambda connection, waits=waits: tickets.insert(connection, waits))
    [cms, _] = ask(world, "GET", "", "ann").json()["accounts"]
    [places] = cms["limits"]
    assert (places["field"], places["used"], places["left"]) == ("queued", 2, 1)


def test_hours_that_were_used_are_counted_from_the_ledger(world: World) -> None:
    in_database(world, lambda connection: declare(connection, quotas({"default": {"hours:30d": 1}}), "file"))
    held = Reservation("a", "ann", "", "lab", "t4", 1, share=1.0, account="user:ann")
    in_database(world, lambda connection: reservations.insert(connection, held, expires_in_s=60))
    first = ask(world, "GET", "", "ann").json()["accounts"][0]["limits"][0]
    second = ask(world, "GET", "", "ann").json()["accounts"][0]["limits"][0]
    assert 0 <= first["used"] < second["used"] < 0.1
    assert second["left"] == pytest.approx(1 - second["used"])
    assert second["renews_at"] is None


def test_without_limits_there_is_an_account_and_nothing_else(world: World) -> None:
    said = ask(world, "GET", "", "ann").json()
    assert said["accounts"] == [{"account": "user:ann", "title": "your own account", "default": True, "limits": []}]


def test_what_a_program_sets_is_not_told_to_be_a_persons(world: World) -> None:
    world.hub.person("robot", "ann", kind="service", admin=True)
    assert ask(world, "PUT", "/default/servers", "robot", {"value": 3}, If_None_Match="*").json()["changed_by"] == (
        "service:ann"
    )
    assert ask(world, "DELETE", "/default/servers", "robot", If_Match="*").status_code == 204
    assert {actor for actor, _, _ in actions(world)} == {"service:ann"}


def test_a_program_that_is_nobody_has_no_accounts(world: World) -> None:
    world.hub.person("robot", "robot", kind="service")
    assert ask(world, "GET", "", "robot").json()["accounts"] == []


# --- setting limits ----------------------------------------------------------------------------------------------


def test_a_limit_is_set_seen_changed_and_removed_each_on_what_was_seen(world: World) -> None:
    made = put(world, "/group:cms/hours:week", 40)
    assert made.status_code == 200, made.text
    assert made.json()["text"] == "40 card-hours a week"
    tag = made.headers["ETag"]
    assert tag == f'"{made.json()["etag"]}"'
    seen = ask(world, "GET", "/group:cms/hours:week")
    assert (seen.headers["ETag"], seen.json()) == (tag, made.json())
    changed = put(world, "/group:cms/hours:week", "unlimited", If_Match=tag)
    assert (changed.json()["value"], changed.json()["written"]) == (None, "unlimited")
    assert changed.json()["changed_by"] == "user:root"
    late = problem(put(world, "/group:cms/hours:week", 1, If_Match=tag), 412, "changed-meanwhile")
    assert "now it is unlimited, set by user:root" in late["detail"]
    assert late["etag"] == changed.json()["etag"]
    problem(ask(world, "DELETE", "/group:cms/hours:week", If_Match=tag), 412, "changed-meanwhile")
    gone = ask(world, "DELETE", "/group:cms/hours:week", If_Match=changed.headers["ETag"])
    assert (gone.status_code, gone.content) == (204, b"")
    problem(ask(world, "GET", "/group:cms/hours:week"), 404, "no-such-quota")
    absent = problem(ask(world, "DELETE", "/group:cms/hours:week", If_Match="*"), 412, "changed-meanwhile")
    assert "it is not set" in absent["detail"]
    assert absent["etag"] is None
    assert actions(world) == [
        ("user:root", "quota.remove", "group:cms"),
        ("user:root", "quota.set", "group:cms"),
        ("user:root", "quota.set", "group:cms"),
    ]


def test_what_is_there_is_not_made_a_second_time(world: World) -> None:
    assert put(world, "/default/servers", 2).status_code == 200
    problem(put(world, "/default/servers", 3), 412, "changed-meanwhile")
    assert put(world, "/default/servers", 3, If_Match="*").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"If_Match": "abc"},
        {"If_Match": 'W/"abc"'},
        {"If_Match": '"a", "b"'},
        {"If_None_Match": '"abc"'},
        {"If_Match": '"abc"', "If_None_Match": "*"},
    ],
    ids=str,
)
def test_a_change_that_does_not_say_what_was_seen_is_refused(headers: dict[str, str], world: World) -> None:
    said = problem(put(world, "/default/servers", 2, **headers), 428, "condition-needed")
    assert "If-Match" in said["detail"]
    problem(ask(world, "DELETE", "/default/servers", **headers), 428, "condition-needed")
    assert read(world.database, load).rows == ()


@pytest.mark.parametrize(
    "subject", ["group:/wlcg/cms", "member:urn:mace:egi.eu:group:lab", "user:Jörg O'Neill", "user:a/b"]
)
def test_names_of_people_and_groups_may_hold_what_addresses_use(subject: str, world: World) -> None:
    path = f"/{quote(subject, safe='')}/accelerators:t4"
    made = put(world, path, 2)
    assert (made.status_code, made.json()["subject"]) == (200, subject), made.text
    assert ask(world, "GET", path).json()["field"] == "accelerators:t4"
    assert ask(world, "DELETE", path, If_Match=made.headers["ETag"]).status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "field", "said"),
    [
        ("/defaults/servers", {"value": 1}, "path.subject", "(did you mean default?)"),
        ("/user:/servers", {"value": 1}, "path.subject", "names nobody"),
        ("/default/server", {"value": 1}, "path.field", "(did you mean servers?)"),
        ("/default/hours", {"value": 1}, "path.field", "hours:week"),
        ("/default/accelerators:t5", {"value": 1}, "path.field", "legal here: t4, u55c, unused"),
        ("/default/servers", {"value": -1}, "body.value", "write a whole number"),
        ("/default/memory", {"value": "64 GB"}, "body.value", "a quantity such as 64Gi"),
        ("/default/servers", {"value": True}, "body.value", "found True"),
        ("/default/servers", {"value": None}, "body.value", "found None"),
        ("/default/servers", {}, "body.value", "required"),
        ("/default/servers", {"value": 1, "declared": True}, "body.declared", ""),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(path: str, body: Any, field: str, said: str, world: World) -> None:
    refused = problem(ask(world, "PUT", path, body=body, If_Match="*"), 422, "bad-request")
    assert any(one["field"].startswith(field) for one in refused["errors"]), refused
    assert said in refused["detail"]
    assert actions(world) == []


def test_a_declared_limit_is_changed_only_by_who_says_so(world: World) -> None:
    in_database(world, lambda connection: declare(connection, quotas({"default": {"servers": 2}}), "file quotas.yaml"))
    row = ask(world, "GET", "/default/servers")
    assert row.json()["declared"] is True
    refused = problem(put(world, "/default/servers", 5, If_Match=row.headers["ETag"]), 409, "declared")
    assert "default servers is declared by file quotas.yaml: change it there" in refused["detail"]
    problem(ask(world, "DELETE", "/default/servers", If_Match="*"), 409, "declared")
    body = {"value": 5, "although_declared": True}
    changed = ask(world, "PUT", "/default/servers", body=body, If_Match=row.headers["ETag"])
    assert (changed.status_code, changed.json()["declared"], changed.json()["value"]) == (200, False, 5)
    in_database(world, lambda connection: declare(connection, quotas({"default": {"servers": 2}}), "file quotas.yaml"))
    assert ask(world, "DELETE", "/default/servers?although_declared=true", If_Match="*").status_code == 204


def test_all_limits_are_listed_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, dict[str, object]] = {f"user:{name}": {"jobs": 1, "servers": 1} for name in "abcde"}
    in_database(world, lambda connection: declare(connection, quotas(limits), "file"))
    monkeypatch.setattr("hub.web.quotas.MOST", 4)
    first = ask(world, "GET", "/all").json()
    assert [(row["subject"], row["field"]) for row in first["rows"]] == [
        ("user:a", "servers"),
        ("user:a", "jobs"),
        ("user:b", "servers"),
        ("user:b", "jobs"),
    ]
    assert first["more"] is True
    monkeypatch.setattr("hub.web.quotas.MOST", 3)  # in the middle of somebody's: those come whole, on the next page
    told, after = [], ""
    while True:
        page = ask(world, "GET", f"/all?after={after}" if after else "/all").json()
        told += [(row["subject"], row["field"]) for row in page["rows"]]
        if not page["more"]:
            break
        after = page["rows"][-1]["subject"]
    assert sorted(told) == sorted((f"user:{name}", field) for name in "abcde" for field in ("jobs", "servers"))
    monkeypatch.setattr("hub.web.quotas.MOST", 4)
    rest = ask(world, "GET", "/all?after=user:d").json()
    assert ([row["subject"] for row in rest["rows"]], rest["more"]) == (["user:e", "user:e"], False)
    assert {row["subject"] for row in ask(world, "GET", "/all?contains=c").json()["rows"]} == {"user:c"}
    assert {row["subject"] for row in ask(world, "GET", "/all?subject=user:d").json()["rows"]} == {"user:d"}
    problem(ask(world, "GET", "/all?subject=cms"), 422, "bad-request")
    row = read(world.database, load).row("user:a", "jobs")
    assert row is not None
    assert first["rows"][1]["etag"] == etag(row)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/all"), ("GET", "/default/servers"), ("PUT", "/default/servers"), ("DELETE", "/default/servers")],
)
def test_only_administrators_see_and_change_the_limits_of_others(method: str, path: str, world: World) -> None:
    body = {"value": 99} if method == "PUT" else None
    problem(ask(world, method, path, "ann", body, If_Match="*"), 403, "not-allowed")
    problem(ask(world, method, path, "nobody", body, If_Match="*"), 401, "login-needed")
    problem(world.get("/api/audit", "ann"), 403, "not-allowed")
    assert read(world.database, load).rows == ()


def test_a_browser_must_prove_that_the_page_is_ours(world: World) -> None:
    answer = httpx.put(
        f"{world.url}/api/quotas/default/servers",
        headers={"If-None-Match": "*", "Cookie": "armillary-service=root"},
        json={"value": 1},
        timeout=20,
    )
    problem(answer, 403, "other-site")
    assert read(world.database, load).rows == ()


def test_a_database_that_is_away_is_said(world: World) -> None:
    world.database.dispose()
    for beside in world.file.parent.glob("armillary.sqlite*"):
        beside.unlink()
    world.file.mkdir()
    said = problem(ask(world, "GET", "", "ann"), 503, "database-away")
    assert "Running sessions go on" in said["detail"]
    problem(put(world, "/default/servers", 1), 503, "database-away")
    problem(world.get("/api/audit", "root"), 503, "database-away")


# --- the audit trail ---------------------------------------------------------------------------------------------


def test_the_trail_tells_who_changed_what_before_and_after(world: World) -> None:
    for value in (1, 2, 3):
        in_database(world, lambda connection, value=value: _set(connection, value))
    said = world.get("/api/audit", "root", params={"action": "quota.", "limit": 2}).json()
    assert [(entry["before"], entry["after"]) for entry in said["entries"]] == [
        ({"field": "servers", "value": "2", "declared": False}, {"field": "servers", "value": "3", "declared": False}),
        ({"field": "servers", "value": "1", "declared": False}, {"field": "servers", "value": "2", "declared": False}),
    ]
    rest = world.get("/api/audit", "root", params={"older_than": said["older_than"]}).json()
    assert [entry["before"] for entry in rest["entries"]] == [None]
    assert rest["older_than"] is None
    assert world.get("/api/audit", "root", params={"actor": "user:eve"}).json()["entries"] == []
    assert len(world.get("/api/audit", "root", params={"subject": "default"}).json()["entries"]) == 3


def _set(connection: Connection, value: int) -> None:
    from hub.quotas.store import put as put_row

    put_row(connection, "default", parse_field("servers"), Decimal(value), "user:root")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "older_than=-1", "actor=", "actor=%00", "who=ann"])
def test_a_wrong_question_about_the_trail_is_refused(query: str, world: World) -> None:
    problem(world.get(f"/api/audit?{query}", "root"), 422, "bad-request")


def test_the_paths_are_described(world: World) -> None:
    paths = world.app.openapi()["paths"]
    assert set(paths["/api/quotas/{subject}/{field}"]) == {"get", "put", "delete"}
    assert {"412", "428", "409"} <= set(paths["/api/quotas/{subject}/{field}"]["put"]["responses"])
