"""`armillary usage report`, `armillary usage export` and `armillary usage correct`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from hub.settings import Settings
    from hub.usage.reports import By, Scope, Use

__all__ = ["add"]

_BY = ("day", "account", "user", "accelerator")


class _Days(NamedTuple):
    """The days from the first to the last, and what they are called."""

    first: date
    last: date
    name: str


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `usage report`, `usage export` and `usage correct`."""
    parser = commands.add_parser("usage", help="say who used how much, or write it into a file")
    actions = parser.add_subparsers(required=True, metavar="ACTION", help="report, export or correct")
    report = actions.add_parser("report", help="print what a group, a person or everybody used in a time")
    export = actions.add_parser("export", help="write days as CSV, or every session as Parquet")
    for one, do in ((report, _report), (export, _export)):
        one.set_defaults(do=do)
        whose = one.add_mutually_exclusive_group()
        whose.add_argument("--group", metavar="NAME", help="what was charged to this group")
        whose.add_argument("--account", metavar="ACCOUNT", help="what was charged to this account, such as user:ann")
        one.add_argument("--user", metavar="NAME", help="what this person used; of the group, if one is given too")
        when = one.add_mutually_exclusive_group()
        when.add_argument("--month", type=_month, metavar="YYYY-MM", dest="days", help="default: this month")
        when.add_argument("--week", type=_week, metavar="YYYY-Www", dest="days", help="of ISO 8601, such as 2026-W47")
        when.add_argument("--day", type=_one_day, metavar="YYYY-MM-DD", dest="days", help="one day")
        when.add_argument(
            "--from-to", type=_day, nargs=2, metavar="YYYY-MM-DD", help="from the first to the last, both included"
        )
    correct = actions.add_parser("correct", help="charge an ended session less, or more; what was written stays")
    correct.set_defaults(do=_correct)
    correct.add_argument("session", metavar="ID", help="of its row in the ledger, as in an export of sessions")
    correct.add_argument(
        "--seconds", type=float, required=True, metavar="N", help="to be added; -3600 takes an hour off"
    )
    correct.add_argument("--why", required=True, metavar="TEXT", help="is kept with the correction, and in the audit")
    for one in (report, export, correct):
        one.add_argument(
            "--settings", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
        )
    report.add_argument(
        "--by",
        type=_by,
        metavar="LIST",
        help="what is told apart, of day, account, user, accelerator; default: user,accelerator",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="to be made: its name ends with .csv or .parquet")


def _month(text: str) -> _Days:
    try:
        first = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  # a month of the calendar
        return _Days(first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1), text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no month: write one such as 2026-11") from None


def _week(text: str) -> _Days:
    year, w, number = text.partition("-W")
    try:
        first = date.fromisocalendar(int(year), int(number), 1)
        return _Days(first, first + timedelta(days=6), f"{year}{w}{number}")
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no week: write one such as 2026-W47") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write one such as 2026-11-21") from None


def _one_day(text: str) -> _Days:
    day = _day(text)
    return _Days(day, day, text)


def _by(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if wrong := [part for part in parts if part not in _BY]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} cannot be told apart; legal: {', '.join(_BY)}")
    if len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError("each can be there once")
    return parts


def _days(arguments: argparse.Namespace, zone: tzinfo) -> _Days:
    found = _asked(arguments, zone)
    if not 1970 < found.first.year <= found.last.year < 9999:  # as in the API; beyond it a day has no next one
        raise ValueError(f"{found.name}: days are of the years 1971 to 9998")
    return found


def _asked(arguments: argparse.Namespace, zone: tzinfo) -> _Days:
    if arguments.from_to:
        first, last = arguments.from_to
        if last < first:
            raise ValueError(f"{last} is before {first}: write the first day first")
        return _Days(first, last, f"{first} to {last}")
    if arguments.days is not None:
        found: _Days = arguments.days
        return found
    return _month(f"{datetime.now(zone):%Y-%m}")


def _scope(arguments: argparse.Namespace) -> Scope:
    from hub.quotas.subjects import check_account
    from hub.usage.reports import Scope

    # An empty name is somebody's empty variable: it must not be taken for everybody.
    if arguments.user == "":
        raise ValueError("--user names nobody; leave it out for everybody")
    account = arguments.account if arguments.group is None else f"group:{arguments.group}"
    return Scope(arguments.user, None if account is None else check_account(account))


