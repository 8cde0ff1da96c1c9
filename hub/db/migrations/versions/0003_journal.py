"""The journal: triggers write down which rows of some tables have changed, so that nobody has to read all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SESSION = "OLD.ends_at {0} NEW.ends_at OR OLD.stop_at {0} NEW.stop_at OR OLD.stop_because {0} NEW.stop_because"
_TABLES = {"reservations": "", "tickets": "", "sessions": _SESSION}
"""The tables, and which changes of a row count; empty: all. What sessions measure of themselves does not."""


def upgrade() -> None:
    """Make the table and the triggers."""
    op.create_table(
        "journal",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="grows",
        ),
        sa.Column("mark", sa.Text(), nullable=False, comment="random: a number may be used again after a rollback"),
        sa.Column("subject", sa.Text(), nullable=False, comment="the table: reservations, tickets or sessions"),
        sa.Column("id", sa.Text(), nullable=False, comment="of its row"),
        sa.Column("gone", sa.Boolean(), nullable=False, comment="deleted; else made or changed"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_journal")),
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    for table, counts in _TABLES.items():
        for event, row, gone in (("INSERT", "NEW", 0), ("UPDATE", "NEW", 0), ("DELETE", "OLD", 1)):
            when = f" WHEN {counts.format('IS NOT')}" if counts and event == "UPDATE" else ""
            values = f"lower(hex(randomblob(8))), '{table}', {row}.id, {gone}"
            does = f"INSERT INTO journal (mark, subject, id, gone) VALUES ({values})"  # noqa: S608  # names of ours only
            name = f"journal_{table}_{event.lower()}"
            op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW{when} BEGIN {does}; END")


def _postgresql() -> None:
    for event, row, gone in (("changed", "NEW", "FALSE"), ("deleted", "OLD", "TRUE")):
        values = f"md5(random()::text || clock_timestamp()::text), TG_TABLE_NAME, {row}.id, {gone}"
        does = f"INSERT INTO journal (mark, subject, id, gone) VALUES ({values})"  # noqa: S608  # names of ours only
        op.execute(
            f"CREATE FUNCTION armillary_journal_{event}() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN {does}; RETURN NULL; END $$"
        )
    for table, counts in _TABLES.items():
        for event, function in (("INSERT", "changed"), ("UPDATE", "changed"), ("DELETE", "deleted")):
            when = f" WHEN ({counts.format('IS DISTINCT FROM')})" if counts and event == "UPDATE" else ""
            op.execute(
                f"CREATE TRIGGER journal_{table}_{event.lower()} AFTER {event} ON {table} FOR EACH ROW{when} "
                f"EXECUTE FUNCTION armillary_journal_{function}()"
            )
