"""When a budget renews, in the words of a person, in the zone of the quotas."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hub.quotas.model import WINDOWS, Window
from hub.quotas.renewal import renewals

ROME = ZoneInfo("Europe/Rome")


@pytest.mark.parametrize(
    ("window", "now", "said"),
    [
        ("day", "2026-11-21T18:15", "It renews on Sunday 22 November at 00:00 (CET), in 5 h 45 min."),
        ("day", "2026-11-21T23:59:50", "It renews on Sunday 22 November at 00:00 (CET), in 1 min."),
        ("week", "2026-11-21T18:15", "It renews on Monday 23 November at 00:00 (CET), in 1 day 5 h."),
        ("week", "2026-11-23T00:00", "It renews on Monday 30 November at 00:00 (CET), in 7 days."),
        ("month", "2026-11-21T18:15", "It renews on Tuesday 1 December at 00:00 (CET), in 9 days."),
        ("month", "2026-12-31T12:00", "It renews on Friday 1 January at 00:00 (CET), in 12 h 0 min."),
        ("week", "2026-03-27T12:00", "It renews on Monday 30 March at 00:00 (CEST), in 2 days 11 h."),
        ("day", "2026-10-25T01:00", "It renews on Monday 26 October at 00:00 (CET), in 1 day."),
        ("7d", "2026-11-21T18:15", "It frees little by little: what was used more than 7 days ago no longer counts."),
        (
            "24h",
            "2026-11-21T18:15",
            "It frees little by little: what was used more than 24 hours ago no longer counts.",
        ),
    ],
)
def test_a_window_is_said_with_its_day_time_and_how_long_that_is(window: Window, now: str, said: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=ROME).timestamp()
    assert renewals([window], moment, ROME) == {window: said}


def test_a_zone_without_letters_is_said_by_its_offset() -> None:
    moment = datetime(2026, 11, 21, 12, tzinfo=ZoneInfo("Asia/Kathmandu")).timestamp()
    said = renewals(WINDOWS, moment, ZoneInfo("Asia/Kathmandu"))
    assert set(said) == set(WINDOWS)
    assert "at 00:00 (UTC+0545)" in said["day"]
