"""Admission: tickets, the ledger and its sums, quotas, the audit trail, notices, and what is known of sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables, and the columns by which a reservation says who is charged for what."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, comment="user:…, or the process that acted"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="what it was done to"),
        sa.Column("before", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("after", sa.Text(), nullable=True, comment="JSON"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index(op.f("ix_audit_subject_at"), "audit", ["subject", "at"], unique=False)
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text(), nullable=False, comment="the reservation's id; of a correction its own"),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("accelerator", sa.Text(), nullable=False, comment="empty: none"),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("share", sa.Float(precision=53), nullable=False, comment="of whole cards, all of the count together"),
        sa.Column("cpu_m", sa.BigInteger(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("image", sa.Text(), nullable=False, comment="reference"),
        sa.Column("digest", sa.Text(), nullable=False, comment="of the image, as it ran; empty: not known"),
        sa.Column("node", sa.Text(), nullable=False, comment="empty: not known"),
        sa.Column("opened_at", sa.Float(precision=53), nullable=False),
        sa.Column(
            "beat_at", sa.Float(precision=53), nullable=False, comment="up to here it is charged and in the sums"
        ),
        sa.Column("closed_at", sa.Float(precision=53), nullable=True, comment="null: open"),
        sa.Column("ended_as", sa.Text(), nullable=False, comment="why it was closed; empty while open"),
        sa.Column("corrects", sa.Text(), nullable=True, comment="row that this one corrects; its seconds are added"),
        sa.Column(
            "seconds", sa.Float(precision=53), nullable=False, comment="charged so far; of a correction the difference"
        ),
        sa.Column("by", sa.Text(), nullable=False, comment="who wrote a correction, and why"),
        sa.Column(
            "folded_s",
            sa.Float(precision=53),
            nullable=False,
            comment="of its seconds, those that are in the sums of days",
        ),
        sa.Column("folded", sa.Boolean(), nullable=False, comment="closed, and all in the sums of days"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_index(op.f("ix_ledger_account_opened_at"), "ledger", ["account", "opened_at"], unique=False)
    op.create_index(op.f("ix_ledger_closed_at"), "ledger", ["closed_at"], unique=False)
    op.create_index(op.f("ix_ledger_corrects"), "ledger", ["corrects"], unique=False)
    op.create_index(op.f("ix_ledger_user_name_opened_at"), "ledger", ["user_name", "opened_at"], unique=False)
    for column in ("account", "user_name"):
        op.create_index(
            op.f(f"ix_ledger_{column}_closed_at"),
            "ledger",
            [column, "closed_at"],
            unique=False,
            sqlite_where=sa.text("folded IS 0"),
            postgresql_where=sa.text("folded IS FALSE"),
        )
    op.create_table(
        "notices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False, comment="empty: for everybody"),
        sa.Column("spawn_id", sa.Text(), nullable=True, comment="of the session that it is about; null: for any"),
        sa.Column("kind", sa.Text(), nullable=False, comment="idle, budget, limit, stopped, queue, maintenance"),
        sa.Column("level", sa.Text(), nullable=False, comment="info, warning or danger"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.Column(
            "until",
            sa.Float(precision=53),
            nullable=True,
            comment="not shown from then on; null: until it is dismissed",
        ),
        sa.Column("dismissed_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index(op.f("ix_notices_spawn_id"), "notices", ["spawn_id"], unique=False)
    op.create_index(op.f("ix_notices_user_name_until"), "notices", ["user_name", "until"], unique=False)
    op.create_table(
        "quotas",
        sa.Column("subject", sa.Text(), nullable=False, comment="default, user:…, member:… or group:…"),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False, comment="by the file; pages show it so"),
        sa.Column("changed_at", sa.Float(precision=53), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "field", name=op.f("pk_quotas")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False, comment="the reservation's id"),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("ready_at", sa.Float(precision=53), nullable=True, comment="when it was first seen to run"),
        sa.Column("active_at", sa.Float(precision=53), nullable=False, comment="last sign of work"),
        sa.Column("keeps", sa.Integer(), nullable=False, comment="how often its owner asked to keep it"),
        sa.Column("ends_at", sa.Float(precision=53), nullable=True, comment="by the limit of its length"),
        sa.Column(
            "stop_at",
            sa.Float(precision=53),
            nullable=True,
            comment="when it will be stopped, announced; null: it will not",
        ),
        sa.Column("stop_because", sa.Text(), nullable=False, comment="code: idle, limit, budget, switch, admin; empty"),
        sa.Column("measures", sa.Text(), nullable=False, comment="JSON: what its server extension sent last"),
        sa.Column("measured_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False, comment="JSON: the request"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("accelerator", sa.Text(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("cpu_m", sa.BigInteger(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("share", sa.Float(precision=53), nullable=False),
        sa.Column(
            "session_s", sa.Float(precision=53), nullable=True, comment="how long it will last at most; null: not known"
        ),
        sa.Column("priority", sa.Integer(), nullable=False, comment="higher goes first"),
        sa.Column(
            "rank",
            sa.Float(precision=53),
            nullable=False,
            comment="within a priority the lower goes first; the moment of asking",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="waiting, starting or ended"),
        sa.Column("spawn_id", sa.Text(), nullable=True, comment="of the start that it was promoted to"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="starts that failed so far"),
        sa.Column("not_before", sa.Float(precision=53), nullable=False, comment="no start before this moment"),
        sa.Column("needs_login", sa.Boolean(), nullable=False, comment="waits for its owner's login"),
        sa.Column("replaces", sa.Text(), nullable=True, comment="spawn id of the session that it is switched from"),
        sa.Column("notify", sa.Boolean(), nullable=False, comment="by e-mail when the server is up"),
        sa.Column("asked_at", sa.Float(precision=53), nullable=False),
        sa.Column("changed_at", sa.Float(precision=53), nullable=False),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("ended_as", sa.Text(), nullable=True, comment="started, left, cancelled, refused, failed or lapsed"),
        sa.Column("said", sa.Text(), nullable=False, comment="why it waits or how it ended, for its owner"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
    )
    op.create_index(op.f("ix_tickets_state_priority_rank"), "tickets", ["state", "priority", "rank"], unique=False)
    op.create_index(op.f("ix_tickets_user_name_state"), "tickets", ["user_name", "state"], unique=False)
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Text(), nullable=False, comment="ISO date in the zone of the quotas"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("accelerator", sa.Text(), nullable=False, comment="empty: none"),
        sa.Column("share_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("card_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("session_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("cpu_seconds", sa.Float(precision=53), nullable=False, comment="cores times seconds, as granted"),
        sa.PrimaryKeyConstraint("day", "account", "user_name", "accelerator", name=op.f("pk_usage_days")),
    )
    op.create_index(op.f("ix_usage_days_account_day"), "usage_days", ["account", "day"], unique=False)
    op.create_index(op.f("ix_usage_days_user_name_day"), "usage_days", ["user_name", "day"], unique=False)
    op.create_table(
        "usage_fair",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("decayed", sa.Float(precision=53), nullable=False, comment="share-seconds, older ones counting less"),
        sa.Column("at", sa.Float(precision=53), nullable=False, comment="as of this moment"),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_usage_fair")),
    )
    op.create_table(
        "usage_spans",
        sa.Column(
            "subject", sa.Text(), nullable=False, comment="an account, or `by:` and who used it, whatever was charged"
        ),
        sa.Column(
            "size",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="quarters of an hour: 1, or 96 for a day",
        ),
        sa.Column(
            "quarter",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the first: seconds since 1970 by 900",
        ),
        sa.Column("accelerator", sa.Text(), nullable=False, comment="empty: none"),
        sa.Column("share_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("card_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("session_seconds", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("subject", "size", "quarter", "accelerator", name=op.f("pk_usage_spans")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "addresses",
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False, comment="for e-mail, as the login gave it"),
        sa.Column("changed_at", sa.Float(precision=53), nullable=False, comment="the last login"),
        sa.PrimaryKeyConstraint("user_name", name=op.f("pk_addresses")),
    )
    op.create_index(op.f("ix_addresses_changed_at"), "addresses", ["changed_at"], unique=False)
    op.create_table(
        "refusals",
        sa.Column("day", sa.Text(), nullable=False, comment="ISO date in the zone of the quotas"),
        sa.Column("door", sa.Text(), nullable=False, comment="hub or service"),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "door", "code", name=op.f("pk_refusals")),
    )
    op.add_column(
        "reservations", sa.Column("account", sa.Text(), server_default="", nullable=False, comment="what is charged")
    )
    op.add_column(
        "reservations",
        sa.Column(
            "share",
            sa.Float(precision=53),
            server_default="0",
            nullable=False,
            comment="of whole cards, all of the count together",
        ),
    )
    op.add_column(
        "reservations",
        sa.Column(
            "state",
            sa.Text(),
            server_default="begun",
            nullable=False,
            comment="granted: the hub is yet to start it; begun",
        ),
    )
    op.add_column("reservations", sa.Column("ticket", sa.Text(), nullable=True, comment="that it was promoted from"))
    op.add_column(
        "reservations",
        sa.Column(
            "options", sa.Text(), server_default="{}", nullable=False, comment="JSON: the request that was granted"
        ),
    )
    op.add_column(
        "reservations",
        sa.Column("session_s", sa.Float(precision=53), nullable=True, comment="how long it may last; null: no limit"),
    )
    op.create_index(op.f("ix_reservations_account"), "reservations", ["account"], unique=False)
    op.create_index(op.f("ix_reservations_user_name_server"), "reservations", ["user_name", "server"], unique=False)
