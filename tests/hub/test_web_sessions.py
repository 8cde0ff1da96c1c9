"""What sessions send and are told, who may do so, and notices: the real service on a port, with a double of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub import audit, notices
from hub.admission import reservations
from hub.db.transaction import read, write
from hub.idle import sessions
from hub.idle.clerk import stopped_id
from hub.settings.idle import IdleSettings
from spawner.reservation import Reservation
from tests.hub.web_world import ACCESS, FakeHub, World, problem

HERE = {"cpu": 0.5, "memory": 1 << 30, "kernels": 1, "quiet_s": 12.0, "devices": [{"name": "T4", "utilisation": 0.4}]}


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.person("ann-t4", "ann", scopes=("access:servers!server=ann/", "users:activity!user=ann"))
        made.person("ann-two", "ann", scopes=("access:servers!server=ann/two",))
        made.person("ben-shared", "ben", scopes=("access:servers!server=ann/",))
        made.person("ann", "ann", "cms")
        made.person("ann-weak", "ann", scopes=("read:users:name!user=ann",))
        made.person("root", "root", admin=True)
        made.tokens["program"] = {"kind": "service", "name": "tests", "scopes": [ACCESS]}
        yield made


@pytest.fixture
def world(tmp_path: Path, hub: FakeHub) -> Iterator[World]:
    made = World(tmp_path, hub, idle=IdleSettings(keeps=1))
    with made.running():
        yield made


def hold(world: World, id: str, user: str, server: str = "", **more: Any) -> None:
    """Something runs for this server."""
    given: dict[str, Any] = {"accelerator": "t4", "count": 1, "share": 1.0, "account": f"user:{user}", **more}
    held = Reservation(id, user, server, "lab", **given)
    write(world.database, lambda found: reservations.insert(found, held, expires_in_s=600))
    write(world.database, lambda found: reservations.mark_seen(found, [id]))


def ask(world: World, method: str, path: str, token: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"token {token}"}
    return httpx.request(method, f"{world.url}/api{path}", headers=headers, timeout=20, **more)


def announce(world: World, id: str, because: str = "idle") -> None:
    def work(found: Any) -> None:
        sessions.begin(found, [(id, "ann", "")])
        sessions.announce(found, id, 4e9, because)
        notices.add(found, "ann", "idle", "warning", "Soon.", id=f"{id}/idle", spawn_id=id)

    write(world.database, work)


def test_a_session_sends_what_it_measures_and_hears_how_it_stands(world: World) -> None:
    hold(world, "s1", "ann", account="group:cms")
    write(world.database, lambda found: notices.add(found, "ann", "budget", "warning", "80 %"))
    answer = ask(world, "POST", "/sessions/~/measures", "ann-t4", json=HERE)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    session = said["session"]
    assert (session["id"], session["server"], session["accelerator"], session["title"]) == ("s1", "", "t4", "T4")
    assert (session["simulated"], session["count"], session["account"]) == (True, 1, "group:cms")
    assert session["started_at"] <= said["now"]
    assert session["keep"] == {"possible": False, "left": 1}
    assert [one["text"] for one in said["notices"]] == ["80 %"]
    assert said["links"]["usage"] == "/services/armillary/usage"
    known = read(world.database, lambda found: sessions.of(found, "s1"))
    assert known is not None
    assert known.measured_at is not None
    assert known.active_at == pytest.approx(known.measured_at)  # its accelerator works
    assert known.measures["last"]["devices"][0]["name"] == "T4"
    [live] = ask(world, "GET", "/sessions", "ann").json()
    assert live["measures"]["past"] == [[pytest.approx(known.measured_at, abs=0.1), 0.5, 1 << 30, 0.4]]
    assert ask(world, "GET", "/sessions/~", "ann").json()["session"]["id"] == "s1"
    assert ask(world, "GET", "/sessions", "root").json() == []


def test_many_sessions_are_written_together(world: World) -> None:
    hold(world, "s1", "ann")
    hold(world, "s2", "ann", "two")
    for token, server in (("ann-t4", "~"), ("ann-two", "two")):
        assert ask(world, "POST", f"/sessions/{server}/measures", token, json=HERE).status_code == 200
    known = read(world.database, sessions.all)
    assert known["s1"].measured_at is not None
    assert known["s2"].measured_at is not None


@pytest.mark.parametrize(
    ("token", "server"),
    [
        pytest.param("ann-two", "~", id="another-server-of-the-same-person"),
        pytest.param("ann-t4", "two", id="this-server-for-another"),
        pytest.param("ben-shared", "~", id="with-whom-it-is-shared"),
        pytest.param("ann", "~", id="its-owner"),
        pytest.param("ann-weak", "~", id="a-weak-token-of-its-owner"),
        pytest.param("root", "~", id="administrator"),
        pytest.param("program", "~", id="program"),
    ],
)
def test_nobody_but_the_session_itself_says_what_it_measures(world: World, token: str, server: str) -> None:
    hold(world, "s1", "ann")
    hold(world, "s2", "ann", "two")
    problem(ask(world, "POST", f"/sessions/{server}/measures", token, json=HERE), 403, "not-allowed")
    assert read(world.database, sessions.all) == {}


def test_the_token_of_a_session_is_good_for_nothing_else(world: World) -> None:
    hold(world, "s1", "ann")
    for method, path in (("GET", "/sessions"), ("GET", "/notices"), ("GET", "/capacity"), ("POST", "/notices")):
        answer = ask(world, method, path, "ann-t4", **({"json": {"text": "x"}} if method == "POST" else {}))
        problem(answer, 403, "not-allowed")
    problem(ask(world, "GET", "/sessions/~", "ann-weak"), 403, "not-allowed")
    problem(ask(world, "GET", "/sessions/~", "wrong"), 401, "login-needed")


def test_a_session_that_holds_nothing_is_told_so(world: World) -> None:
    problem(ask(world, "POST", "/sessions/~/measures", "ann-t4", json=HERE), 404, "no-such-session")
    problem(ask(world, "GET", "/sessions/~", "ann"), 404, "no-such-session")
    problem(ask(world, "POST", "/sessions/~/keep", "ann"), 404, "no-such-session")


def test_measures_that_make_no_sense_are_refused_and_unknown_ones_are_passed_over(world: World) -> None:
    hold(world, "s1", "ann")
    for wrong in ({"cpu": -1}, {"quiet_s": "long"}, {"devices": [{"utilisation": 40}]}, {"kernels": 10**9}):
        problem(ask(world, "POST", "/sessions/~/measures", "ann-t4", json=wrong), 422, "bad-request")
    assert ask(world, "POST", "/sessions/~/measures", "ann-t4", json={"later": 1}).status_code == 200


@pytest.mark.parametrize("token", ["ann", "ann-t4"])
def test_a_session_is_kept_by_its_owner_or_by_itself(world: World, token: str) -> None:
    hold(world, "s1", "ann")
    ask(world, "POST", "/sessions/~/measures", "ann-t4", json={})
    nothing = problem(ask(world, "POST", "/sessions/~/keep", token), 409, "cannot-keep")
    assert "Nothing is about to stop" in nothing["detail"]
    announce(world, "s1")
    state = ask(world, "GET", "/sessions/~", token).json()
    assert state["session"]["stop_because"] == "idle"
    assert state["session"]["keep"] == {"possible": True, "left": 1}
    said = ask(world, "POST", "/sessions/~/keep", token).json()["text"]
    assert said == (
        "Your session with T4 (simulated) is kept: it may do nothing for another 2 hours. That was the last time."
    )
    state = ask(world, "GET", "/sessions/~", token).json()
    assert (state["session"]["stop_at"], state["notices"]) == (None, [])
    [entry] = read(world.database, lambda found: audit.recent(found, action="session.keep"))
    assert (entry.actor, entry.subject) == ("user:ann", "session:s1")
    announce(world, "s1")
    assert "can be kept 1 times" in problem(ask(world, "POST", "/sessions/~/keep", token), 409, "cannot-keep")["detail"]


def test_what_is_being_stopped_is_not_kept_any_more(world: World) -> None:
    hold(world, "s1", "ann")
    ask(world, "POST", "/sessions/~/measures", "ann-t4", json={})
    announce(world, "s1")
    told = stopped_id("s1")
    write(world.database, lambda found: notices.add(found, "ann", "stopped", "info", "It was stopped.", id=told))
    said = problem(ask(world, "POST", "/sessions/~/keep", "ann"), 409, "cannot-keep")
    assert "too late" in said["detail"]
    assert ask(world, "GET", "/sessions/~", "ann").json()["session"]["stop_because"] == "idle"


def test_a_spent_budget_cannot_be_kept_away(world: World) -> None:
    hold(world, "s1", "ann")
    ask(world, "POST", "/sessions/~/measures", "ann-t4", json={})
    announce(world, "s1", "budget")
    said = problem(ask(world, "POST", "/sessions/~/keep", "ann"), 409, "cannot-keep")
    assert "not stopped because nobody uses it" in said["detail"]
    problem(ask(world, "POST", "/sessions/~/keep", "ben-shared"), 403, "not-allowed")


def test_notices_are_read_sent_and_dismissed(world: World) -> None:
    problem(ask(world, "POST", "/notices", "ann", json={"text": "Hello"}), 403, "not-allowed")
    sent = ask(world, "POST", "/notices", "root", json={"text": "Friday.", "level": "warning", "hours": 2})
    assert sent.status_code == 201, sent.text
    id = sent.json()["id"]
    assert [one["text"] for one in ask(world, "GET", "/notices", "ann").json()] == ["Friday."]
    assert ask(world, "DELETE", f"/notices/{id}", "ann").status_code == 204
    assert ask(world, "GET", "/notices", "ann").json() == []
    assert len(ask(world, "GET", "/notices", "root").json()) == 1
    problem(ask(world, "DELETE", f"/notices/{id}?everybody=true", "ann"), 403, "not-allowed")
    assert ask(world, "DELETE", f"/notices/{id}?everybody=true", "root").status_code == 204
    assert ask(world, "GET", "/notices", "root").json() == []
    problem(ask(world, "DELETE", f"/notices/{id}", "ann"), 404, "no-such-notice")
    actions = [one.action for one in read(world.database, lambda found: audit.recent(found, action="notice."))]
    assert actions == ["notice.remove", "notice.add"]
    problem(ask(world, "POST", "/notices", "root", json={"text": ""}), 422, "bad-request")


def test_what_is_told_to_everybody_is_listed_for_administrators_though_they_dismissed_it(world: World) -> None:
    id = ask(world, "POST", "/notices", "root", json={"text": "Friday.\nAll day."}).json()["id"]
    assert ask(world, "DELETE", f"/notices/{id}", "root").status_code == 204
    ask(world, "POST", "/notices", "root", json={"text": "You alone.", "user": "ann"})
    assert ask(world, "GET", "/notices", "root").json() == []
    told = ask(world, "GET", "/notices?everybody=true", "root").json()
    assert [one["id"] for one in told] == [id]
    problem(ask(world, "GET", "/notices?everybody=true", "ann"), 403, "not-allowed")


@pytest.mark.parametrize(
    "more", [{"text": "\x00"}, {"text": "a\x1b[31m"}, {"text": " \n"}, {"user": "ann\x00"}, {"user": " "}]
)
def test_a_message_is_text(world: World, more: dict[str, str]) -> None:
    problem(ask(world, "POST", "/notices", "root", json={"text": "Friday.", **more}), 422, "bad-request")


def test_a_message_for_the_shortest_time_is_told(world: World) -> None:
    sent = ask(world, "POST", "/notices", "root", json={"text": "Now.", "hours": 1e-12})
    assert (sent.status_code, sent.json()["text"]) == (201, "Now."), sent.text


def test_a_session_dismisses_a_notice_whose_id_has_slashes(world: World) -> None:
    hold(world, "s1", "ann")
    announce(world, "s1")
    assert ask(world, "DELETE", "/sessions/~/notices/s1%2Fidle", "ann-t4").status_code == 204
    assert ask(world, "GET", "/notices", "ann").json() == []


def test_the_hub_is_asked_about_a_sessions_token_far_less_often_than_it_comes(world: World, hub: FakeHub) -> None:
    hold(world, "s1", "ann")
    before = hub.requests.count("/user")
    for _ in range(5):
        ask(world, "POST", "/sessions/~/measures", "ann-t4", json={})
    assert hub.requests.count("/user") - before <= 1