def _report(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.transaction import read
    from hub.usage.reports import by_days

    def do(engine: Engine, settings: Settings) -> int:
        zone, scope = settings.quotas.zone, _scope(arguments)
        days = _days(arguments, zone)
        by: tuple[By, ...] = arguments.by or ("user", "accelerator")
        found = read(engine, lambda connection: by_days(connection, scope, days.first, days.last, zone, by))
        for line in _text(found, by, f"Use {_whose(scope)} in {days.name} (days of {settings.quotas.timezone})"):
            print(line)
        return 0

    return _with_database(arguments, environ, do)


def _export(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.usage.export import write_days, write_sessions
    from hub.usage.windows import day_start

    file: Path = arguments.file
    if file.suffix not in (".csv", ".parquet"):
        print(f"{file}: the name must end with .csv (days) or .parquet (sessions)", file=sys.stderr)
        return 2

    def do(engine: Engine, settings: Settings) -> int:
        zone, scope = settings.quotas.zone, _scope(arguments)
        days = _days(arguments, zone)
        # Written beside and then renamed: what has the name is whole.
        draft = file.with_name(f".{file.name}.partial")
        try:
            if file.suffix == ".csv":
                with draft.open("w", newline="", encoding="utf-8") as out:
                    count = write_days(engine, scope, days.first, days.last, zone, out)
            else:
                since, until = day_start(days.first, zone), day_start(days.last + timedelta(days=1), zone)
                count = write_sessions(engine, scope, since, until, draft)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
        print(f"{file}: {count} {'lines' if file.suffix == '.csv' else 'sessions'}, use {_whose(scope)} in {days.name}")
        return 0

    return _with_database(arguments, environ, do)


def _correct(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub import audit
    from hub.db.transaction import write
    from hub.usage import ledger

    key, seconds, why = arguments.session, arguments.seconds, arguments.why

    def work(connection: Connection) -> str:
        made = ledger.correct(connection, key, seconds, f"command line: {why}")
        after = {"correction": made, "seconds": seconds, "why": why}
        audit.record(connection, "command line", "ledger.correct", f"session:{key}", None, after)
        return made

    def do(engine: Engine, settings: Settings) -> int:
        print(f"Session {key}: corrected by {seconds:+g} s, as {write(engine, work)}")
        return 0

    return _with_database(arguments, environ, do)


def _whose(scope: Scope) -> str:
    charged = f"charged to {scope.account.replace(':', ' ', 1)}" if scope.account else "of everybody"
    if scope.user is None:
        return charged
    return f"by {scope.user} {charged}" if scope.account else f"by {scope.user}"


def _text(found: Sequence[Use], by: Sequence[By], head: str) -> list[str]:
    """The report as a table that lines up in a terminal."""
    from hub.usage.reports import total

    heads = [*by, "accelerator-hours", "card-hours", "session-hours", "core-hours"]
    rows = [[*(_key(name, part) for name, part in zip(by, use.key, strict=True)), *_hours(use)] for use in found]
    rows.append([*(["total", *[""] * (len(by) - 1)] if by else []), *_hours(total(found))])
    widths = [max(len(row[index]) for row in [heads, *rows]) for index in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        texts = [
            cell.ljust(width) if index < len(by) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(texts).rstrip()

    return [head, "", line(heads), *(line(row) for row in rows)]


def _key(name: str, part: str) -> str:
    # Names come from outside; a terminal shall show them and not obey them.
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in part)
    return shown or ("none" if name == "accelerator" else "-")


def _hours(use: Use) -> list[str]:
    return [f"{seconds / 3600:.2f}" for seconds in use.sums]


def _with_database(
    arguments: argparse.Namespace, environ: Mapping[str, str], do: Callable[[Engine, Settings], int]
) -> int:
    from hub.db.address import AddressError, database_url
    from hub.db.engine import connect
    from hub.db.upgrade import problem
    from hub.settings import SettingsError, load

    try:
        settings = load(arguments.settings, environ)
        engine = connect(database_url(settings))
    except (SettingsError, AddressError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        if found := problem(engine):
            print(found, file=sys.stderr)
            return 1
        return do(engine, settings)
    except ImportError as error:
        print(f"Parquet needs the package arro3-io: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        engine.dispose()
