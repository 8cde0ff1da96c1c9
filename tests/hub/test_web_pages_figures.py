"""Figures on the pages: what is drawn adds up, what is said is rounded for people, the API is asked as the visitor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.web.door import COOKIE, CSRF_HEADER, Visitor, csrf_token
from hub.web.hub_access import Identity
from hub.web.pages.chart import HEIGHT, WIDTH, bars, spark
from hub.web.pages.figures import days, session
from hub.web.pages.inner import Inner, Refused, part
from hub.web.pages.words import duration, hours, moment, pace

ROME = ZoneInfo("Europe/Rome")
DAYS = ["2026-11-19", "2026-11-20", "2026-11-21"]
SOME = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@given(st.dictionaries(st.tuples(st.sampled_from(DAYS), st.sampled_from("abcdefghijkl")), SOME))
def test_bars_are_as_high_as_their_values_and_stay_in_the_picture(values: dict[tuple[str, str], float]) -> None:
    chart = bars(DAYS, values, {"a": "A", "b": "B"}, "hours")
    assert len(chart.series) <= 8
    assert sum(chart.figures.values()) == pytest.approx(sum(values.values()))
    end = float(chart.ticks[-1][1])
    room = chart.ticks[0][0] - chart.ticks[-1][0]
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.1
        assert bar.y >= 0
        assert bar.y + bar.height <= HEIGHT
    for day in DAYS:
        drawn = sum(bar.height for bar in chart.bars if bar.text.startswith(day))
        wanted = sum(value for (when, _), value in values.items() if when == day)
        assert drawn == pytest.approx(wanted / end * room, abs=0.2)


@given(st.floats(1e-6, 1e12))
def test_the_axis_holds_the_highest_bar_and_its_lines_are_few(value: float) -> None:
    chart = bars(["day"], {("day", "a"): value}, {}, "hours")
    assert 2 <= len(chart.ticks) <= 6
    assert float(chart.ticks[-1][1]) >= value * 0.99999


def test_what_is_not_among_the_largest_is_drawn_as_one() -> None:
    values = {("2026-11-21", key): float(number) for number, key in enumerate("abcdefghij", 1)}
    chart = bars(DAYS, values, {key: key.upper() for key in "abcdefghij"}, "hours")
    assert chart.series == ("D", "E", "F", "G", "H", "I", "J", "others")
    assert chart.figures["2026-11-21", "others"] == 6.0


def test_a_small_line_begins_left_and_ends_right() -> None:
    assert spark([]) == spark([1.0]) == ""
    assert spark([0.0, 1.0, 0.5], top=1.0) == "0.0,23.0 60.0,1.0 120.0,12.0"
    assert spark([0.0, 0.0]) == "0.0,23.0 120.0,23.0"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.001, "less than 0.01"),
        (0.14, "0.14"),
        (2.0, "2"),
        (12.44, "12.4"),
        (120.0, "120"),
        (12_345, "12\u202f345"),
    ],
)
def test_hours_are_rounded_for_people(value: float, said: str) -> None:
    assert hours(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "less than a minute"),
        (59, "less than a minute"),
        (720, "12 min"),
        (3600, "1 h"),
        (4320, "1 h 12 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_times_are_said_with_their_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_moment_is_local_with_its_zone() -> None:
    said = moment(datetime(2026, 7, 1, 12, 0, tzinfo=UTC).timestamp(), ROME)
    assert "2026-07-01 14:00 CEST" in said
    assert 'title="Europe/Rome"' in said
    assert 'datetime="2026-07-01T12:00:00+00:00"' in said
    assert "14:00 CEST" in moment("2026-07-01T12:00:00+00:00", ROME, only_time=True)
    assert moment(None, ROME) == "never"


def limit(field: str, used: float, value: float) -> dict[str, Any]:
    return {"field": field, "used": used, "value": value, "left": max(0.0, value - used)}


def test_a_budget_says_how_long_it_lasts_at_this_pace() -> None:
    noon = datetime(2026, 11, 18, 12, 0, tzinfo=ROME).timestamp()  # a Wednesday: 60 hours of the week have passed
    assert pace(limit("hours:week", 6, 40), noon, ROME) == ("at this pace enough until it begins anew", None)
    said, until = pace(limit("hours:week", 30, 40), noon, ROME)
    assert said == "at this pace enough until"
    assert until == pytest.approx(noon + 20 * 3600)
    assert pace(limit("hours:day:t4", 8, 8), noon, ROME) == ("used up", None)
    assert pace(limit("hours:7d", 14, 40), noon, ROME) == ("2 a day on average", None)
    for nothing in (limit("hours:week", 0, 40), limit("servers", 1, 2), {**limit("hours:week", 1, 2), "value": None}):
        assert pace(nothing, noon, ROME) == ("", None)


def test_the_first_minutes_of_a_window_conclude_nothing_wild() -> None:
    begun = datetime(2026, 11, 16, 0, 0, 1, tzinfo=ROME).timestamp()
    _, until = pace(limit("hours:week", 0.01, 1), begun, ROME)
    assert until is not None
    assert until - begun > 80_000


def test_days_cross_months() -> None:
    assert days(datetime(2026, 3, 2).date(), 3) == ["2026-02-28", "2026-03-01", "2026-03-02"]


@pytest.mark.parametrize(
    "measures", [{}, {"last": None}, {"last": {"devices": None}, "past": [[1, 2], "x", None]}, {"past": 3}]
)
def test_a_session_that_measured_nothing_useful_is_shown_as_not_known(measures: dict[str, Any]) -> None:
    shown = session({"id": "s", "measures": measures})
    assert (shown["cpu"], shown["memory"], shown["gpu"], shown["past_cpu"]) == (None, None, None, [])


async def test_the_api_is_asked_with_the_login_and_the_proof_of_the_visitor() -> None:
    heard: list[Request] = []

    async def hear(request: Request) -> Response:
        heard.append(request)
        return JSONResponse({"name": request.path_params["name"], "said": await request.json(), "q": request.url.query})

    async def refuse(request: Request) -> Response:
        return JSONResponse({"code": "full", "detail": "All are in use."}, 409)

    app = Starlette(routes=[Route("/at/api/{name:path}/x", hear, methods=["PUT"]), Route("/at/no", refuse)])
    inner = Inner(app, "/at")
    who = Visitor(Identity("user", "ann"), "secret", "session", by_cookie=True)
    answer = await inner(
        who, "PUT", f"/api/{part('group:a/b ü')}/x", {"a": 1}, query={"by": ["x", "y"]}, headers={"If-Match": "*"}
    )
    assert answer.said == {"name": "group:a/b ü", "said": {"a": 1}, "q": "by=x&by=y"}
    [request] = heard
    assert request.cookies == {COOKIE: "secret", "jupyterhub-session-id": "session"}
    assert request.headers[CSRF_HEADER] == csrf_token("secret")
    assert request.headers["if-match"] == "*"
    with pytest.raises(Refused) as refused:
        await inner(Visitor(Identity("user", "ann"), "secret", "", by_cookie=False), "GET", "/no")
    assert (refused.value.status, refused.value.code, refused.value.text) == (409, "full", "All are in use.")
