"""The first tables: who leads, what is free, what was granted, and which Unix uid belongs to whom."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False, comment="what is led"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="grows by one whenever another takes over"),
        sa.Column("renewals", sa.BigInteger(), nullable=False, comment="grows while the holder lives"),
        sa.Column("holder", sa.Text(), nullable=True, comment="who leads, for people; null: given back"),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
    op.create_table(
        "snapshot",
        sa.Column("name", sa.Text(), nullable=False, comment="what is counted"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="grows by one whenever it is published"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="of the lease under which it was published"),
        sa.Column("published_at", sa.Float(53), nullable=False),
        sa.Column("document", sa.Text(), nullable=False, comment="spawner.capacity.model.Snapshot as JSON"),
        sa.PrimaryKeyConstraint("name", name="pk_snapshot"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.Text(), nullable=False, comment="the start's spawn id"),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("accelerator", sa.Text(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("cpu_m", sa.BigInteger(), nullable=True, comment="thousandths of a core"),
        sa.Column("memory", sa.BigInteger(), nullable=True, comment="bytes"),
        sa.Column("devices", sa.Text(), nullable=False, comment="JSON list of uuids"),
        sa.Column("seen", sa.Boolean(), nullable=False, comment="the published snapshot counts it"),
        sa.Column("reserved_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False, comment="given back then, unless seen before"),
        sa.CheckConstraint("count >= 0", name=op.f("ck_reservations_count_not_negative")),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
    )
    op.create_table(
        "uids",
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_uids"),
        sa.UniqueConstraint("user_name", name="uq_uids_user_name"),
    )
