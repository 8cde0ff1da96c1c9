"""JupyterHub's own database is away: nobody is taken for somebody who is not logged in."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import OperationalError

from hub.db import away
from tests.hub.site import Site


def handler(error: Exception) -> Any:
    async def asked() -> None:
        raise error

    rolled: list[bool] = []
    return SimpleNamespace(
        get_current_user=asked,
        db=SimpleNamespace(rollback=lambda: rolled.append(True)),
        rolled=rolled,
        _resolve_roles_and_scopes=lambda: None,
        log=logging.getLogger(__name__),
    )


async def test_who_cannot_be_looked_up_reads_why_and_that_it_passes(caplog: pytest.LogCaptureFixture) -> None:
    asked = handler(OperationalError("SELECT", {"hashed": "secret"}, Exception("server closed the connection")))
    with pytest.raises(away.DatabaseSilent) as caught:
        await away._prepared(asked)
    assert caught.value.status_code == 503
    assert caught.value.headers == {"Retry-After": "15"}
    assert "What runs goes on running" in caught.value.jupyterhub_message
    assert asked.rolled == [True]
    assert "server closed the connection" in caplog.text
    assert "secret" not in caplog.text
    assert asked._jupyterhub_user is None, "nothing later in the answer looks again"


async def test_another_fault_leaves_it_to_jupyterhub(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    went_on: list[Any] = []

    async def prepare(one: Any) -> None:
        went_on.append(one)

    monkeypatch.setattr(away, "_prepare", prepare)
    asked = handler(ValueError("a bug"))
    await away._prepared(asked)
    assert went_on == [asked]
    assert "a bug" in caplog.text


def test_done_twice_it_is_the_same_as_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseHandler, "prepare", away._prepare)
    away.say_so()
    once = BaseHandler.prepare
    away.say_so()
    assert BaseHandler.prepare is once


@pytest.mark.hub
def test_the_hubs_pages_and_paths_say_so_and_nobody_is_sent_to_log_in() -> None:
    with Site().running() as site, closing(site.login("researcher-1")) as browser:
        assert browser.get("/hub/home").status_code == 200
        file = site.state / "hub.sqlite"
        with closing(sqlite3.connect(file)) as database:
            database.execute("ALTER TABLE users RENAME TO elsewhere")
            page = browser.get("/hub/home")
            assert page.status_code == 503
            assert page.headers["Retry-After"] == "15"
            assert "database does not answer at the moment" in page.text
            said = browser.get("/hub/api/user")
            assert said.status_code == 503
            assert "database does not answer" in said.json()["message"]
            database.execute("ALTER TABLE elsewhere RENAME TO users")
        assert browser.get("/hub/home").status_code == 200
