"""Templates are compiled before somebody opens a page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.app import JupyterHub

from hub.config import TEMPLATES
from hub.warm_up import compile_templates, warm_up

THEIRS = Path(DATA_FILES_PATH) / "templates"


def environment(*folders: Path) -> Environment:
    """As JupyterHub makes it (`init_tornado_settings`, 6.1)."""
    own = FileSystemLoader([str(folder) for folder in (*folders, TEMPLATES, THEIRS)])
    loader = ChoiceLoader([PrefixLoader({"templates": FileSystemLoader([str(THEIRS)])}, "/"), own])
    return Environment(loader=loader, autoescape=True, enable_async=True)


def compiled(made: Environment) -> int:
    assert made.cache is not None
    return len(made.cache)


def test_afterwards_no_page_compiles_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    made = environment()
    assert compile_templates(made) == compiled(made) > 30
    monkeypatch.setattr(made, "compile", lambda *_: pytest.fail("compiled while somebody waits"))
    for name in ("spawn.html", "home.html", "page.html", "templates/page.html", "form.js", "armillary.css"):
        made.get_template(name)


def test_one_that_cannot_be_compiled_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "spawn.html").write_text("{% if %}")
    (tmp_path / "login.html").write_bytes(b"\xff\xfe")
    broken = environment(tmp_path)
    assert compile_templates(broken) == compile_templates(environment()) - 2


async def test_a_hub_that_starts_compiles_them_once_it_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        tornado_settings: dict[str, Any] = {}

    starting, made = Hub(), environment()
    monkeypatch.setattr(JupyterHub, "initialized", classmethod(lambda cls: True))
    monkeypatch.setattr(JupyterHub, "instance", classmethod(lambda cls: starting))
    warm_up()
    await asyncio.sleep(0.15)
    starting.tornado_settings = {"jinja2_env": made}
    async with asyncio.timeout(20):
        while compiled(made) < 30:
            await asyncio.sleep(0.05)


def test_where_no_hub_runs_nothing_is_left_to_be_done() -> None:
    warm_up()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
