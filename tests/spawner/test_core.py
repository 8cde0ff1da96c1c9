"""What both engines share: which options count as new, what is remembered, and patience after a restart."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tornado.web import HTTPError

from spawner import form
from spawner.core import RequestSpawner
from spawner.refusal import Refusal, StartFailed
from tests.spawner.catalogues import catalogue


class Idle(RequestSpawner):
    """An engine that runs nothing; what it answers when polled is set by the test."""

    engine = "local"
    status: int | None = None

    async def start(self) -> str:
        await self.decide()
        return "http://127.0.0.1:1"

    async def stop(self, now: bool = False) -> None:
        self.status = 0

    async def poll(self) -> int | None:
        return self.status


DATABASE: list[Session] = []


@pytest.fixture(autouse=True)
def _database() -> Iterator[None]:
    """JupyterHub's own tables, in memory."""
    engine = create_engine("sqlite://")
    orm.Base.metadata.create_all(engine)
    with Session(engine) as session:
        DATABASE[:] = [session]
        yield
    engine.dispose()


def row_of(user_options: dict[str, Any], last_activity: datetime | None) -> orm.Spawner:
    """A row as JupyterHub keeps one for each server."""
    row = orm.Spawner(name="", user_options=user_options, last_activity=last_activity)
    DATABASE[0].add(row)
    DATABASE[0].commit()
    return row


def spawner(*, saved: dict[str, Any] | None = None, started_before: bool = True, handler: Any = None) -> Idle:
    row = row_of(saved or {}, datetime(2026, 1, 1) if started_before else None)
    user = SimpleNamespace(name="ann", groups=[SimpleNamespace(name="researchers")], admin=False)
    made = Idle(orm_spawner=row, catalogue=catalogue(), user=user)
    made.handler = handler
    return made


def asked_by_rest(options: Any) -> Any:
    return SimpleNamespace(get_server_json_body=lambda: {"user_options": options})


def asked_by_form(method: str, **query: list[bytes]) -> Any:
    return SimpleNamespace(request=SimpleNamespace(method=method, query_arguments=query))


async def decided(made: Idle, options: dict[str, Any]) -> Any:
    # as JupyterHub does: into the database first, then to the spawner
    made.orm_spawner.user_options = options
    made.user_options = options
    return await made.decide()


BAD = {"profile": "gone"}


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(asked_by_rest(BAD), id="rest"),
        pytest.param(asked_by_form("POST"), id="form"),
        pytest.param(asked_by_form("GET", **{"opt-profile": [b"gone"]}), id="link"),
    ],
)
async def test_bad_options_of_this_request_are_refused_and_leave_no_trace(handler: Any) -> None:
    saved = {"profile": "cpu", "cpu": "2"}
    made = spawner(saved=saved, handler=handler)
    with pytest.raises(Refusal) as caught:
        await decided(made, BAD)
    assert caught.value.status_code == 400
    assert made.orm_spawner.user_options == saved
    assert made.request is None


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(None, id="started by the hub itself"),
        pytest.param(asked_by_rest(None), id="rest without options"),
        pytest.param(asked_by_form("GET", next=[b"/x"]), id="a link to the server"),
    ],
)
async def test_bad_saved_options_never_lock_anybody_out(handler: Any) -> None:
    made = spawner(saved=BAD, handler=handler)
    request = await decided(made, BAD)
    assert request.profile == "cpu"
    assert made.notice == (
        "Your last choice is no longer possible: There is no profile 'gone'. Choose one of: cpu, gpu. Starting “CPU” instead."
    )
    assert made.orm_spawner.user_options == request.options()
    assert made.feed.steps[0].text == made.notice


async def test_the_form_is_made_beside_the_loop_which_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    render = form.render

    def noted(*args: Any, **more: Any) -> str:
        threads.append(threading.get_ident())
        return render(*args, **more)

    monkeypatch.setattr(form, "render", noted)
    assert "<fieldset" in await spawner().render_form()
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_options_given_when_a_named_server_was_created_are_new() -> None:
    made = spawner(saved=BAD, started_before=False, handler=asked_by_rest(None))
    with pytest.raises(Refusal):
        await decided(made, BAD)


async def test_what_is_remembered_is_the_whole_request() -> None:
    made = spawner(handler=asked_by_rest({"cpu": 2}))
    await decided(made, {"cpu": 2})
    # JupyterHub rolls back what is not committed before it handles the next request
    DATABASE[0].rollback()
    assert made.orm_spawner.user_options == {"profile": "cpu", "image": "lab", "cpu": "2", "memory": "2Gi"}


