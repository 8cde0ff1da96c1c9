"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Float, Index, Integer, MetaData, Table, Text, text

__all__ = [
    "addresses",
    "audit",
    "journal",
    "lease",
    "ledger",
    "metadata",
    "notices",
    "quotas",
    "refusals",
    "reservations",
    "sessions",
    "snapshot",
    "tickets",
    "uids",
    "usage_days",
    "usage_fair",
    "usage_spans",
]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Moments are seconds since 1970 by the database's clock (`hub.db.clock.Now`).

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True, comment="what is led"),
    Column("epoch", BigInteger, nullable=False, comment="grows by one whenever another takes over"),
    Column("renewals", BigInteger, nullable=False, comment="grows while the holder lives"),
    Column("holder", Text, comment="who leads, for people; null: given back"),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("name", Text, primary_key=True, comment="what is counted"),
    Column("sequence", BigInteger, nullable=False, comment="grows by one whenever it is published"),
    Column("epoch", BigInteger, nullable=False, comment="of the lease under which it was published"),
    Column("published_at", Float(53), nullable=False),
    Column("document", Text, nullable=False, comment="spawner.capacity.model.Snapshot as JSON"),
)

# Written by triggers (migration 0003); see `hub.db.journal`.
journal = Table(
    "journal",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, comment="grows"),
    Column("mark", Text, nullable=False, comment="random: a number may be used again after a rollback"),
    Column("subject", Text, nullable=False, comment="the table: reservations, tickets or sessions"),
    Column("id", Text, nullable=False, comment="of its row"),
    Column("gone", Boolean(create_constraint=False), nullable=False, comment="deleted; else made or changed"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", Text, primary_key=True, comment="the start's spawn id"),
    Column("user_name", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("accelerator", Text),
    Column("count", Integer, nullable=False),
    Column("cpu_m", BigInteger, comment="thousandths of a core"),
    Column("memory", BigInteger, comment="bytes"),
    Column("devices", Text, nullable=False, comment="JSON list of uuids"),
    Column("seen", Boolean(create_constraint=False), nullable=False, comment="the published snapshot counts it"),
    Column("reserved_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False, comment="given back then, unless seen before"),
    Column("account", Text, nullable=False, server_default="", comment="what is charged"),
    Column("share", Float(53), nullable=False, server_default="0", comment="of whole cards, all of the count together"),
    Column("state", Text, nullable=False, server_default="begun", comment="granted: the hub is yet to start it; begun"),
    Column("ticket", Text, comment="that it was promoted from"),
    Column("options", Text, nullable=False, server_default="{}", comment="JSON: the request that was granted"),
    Column("session_s", Float(53), comment="how long it may last; null: no limit"),
    CheckConstraint("count >= 0", name="count_not_negative"),
    Index(None, "user_name", "server"),
    Index(None, "account"),
)

uids = Table(
    "uids",
    metadata,
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("user_name", Text, nullable=False, unique=True),
    Column("given_at", Float(53), nullable=False),
)

tickets = Table(
    "tickets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("options", Text, nullable=False, comment="JSON: the request"),
    Column("account", Text, nullable=False),
    Column("accelerator", Text),
    Column("count", Integer, nullable=False),
    Column("cpu_m", BigInteger),
    Column("memory", BigInteger),
    Column("share", Float(53), nullable=False),
    Column("session_s", Float(53), comment="how long it will last at most; null: not known"),
    Column("priority", Integer, nullable=False, comment="higher goes first"),
    Column("rank", Float(53), nullable=False, comment="within a priority the lower goes first; the moment of asking"),
    Column("state", Text, nullable=False, comment="waiting, starting or ended"),
    Column("spawn_id", Text, comment="of the start that it was promoted to"),
    Column("attempts", Integer, nullable=False, comment="starts that failed so far"),
    Column("not_before", Float(53), nullable=False, comment="no start before this moment"),
    Column("needs_login", Boolean(create_constraint=False), nullable=False, comment="waits for its owner's login"),
    Column("replaces", Text, comment="spawn id of the session that it is switched from"),
    Column("notify", Boolean(create_constraint=False), nullable=False, comment="by e-mail when the server is up"),
    Column("asked_at", Float(53), nullable=False),
    Column("changed_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("ended_as", Text, comment="started, left, cancelled, refused, failed or lapsed"),
    Column("said", Text, nullable=False, comment="why it waits or how it ended, for its owner"),
    Index(None, "state", "priority", "rank"),
    Index(None, "user_name", "state"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True, comment="the reservation's id; of a correction its own"),
    Column("user_name", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("accelerator", Text, nullable=False, comment="empty: none"),
    Column("count", Integer, nullable=False),
    Column("share", Float(53), nullable=False, comment="of whole cards, all of the count together"),
    Column("cpu_m", BigInteger),
    Column("memory", BigInteger),
    Column("image", Text, nullable=False, comment="reference"),
    Column("digest", Text, nullable=False, comment="of the image, as it ran; empty: not known"),
    Column("node", Text, nullable=False, comment="empty: not known"),
    Column("opened_at", Float(53), nullable=False),
    Column("beat_at", Float(53), nullable=False, comment="up to here it is charged and in the sums"),
    Column("closed_at", Float(53), comment="null: open"),
    Column("ended_as", Text, nullable=False, comment="why it was closed; empty while open"),
    Column("corrects", Text, comment="row that this one corrects; its seconds are added"),
    Column("seconds", Float(53), nullable=False, comment="charged so far; of a correction the difference"),
    Column("by", Text, nullable=False, comment="who wrote a correction, and why"),
    Column("folded_s", Float(53), nullable=False, comment="of its seconds, those that are in the sums of days"),
    Column("folded", Boolean(create_constraint=False), nullable=False, comment="closed, and all in the sums of days"),
    Index(None, "closed_at"),
    Index(None, "account", "opened_at"),
    Index(None, "user_name", "opened_at"),
    Index(None, "corrects"),
    # Open rows, and those that were closed a moment ago: few among a million. With `closed_at`, since SQLite takes the
    # index of which it can use more columns; for `account` alone it would take the one above, and read a month.
    Index(None, "account", "closed_at", sqlite_where=text("folded IS 0"), postgresql_where=text("folded IS FALSE")),
    Index(None, "user_name", "closed_at", sqlite_where=text("folded IS 0"), postgresql_where=text("folded IS FALSE")),
)

# Sums of the ledger. Quarters of an hour, because every time zone of the world begins its days by one; beside them days
# of UTC, so that a month is some tens of rows and not three thousand.
usage_spans = Table(
    "usage_spans",
    metadata,
    Column("subject", Text, primary_key=True, comment="an account, or `by:` and who used it, whatever was charged"),
    Column("size", Integer, primary_key=True, autoincrement=False, comment="quarters of an hour: 1, or 96 for a day"),
    Column(
        "quarter", BigInteger, primary_key=True, autoincrement=False, comment="the first: seconds since 1970 by 900"
    ),
    Column("accelerator", Text, primary_key=True, comment="empty: none"),
    Column("share_seconds", Float(53), nullable=False),
    Column("card_seconds", Float(53), nullable=False),
    Column("session_seconds", Float(53), nullable=False),
    sqlite_with_rowid=False,
)

usage_days = Table(
    "usage_days",
    metadata,
    Column("day", Text, primary_key=True, comment="ISO date in the zone of the quotas"),
    Column("account", Text, primary_key=True),
    Column("user_name", Text, primary_key=True),
    Column("accelerator", Text, primary_key=True, comment="empty: none"),
    Column("share_seconds", Float(53), nullable=False),
    Column("card_seconds", Float(53), nullable=False),
    Column("session_seconds", Float(53), nullable=False),
    Column("cpu_seconds", Float(53), nullable=False, comment="cores times seconds, as granted"),
    Index(None, "account", "day"),
    Index(None, "user_name", "day"),
)

usage_fair = Table(
    "usage_fair",
    metadata,
    Column("account", Text, primary_key=True),
    Column("decayed", Float(53), nullable=False, comment="share-seconds, older ones counting less"),
    Column("at", Float(53), nullable=False, comment="as of this moment"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("subject", Text, primary_key=True, comment="default, user:…, member:… or group:…"),
    Column("field", Text, primary_key=True),
    Column("value", Float(53), nullable=False),
    Column("declared", Boolean(create_constraint=False), nullable=False, comment="by the file; pages show it so"),
    Column("changed_at", Float(53), nullable=False),
    Column("changed_by", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False, comment="user:…, or the process that acted"),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="what it was done to"),
    Column("before", Text, comment="JSON"),
    Column("after", Text, comment="JSON"),
    Index(None, "subject", "at"),
    Index(None, "at"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("day", Text, primary_key=True, comment="ISO date in the zone of the quotas"),
    Column("door", Text, primary_key=True, comment="hub or service"),
    Column("code", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_name", Text, nullable=False, comment="empty: for everybody"),
    Column("spawn_id", Text, comment="of the session that it is about; null: for any"),
    Column("kind", Text, nullable=False, comment="idle, budget, limit, stopped, queue, maintenance"),
    Column("level", Text, nullable=False, comment="info, warning or danger"),
    Column("text", Text, nullable=False),
    Column("made_at", Float(53), nullable=False),
    Column("until", Float(53), comment="not shown from then on; null: until it is dismissed"),
    Column("dismissed_at", Float(53)),
    Index(None, "user_name", "until"),
    Index(None, "spawn_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True, comment="the reservation's id"),
    Column("user_name", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("ready_at", Float(53), comment="when it was first seen to run"),
    Column("active_at", Float(53), nullable=False, comment="last sign of work"),
    Column("keeps", Integer, nullable=False, comment="how often its owner asked to keep it"),
    Column("ends_at", Float(53), comment="by the limit of its length"),
    Column("stop_at", Float(53), comment="when it will be stopped, announced; null: it will not"),
    Column("stop_because", Text, nullable=False, comment="code: idle, limit, budget, switch, admin; empty"),
    Column("measures", Text, nullable=False, comment="JSON: what its server extension sent last"),
    Column("measured_at", Float(53)),
)

addresses = Table(
    "addresses",
    metadata,
    Column("user_name", Text, primary_key=True),
    Column("address", Text, nullable=False, comment="for e-mail, as the login gave it"),
    Column("changed_at", Float(53), nullable=False, comment="the last login"),
    Index(None, "changed_at"),
)
