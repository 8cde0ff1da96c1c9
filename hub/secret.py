"""Secrets as the settings name them: a value, or a file that holds it. For the hub and for what runs beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from hub.settings import Settings

__all__ = ["ConfigError", "metrics_token", "secret", "service_token"]


class ConfigError(ValueError):
    """Settings that are right by themselves do not fit what is on this machine; the text says what to do."""


def secret(value: SecretStr | None, file: Path | None, name: str) -> str:
    """A secret as it is: the value if there is one, else what the file holds; empty if there is neither."""
    if value is not None:
        return value.get_secret_value().strip()
    if file is None:
        return ""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{name}: the file {file} cannot be read: {said}") from error
    if not text:
        raise ConfigError(f"{name}: the file {file} is empty")
    return text


def service_token(settings: Settings) -> str:
    """The token by which hub and service know each other.

    Raises ConfigError where there is none that can be used.
    """
    file = settings.service.api_token_file or settings.paths.service_token
    try:
        token = secret(None, file, "service.api_token_file")
    except ConfigError as error:
        raise ConfigError(f"{error}; `armillary run` makes it, or: openssl rand -hex 32 > {file}") from error
    return _checked(token, file, "service.api_token_file")


def metrics_token(settings: Settings) -> str:
    """The token by which Prometheus reads metrics; empty: there is none, or none is needed.

    Raises ConfigError where one is named that cannot be used.
    """
    if not settings.hub.metrics_need_token:
        return ""
    file = settings.hub.metrics_token_file
    if file is None:
        file = settings.paths.metrics_token
        if not file.exists():
            return ""
    return _checked(secret(None, file, "hub.metrics_token_file"), file, "hub.metrics_token_file")


def _checked(token: str, file: Path, name: str) -> str:
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{name}: {file} holds no token: it must be one word of 16 letters and digits or more")
    return token
