"""A step of the tables only adds: while an upgrade brings them to a new version, the one before runs on them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, inspect

from hub.db import steps
from hub.db.engine import connect
from hub.db.transaction import read, write
from hub.db.upgrade import SCRIPTS, upgrade
from tests.hub.test_db_upgrade import HEAD


@dataclass(frozen=True)
class Column:
    """What a program that writes a row has to know of a column."""

    kind: str
    may_be_left_out: bool


Tables = dict[str, dict[str, Column]]


def tables(connection: Connection) -> Tables:
    found = inspect(connection)
    return {
        table: {
            str(one["name"]): Column(str(one["type"]), bool(one["nullable"]) or one.get("default") is not None)
            for one in found.get_columns(table)
        }
        for table in found.get_table_names()
    }


def breaks(before: Tables, after: Tables) -> list[str]:
    """What a program that knows the tables of before stumbles over."""
    said = []
    for table, columns in before.items():
        now = after.get(table)
        if now is None:
            said.append(f"{table} is gone")
            continue
        said += [f"{table}.{name} is gone" for name in columns if name not in now]
        said += [f"{table}.{name} is another" for name in columns if name in now and now[name] != columns[name]]
        said += [f"{table}.{name} must be given" for name in now.keys() - columns if not now[name].may_be_left_out]
    return said


def step_by_step(engine: Engine, scripts: Path) -> dict[str, list[str]]:
    """Run each step by itself; what each breaks."""
    plan = steps.plan(scripts)
    found, before = {}, Tables()
    for step in reversed(list(plan.walk_revisions())):

        def run(connection: Connection, revision: str = step.revision) -> None:
            config = steps.config(scripts)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

        write(engine, run)
        after = read(engine, tables)
        found[step.revision] = breaks(before, after)
        before = after
    return found


def test_no_step_takes_anything_from_the_version_before(database_url: str) -> None:
    engine = connect(database_url)
    found = step_by_step(engine, SCRIPTS)
    assert found == {revision: [] for revision in found}
    assert upgrade(engine).changed is False
    engine.dispose()


STEP = """
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{before}"


def upgrade() -> None:
    {does}
"""


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("op.drop_table('addresses')", ["addresses is gone"]),
        ("op.drop_column('audit', 'before')", ["audit.before is gone"]),
        (
            "op.alter_column('audit', 'subject', new_column_name='why')",
            ["audit.subject is gone", "audit.why must be given"],
        ),
        (
            "op.add_column('audit', sa.Column('x', sa.Integer(), nullable=False, server_default='1'))",
            [],
        ),
        ("op.add_column('audit', sa.Column('x', sa.Integer()))", []),
    ],
    ids=["table", "column", "rename", "default", "null"],
)
def test_one_that_does_is_found(does: str, said: list[str], tmp_path: Path) -> None:
    scripts = tmp_path / "steps"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9001_next.py").write_text(STEP.format(before=HEAD, does=does))
    engine = connect(f"sqlite:///{tmp_path}/state/armillary.sqlite")
    found: dict[str, Any] = step_by_step(engine, scripts)
    assert found["9001"] == said
    engine.dispose()


def test_a_column_that_must_be_given_or_is_another_is_found() -> None:
    old = {"audit": {"id": Column("INTEGER", True)}}
    assert breaks(old, {"audit": {"id": Column("INTEGER", True), "x": Column("TEXT", False)}}) == [
        "audit.x must be given"
    ]
    assert breaks(old, {"audit": {"id": Column("TEXT", True)}}) == ["audit.id is another"]
