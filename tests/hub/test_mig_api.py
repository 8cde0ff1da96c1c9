"""A change of a layout with an API server that is away, with rights that are missing, and through the hub."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.cluster_api import Away
from hub.mig.change import Change
from hub.mig.holder import Holder
from hub.mig.hub_api import HubAccess, HubProblem, read_token
from hub.mig.patience import PatientApi
from hub.mig.record import record_of
from hub.mig.rights import Right, missing, to_change, to_drain
from tests.hub.mig_change_world import Manager, Run, is_finished, quick
from tests.hub.mig_world import FakeApi, manager_pod, mig_node, session

__all__ = ["quick"]  # the fixture, which is for every test here


def test_an_api_that_is_away_is_asked_again_and_said_once() -> None:
    api, said = FakeApi(mig_node()), list[str]()
    api.away(5)
    assert PatientApi(api, said.append, 60.0).get("/api/v1/nodes/gpu-1")["metadata"]["name"] == "gpu-1"
    assert len(said) == 2


def test_patience_ends() -> None:
    api = FakeApi(mig_node())
    api.away(10**9)
    with pytest.raises(Away):
        PatientApi(api, print, 0.02).get("/api/v1/nodes/gpu-1")


def test_a_change_survives_an_api_that_is_away_now_and_then() -> None:
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    tick, asked = api.before, [0]

    def flaky(method: str, path: str) -> None:
        asked[0] += 1
        if asked[0] % 3 == 0:
            raise Away("The API server does not answer.")
        tick(method, path)

    run = Run(api, drain=True)
    api.before = flaky
    patient = PatientApi(api, run.said.append, 60.0)
    holder = Holder(patient, "gpu-1", run.said.append)
    Change(patient, run.change.plan, holder, run.said.append, drain=True, grace_s=0.0, timeout_s=30.0).run()
    assert is_finished(api)


def test_a_write_whose_answer_was_lost_is_not_a_conflict_with_oneself() -> None:
    api = FakeApi(mig_node(), manager_pod())
    plain, lost = api.ask, list[str]()

    def swallow(method: str, path: str, *more: Any, **options: Any) -> dict[str, Any]:
        answer = plain(method, path, *more, **options)
        if method == "PATCH" and len(lost) < 2:
            lost.append(path)
            raise Away("The answer was lost.")
        return answer

    api.ask = swallow  # type: ignore[method-assign]
    patient = PatientApi(api, print, 60.0)
    holder = Holder(patient, "gpu-1", print)
    assert record_of(holder.take("all-1g.5gb", cordon=True)) is not None
    holder.change(lambda node, record: (record.but(asked="x"), {}))
    record = record_of(api.node)
    assert record is not None
    assert (record.asked, record.cordoned) == ("x", False)


def test_rights_that_are_missing_are_named() -> None:
    class Reviews(FakeApi):
        def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            asked = body["spec"]["resourceAttributes"]
            return {"status": {"allowed": asked["verb"] == "get" or asked.get("subresource") == "eviction"}}

    wanted = [*to_change(), *to_drain({"sessions"}, {"jobs"})]
    lacking = missing(Reviews(mig_node()), wanted)
    assert Right("delete", "pods", "sessions") in lacking
    assert Right("create", "pods/eviction", "jobs") not in lacking
    assert str(Right("patch", "nodes")) in {str(right) for right in lacking}
    assert str(Right("create", "events", "jobs")) == "`create` on `events` in jobs"


@pytest.fixture
def hub() -> Iterator[tuple[str, list[tuple[str, str, str]], list[int]]]:
    asked, answers = list[tuple[str, str, str]](), [204]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            asked.append((self.command, self.path, str(self.headers["Authorization"])))
            self.send_response(answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jupyter/", asked, answers
        server.shutdown()
        thread.join()


def test_sessions_end_through_their_hub(hub: tuple[str, list[tuple[str, str, str]], list[int]]) -> None:
    url, asked, answers = hub
    access = HubAccess(url, "secret-token", "sessions")
    access.stop("ana/../x y", "")
    access.stop("bob", "my server")
    assert asked == [
        ("DELETE", "/jupyter/hub/api/users/ana%2F..%2Fx%20y/server", "token secret-token"),
        ("DELETE", "/jupyter/hub/api/users/bob/servers/my%20server", "token secret-token"),
    ]
    answers[0] = 404
    with pytest.raises(HubProblem, match="status 404"):
        access.stop("bob", "")
    assert "secret-token" not in repr(access)


def test_a_hub_that_cannot_stop_it_is_passed_by(hub: tuple[str, list[tuple[str, str, str]], list[int]]) -> None:
    url, _, answers = hub
    answers[0] = 503
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    said = Run(api, drain=True, hub=HubAccess(url, "t", "sessions"))()
    assert "is ended by deleting its pod, since the hub answers with status 503." in said
    assert is_finished(api)


def test_a_session_of_another_hub_is_not_stopped_through_this_one(
    hub: tuple[str, list[tuple[str, str, str]], list[int]],
) -> None:
    url, asked, _ = hub
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100"))
    Manager(api)
    Run(api, drain=True, hub=HubAccess(url, "t", "elsewhere"))()
    assert asked == []
    assert is_finished(api)


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff", "tök".encode()])
def test_a_token_file_that_is_none_is_a_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(HubProblem, match=r"token"):
        read_token(tmp_path / "token")
    (tmp_path / "token").write_text("abc123\n")
    assert read_token(tmp_path / "token") == "abc123"
