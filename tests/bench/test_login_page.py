"""Somebody who looks at the login page notices each answer, errors, and one that has not come by the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.bench import login_page

pytestmark = pytest.mark.unit


class Page(BaseHTTPRequestHandler):
    """The login page of a hub, which answers as it is told."""

    status, wait_s, views = 200, 0.0, 0

    def do_GET(self) -> None:
        assert self.path == "/hub/login"
        time.sleep(Page.wait_s)
        Page.views += 1
        self.send_response(Page.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Page.status, Page.wait_s, Page.views = 200, 0.0, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def seen(number: int) -> None:
    before = Page.views
    deadline = time.monotonic() + 20
    while Page.views < before + number and time.monotonic() < deadline:
        time.sleep(0.01)


def test_every_answer_while_the_block_runs_is_a_view_and_an_error_the_longest(hub: str) -> None:
    with login_page.watched(hub) as views:
        assert views.took == []
        seen(3)
        Page.status = 503
        seen(2)
    assert len(views.took) >= 4
    assert 0 < views.took[0] < 20
    assert 300.0 in views.took[-2:]


def test_an_answer_that_is_still_waited_for_at_the_end_counts_as_long_as_it_lasted(hub: str) -> None:
    with login_page.watched(hub) as views:
        Page.wait_s = 5.0
        time.sleep(2.5)
    assert 1.0 < max(views.took) < 5.0


def test_without_a_hub_there_is_nothing_to_look_at_but_errors() -> None:
    with login_page.watched("http://127.0.0.1:9") as views:
        time.sleep(0.5)
    assert set(views.took[:-1]) <= {300.0}  # the last one may have been cut
