"""Which database the settings mean."""

from __future__ import annotations

from pathlib import Path

from hub.settings import Settings

__all__ = ["KINDS", "AddressError", "database_url"]

KINDS = ("sqlite:///", "postgresql+psycopg://")
"""How the URL of a database that we can use begins."""


class AddressError(ValueError):
    """The settings do not name a database that can be used; the text is for the operator, and holds no password."""


def database_url(settings: Settings, *, half_restored: bool = False) -> str:
    """Return the SQLAlchemy URL of Armillary's own database; a secret, because it may carry a password.

    Parameters
    ----------
    half_restored
        Also while a copy of the installation is being put back.

    Raises
    ------
    AddressError
        `database.url_file` cannot be read, or holds something else; or a copy was only half put back.
    """
    mark = settings.paths.unfinished_restore
    if mark.exists() and not half_restored:
        raise AddressError(
            "putting back a copy was broken off, and half of an installation must not be used. Do it again: "
            f"armillary backup restore {mark.read_text(encoding='utf-8').strip()} --yes"
        )
    own = settings.database
    if own.url is not None:
        return own.url.get_secret_value().strip()
    if own.url_file is not None:
        return _from_file(own.url_file)
    return f"sqlite:///{settings.paths.database.absolute()}"


def _from_file(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not text"
        raise AddressError(f"database.url_file: the file {file} cannot be read: {said}") from error
    if not text.startswith(KINDS):
        raise AddressError(
            f"database.url_file: the file {file} must hold one URL that begins with {' or '.join(KINDS)}"
        )
    return text
