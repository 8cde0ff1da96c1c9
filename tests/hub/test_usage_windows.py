"""Windows and days as the calendar has them, in every zone, through every change of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.usage.windows import QUARTER_S, Window, bounds, day_of, day_start, days_of, month_of, quarters_of, week_of

ROME = ZoneInfo("Europe/Rome")
ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in (
            *("UTC", "Europe/Rome", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"),
            *("America/Havana", "America/Asuncion", "Africa/Cairo", "America/St_Johns", "Pacific/Apia"),
        )
    ]
)
MOMENTS = st.floats(datetime(1990, 1, 1, tzinfo=UTC).timestamp(), datetime(2040, 1, 1, tzinfo=UTC).timestamp())


def at(text: str, zone: ZoneInfo = ROME) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "since", "renews_at"),
    [
        ("day", "2026-11-21T15:07:33", "2026-11-21T00:00", "2026-11-22T00:00"),
        ("week", "2026-11-21T15:07:33", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("week", "2026-11-16T00:00", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("week", "2027-01-01T12:00", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "2028-02-29T10:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("24h", "2026-11-21T15:07:33", "2026-11-20T15:00", "2026-11-21T15:15"),
        ("24h", "2026-11-21T15:00:00", "2026-11-20T15:00", "2026-11-21T15:15"),
        ("7d", "2026-11-21T15:07:33", "2026-11-14T15:00", "2026-11-21T15:15"),
    ],
)
def test_bounds_of_a_window(window: Window, now: str, since: str, renews_at: str) -> None:
    assert bounds(window, at(now), ROME) == (at(since), at(renews_at))


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 11, 21), 24)]
)
def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(day: date, hours: int) -> None:
    since = day_start(day, ROME)
    found = bounds("day", since + 22 * 3600, ROME)
    assert (found.since, found.renews_at) == (since, since + hours * 3600)
    [one, *others] = days_of(since - 3600, since + hours * 3600 + 1800, ROME)
    assert one == (day - timedelta(days=1), since - 3600, since)
    assert others == [
        (day, since, since + hours * 3600),
        (day + timedelta(days=1), since + hours * 3600, since + hours * 3600 + 1800),
    ]


def test_a_day_begins_where_the_clocks_skip_midnight() -> None:
    cairo = ZoneInfo("Africa/Cairo")
    first = day_start(date(2026, 4, 24), cairo)  # from 00:00 to 01:00
    assert datetime.fromtimestamp(first, cairo).isoformat() == "2026-04-24T01:00:00+03:00"
    assert day_of(first - 0.001, cairo) == date(2026, 4, 23)
    assert day_of(first, cairo) == date(2026, 4, 24)


def test_a_day_that_has_begun_goes_on_when_the_clocks_go_back_over_midnight() -> None:
    newfoundland = ZoneInfo("America/St_Johns")
    first = day_start(date(2010, 11, 7), newfoundland)  # at 00:01 back to 23:01
    assert [day.isoformat() for day, *_ in days_of(first - 60, first + 7200, newfoundland)] == [
        "2010-11-06",
        "2010-11-07",
    ]


def test_a_day_that_a_country_left_out_is_nobodys() -> None:
    apia = ZoneInfo("Pacific/Apia")  # there was no 30 December 2011
    midnight = day_start(date(2011, 12, 31), apia)
    assert [day.isoformat() for day, *_ in days_of(midnight - 3600, midnight + 3600, apia)] == [
        "2011-12-29",
        "2011-12-31",
    ]


@given(MOMENTS, st.floats(0, 40 * 86_400), ZONES)
def test_days_lose_no_moment_and_none_is_in_two(since: float, length: float, zone: ZoneInfo) -> None:
    pieces = list(days_of(since, since + length, zone))
    if not pieces:
        assert since + length == since
        return
    assert (pieces[0][1], pieces[-1][2]) == (since, since + length)
    for (before, _, end), (after, begin, _) in pairwise(pieces):
        assert end == begin == day_start(after, zone)
        assert before < after
    assert all(begin < end for _, begin, end in pieces)


@given(MOMENTS, st.floats(0, 5 * 86_400))
def test_quarters_lose_no_moment(since: float, length: float) -> None:
    pieces = list(quarters_of(since, since + length))
    assert sum(seconds for _, seconds in pieces) == pytest.approx((since + length) - since, abs=1e-5)
    assert all(0 < seconds <= QUARTER_S for _, seconds in pieces)
    assert [quarter for quarter, _ in pieces] == sorted({quarter for quarter, _ in pieces})
    if pieces:
        assert pieces[0][0] * QUARTER_S <= since < (pieces[0][0] + 1) * QUARTER_S


@given(MOMENTS, ZONES, st.sampled_from(["day", "week", "month", "24h", "7d", "30d"]))
def test_a_window_holds_the_moment_and_begins_at_a_quarter(now: float, zone: ZoneInfo, window: Window) -> None:
    found = bounds(window, now, zone)
    assert found.since <= now < found.renews_at
    if window in ("day", "week", "month"):
        assert bounds(window, found.since, zone) == found
        assert bounds(window, found.renews_at, zone).since == found.renews_at


@given(MOMENTS.filter(lambda moment: moment > datetime(2012, 1, 1, tzinfo=UTC).timestamp()), ZONES)
def test_every_midnight_is_a_quarter(now: float, zone: ZoneInfo) -> None:
    assert day_start(day_of(now, zone), zone) % QUARTER_S == 0


def test_weeks_and_months_by_name() -> None:
    assert week_of(2026, 53, ROME) == (at("2026-12-28T00:00"), at("2027-01-04T00:00"))
    assert month_of(2026, 3, ROME) == (at("2026-03-01T00:00"), at("2026-04-01T00:00"))
    assert (month_of(2026, 3, ROME)[1] - month_of(2026, 3, ROME)[0]) == 31 * 86_400 - 3600
    with pytest.raises(ValueError, match="53"):
        week_of(2027, 53, ROME)
    with pytest.raises(ValueError, match="month"):
        month_of(2026, 13, ROME)
