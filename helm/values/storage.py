"""The chart's values about databases and their copies."""

from __future__ import annotations

from pydantic import Field

from helm.base import Model
from helm.values.parts import Amounts, Placing, Quantity, Resources

__all__ = ["Backup", "Database"]


class Bundled(Placing):
    """A PostgreSQL of the chart's own: one pod with one volume, for sites that have none."""

    enabled: bool = Field(default=True, description="Whether it is used. Without it `database.existingSecret` is.")
    storage_class: str = Field(default="", description="StorageClass of its volume. Empty: the cluster's default.")
    size: Quantity = Field(default="8Gi", description="Size of its volume.")
    user: int = Field(default=999, ge=1, description="The uid that it runs as; that of the image's account `postgres`.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="A million rows of the ledger are about 1 GB on disk.",
    )


class Database(Model):
    """Where Armillary and JupyterHub keep what they know."""

    existing_secret: str = Field(
        default="",
        description="A Secret with the keys `armillary-url` and `jupyterhub-url`: two databases of a PostgreSQL ≥ 15, "
        "as `postgresql+psycopg://USER:PASSWORD@HOST/NAME`. Only without the bundled one.",
    )
    bundled: Bundled = Field(default=Bundled(), description="The chart's own PostgreSQL.")
    migrate_before_upgrade: bool = Field(
        default=True,
        description="Whether an upgrade begins with bringing the tables of both databases to what the new version "
        "needs, after the copy, and fails where that fails. Without it hub and JupyterHub do so when they start.",
    )


class Backup(Model):
    """`armillary backup create` before every upgrade, and by a CronJob."""

    before_upgrade: bool = Field(
        default=True, description="Whether an upgrade begins with a copy, and fails without one."
    )
    schedule: str = Field(default="15 3 * * *", description="When a copy is made, as in cron. Empty: never.")
    keep: int = Field(default=14, ge=1, description="How many copies stay.")
    storage_class: str = Field(default="", description="StorageClass of their volume. Empty: the cluster's default.")
    size: Quantity = Field(default="10Gi", description="Size of their volume.")
