"""What an installation consists of: what a copy has to hold, and what it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from hub.backup.problem import BackupError
from hub.db.address import database_url
from hub.secret import secret
from hub.settings import Settings

__all__ = ["ARMILLARY", "JUPYTERHUB", "Contents", "Database", "contents"]

ARMILLARY, JUPYTERHUB = "armillary", "jupyterhub"
"""Names of the two databases in a copy."""

_KINDS = ("sqlite", "postgresql")
_MOUNTED = "..data"
"""By this link a folder is known that the kubelet fills from a Secret: nobody else writes there."""


@dataclass(frozen=True)
class Database:
    """One of the two databases. `url` is a secret, and is not shown."""

    name: str
    url: URL = field(repr=False)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.get_backend_name()

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database or "").absolute() if self.kind == "sqlite" else None

    @property
    def shown(self) -> str:
        """Its place, for people; without user and password."""
        if self.file is not None:
            return f"the SQLite file {self.file}"
        return f"the PostgreSQL database {self.url.database} at {self.url.host or 'this machine'}"


@dataclass(frozen=True)
class Contents:
    """What is copied, and sentences about what is not.

    `folders` are put back, by their name in the copy; `configuration` is kept for reference only: it is the
    operator's, and may be newer where a copy is put back.
    """

    databases: tuple[Database, ...]
    folders: dict[str, Path]
    configuration: dict[str, Path]
    absent: tuple[str, ...]


def contents(settings: Settings, settings_file: Path | None) -> Contents:
    """Return what this installation consists of; nothing is read but files that hold a database's address.

    Raises
    ------
    BackupError, hub.db.address.AddressError, hub.secret.ConfigError
        A database is of a kind that cannot be copied here, or its address cannot be read.
    """
    own, paths = settings.hub, settings.paths
    hubs = secret(own.database_url, own.database_url_file, "hub.database_url") or f"sqlite:///{paths.hub_database}"
    databases = (
        Database(ARMILLARY, _parsed(database_url(settings, half_restored=True), "database.url")),
        Database(JUPYTERHUB, _parsed(hubs, "hub.database_url")),
    )
    named = {
        "armillary.yaml": settings_file,
        "catalogue.yaml": settings.catalogue,
        "quotas.yaml": settings.quotas.file,
    }
    configuration = {name: file for name, file in named.items() if file is not None}
    folders = {"secrets": paths.secrets, "provider": paths.canaille}
    absent = [_homes(settings)]
    if (paths.secrets / _MOUNTED).is_symlink():
        del folders["secrets"]
        files = [file for file in sorted(paths.secrets.iterdir()) if file.is_file() and not file.name.startswith("..")]
        configuration |= {f"mounted-secrets/{file.name}": file for file in files}
        absent.append(
            "The secrets are a Secret of the cluster: the copy holds them below configuration/mounted-secrets, but "
            "they are not put back; make the Secret from them where it is lost."
        )
    return Contents(
        databases,
        {name: folder for name, folder in folders.items() if folder.is_dir()},
        configuration,
        tuple(absent),
    )


def _homes(settings: Settings) -> str:
    if settings.engine == "local":
        return f"Not in it: the homes in {settings.paths.homes}; they are too large. Take snapshots of them."
    return "Not in it: the homes, which are volumes of the cluster; take snapshots of them."


def _parsed(url: str, setting: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BackupError(f"{setting}: the URL cannot be read") from None
    if parsed.get_backend_name() not in _KINDS or (parsed.get_backend_name() == "sqlite" and not parsed.database):
        raise BackupError(
            f"{setting}: a database of the kind {parsed.get_backend_name()} cannot be copied; "
            "SQLite files and PostgreSQL can. Copy it with its own tools"
        )
    return parsed
