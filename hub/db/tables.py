"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Float, Integer, MetaData, Table, Text

__all__ = ["lease", "metadata", "reservations", "snapshot", "uids"]

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
    CheckConstraint("count >= 0", name="count_not_negative"),
)

uids = Table(
    "uids",
    metadata,
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("user_name", Text, nullable=False, unique=True),
    Column("given_at", Float(53), nullable=False),
)
