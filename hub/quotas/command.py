"""`armillary quotas show` and `armillary quotas check`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.quotas.model import Limits, QuotaRow, Quotas
    from hub.settings import Settings
    from profiles.model import Catalogue

__all__ = ["add"]

_COLUMN = 44


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `quotas show` and `quotas check`."""
    parser = commands.add_parser("quotas", help="print the limits of people and groups, or check a file of them")
    actions = parser.add_subparsers(required=True, metavar="ACTION", help="show or check")
    text = "print the limits that are set, as YAML, and in comments who set each"
    show = actions.add_parser("show", help=text, description=text)
    show.set_defaults(do=_show)
    show.add_argument("--subject", action="append", metavar="SUBJECT", help="only of this one, such as group:cms")
    show.add_argument(
        "--of",
        nargs="+",
        metavar=("PERSON", "GROUP"),
        help="what limits this person, member of these groups, for each account that may be charged",
    )
    text = "check files of quotas and say every problem in them"
    check = actions.add_parser("check", help=text, description=text)
    check.set_defaults(do=_check)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML; the setting quotas.file names one")
    for one in (show, check):
        one.add_argument(
            "--settings", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
        )


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.quotas.declared import QuotaFileError, read_quotas
    from hub.settings import SettingsError, load
    from profiles.loader import CatalogueError

    try:
        accelerators = _catalogue(load(arguments.settings, environ)).accelerators
    except (SettingsError, CatalogueError) as error:
        print(error)
        return 1
    failed = False
    for file in arguments.files:
        try:
            read_quotas(file, accelerators)
        except QuotaFileError as error:
            print(error)
            failed = True
    if not failed:
        print("no problems")
    return 1 if failed else 0


def _show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.address import AddressError, database_url
    from hub.db.engine import connect
    from hub.db.transaction import read
    from hub.db.upgrade import problem
    from hub.quotas.model import QuotaProblem
    from hub.quotas.store import load as load_quotas
    from hub.quotas.subjects import check_subject
    from hub.settings import SettingsError, load

    try:
        subjects = None if arguments.subject is None else [check_subject(one) for one in arguments.subject]
        settings = load(arguments.settings, environ)
        engine = connect(database_url(settings))
    except (SettingsError, AddressError, QuotaProblem) as error:
        print(error)
        return 1
    try:
        if wrong := problem(engine):
            print(wrong)
            return 1
        found = read(engine, lambda connection: load_quotas(connection, subjects))
    except OSError as error:
        print(error)
        return 1
    finally:
        engine.dispose()
    lines = _of_person(found, settings, *arguments.of) if arguments.of else _rows(found)
    print("\n".join(lines) or "# no limit is set")
    return 0


def _rows(found: Quotas) -> list[str]:
    """Return the limits as a file of quotas that says the same."""
    from hub.quotas.model import in_order

    lines = []
    for subject in found.subjects:
        lines.append(f"{_quoted(subject)}:")
        of_one = found.of(subject)
        lines += [_line(of_one[field]) for field in in_order(of_one)]
    return lines


def _line(row: QuotaRow) -> str:
    from datetime import UTC, datetime

    from hub.quotas.amounts import written

    at = datetime.fromtimestamp(row.changed_at, UTC)
    how = "declared by" if row.declared else "set by"
    said = f"  {row.field}: {written(row.field, row.value)}"
    return f"{said:<{_COLUMN}}# {how} {row.changed_by}, {at:%Y-%m-%d %H:%M} UTC"


def _of_person(found: Quotas, settings: Settings, user: str, *groups: str) -> list[str]:
    """Return what limits somebody, by the account that is charged; the first is the default."""
    from hub.quotas.accounts import accounts_of
    from hub.quotas.resolve import own_limits, shared_limits
    from profiles.access import Person

    lines: list[str] = []
    for account in accounts_of(Person(user, frozenset(groups)), found, settings.quotas.accounts):
        lines.append(f"{_quoted(account)}:")
        lines += _limits(own_limits(found, user, account))
        lines += _limits(shared_limits(found, account))
    return lines


def _limits(limits: Limits) -> Iterator[str]:
    from hub.quotas.amounts import written
    from hub.quotas.subjects import holds_for

    for field, limit in limits.items():
        said = f"  {field}: {written(field, limit.value)}"
        yield f"{said:<{_COLUMN}}# {holds_for(limit.source)} ({limit.source})"


def _catalogue(settings: Settings) -> Catalogue:
    import profiles
    from profiles.loader import load

    return load(
        settings.catalogue or Path(profiles.__file__).parent / "catalogue.yaml",
        allow_weaker_security=settings.allow_weaker_security,
    )


def _quoted(subject: str) -> str:
    """A subject as a key of YAML. JSON is YAML, and quotes whatever could be read as something else.

    But for its escapes of what is beyond 16 bits, which YAML takes for two characters that there are not.
    """
    import json
    import re

    plain = re.fullmatch(r"[a-z]+(:[A-Za-z][A-Za-z0-9_.-]*)?", subject)
    return subject if plain else json.dumps(subject, ensure_ascii=False)