async def test_the_form_shows_a_notice_for_a_saved_choice_that_is_gone() -> None:
    assert "Your last choice is no longer possible" in await spawner(saved=BAD).render_form()


async def test_after_a_refusal_the_form_shows_what_was_asked_for() -> None:
    named, default_one = spawner(), spawner()
    named.orm_spawner.name = "second"
    named.options_from_form({"profile": ["gpu"], "profile-option-gpu--memory": ["9Gi"]})
    html = await default_one.render_form()
    assert 'value="9Gi"' in html
    assert "It will be named <strong>second</strong>." in html


async def test_what_one_request_asked_for_is_not_seen_by_the_next() -> None:
    made = spawner()
    await asyncio.create_task(refused_form(made))
    assert 'value="9Gi"' not in await made.render_form()


async def refused_form(made: Any) -> None:
    made.options_from_form({"profile": ["gpu"], "profile-option-gpu--memory": ["9Gi"]})


def test_the_deployers_own_form_and_options_hook_are_kept() -> None:
    from traitlets.config import Config

    def hook(spawner: Any, options: Any) -> None: ...

    config = Config({"RequestSpawner": {"options_form": "mine", "apply_user_options": hook, "catalogue": catalogue()}})
    made = Idle(config=config)
    assert made.options_form == "mine"
    assert made.apply_user_options is hook


def test_a_refusal_shows_its_text_wherever_jupyterhub_looks() -> None:
    refusal = Refusal("quota", "You have 2 of 2 sessions. Stop one first.", status=409, headers={"Retry-After": "60"})
    assert isinstance(refusal, HTTPError)
    assert (refusal.status_code, refusal.reason, str(refusal)) == (
        409,
        "quota",
        "You have 2 of 2 sessions. Stop one first.",
    )
    assert refusal.message == refusal.jupyterhub_message == refusal.text
    assert refusal.headers == {"Armillary-Refusal": "quota", "Retry-After": "60"}
    assert StartFailed("image", "The image cannot be pulled.").status_code == 502


async def test_progress_is_the_feed() -> None:
    made = spawner()
    made.feed.say("Starting JupyterLab", 60)
    made.feed.close()
    assert [event async for event in made.progress()] == [{"progress": 60, "message": "Starting JupyterLab"}]


def test_the_environment_has_one_copy_of_the_token() -> None:
    made = spawner()
    made.api_token = "the-token"
    made.hub = SimpleNamespace(public_host="", api_url="http://hub/api", base_url="/hub/")
    made.user.url = "/user/ann/"
    values = [value for value in made.get_env().values() if value == "the-token"]
    assert values == ["the-token"]


class Patient:
    """A server record whose wait_up never succeeds."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def wait_up(self, timeout: float, **kwargs: Any) -> Any:
        self.waits.append(timeout)
        raise TimeoutError


async def check(made: Idle, waiting: Patient) -> Any:
    from spawner.core import _Patience

    return await asyncio.wait_for(_Patience(made, waiting.wait_up)(timeout=30, http=True), 5)


async def test_a_server_that_was_ready_and_answers_late_is_left_alone() -> None:
    made = spawner()
    made.load_state({"was_ready": True})
    made._check_pending = True
    assert (await check(made, Patient())).headers["X-JupyterHub-Version"]


async def test_a_server_that_ended_meanwhile_is_not() -> None:
    made = spawner()
    made.load_state({"was_ready": True})
    made._check_pending = True
    made.status = 1
    with pytest.raises(TimeoutError):
        await check(made, Patient())


async def test_a_server_that_was_still_starting_gets_its_start_timeout() -> None:
    made = spawner()
    made.start_timeout = 0
    made._check_pending = True
    waiting = Patient()
    with pytest.raises(TimeoutError):
        await check(made, waiting)
    assert waiting.waits


async def test_an_ordinary_start_waits_as_jupyterhub_does() -> None:
    waiting = Patient()
    with pytest.raises(TimeoutError):
        await check(spawner(), waiting)
    assert waiting.waits == [30]


def test_the_mark_of_readiness_is_stored_only_after_a_start() -> None:
    made = spawner()
    assert "was_ready" not in made.get_state()
    made.load_state({"was_ready": True})
    assert made.get_state()["was_ready"] is True
    made.clear_state()
    assert "was_ready" not in made.get_state()
