"""The sections about what runs beside the hub: database, service, controller."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from hub.settings.values import PathSetting, Section, Url, setting


class DatabaseSettings(Section):
    """Armillary's own database: reservations, published counts, who leads; JupyterHub keeps one of its own."""

    url: SecretStr | None = setting(
        None,
        "SQLAlchemy URL, for PostgreSQL `postgresql+psycopg://…`. A secret, because it carries a password: only by "
        "environment or `url_file`. Default: SQLite in `state_dir`, which is enough for one machine.",
        example="postgresql+psycopg://armillary:…@db.example.org/armillary",
    )
    url_file: PathSetting | None = setting(
        None, "File that holds `url`. Default: none.", example="/run/secrets/armillary-database-url"
    )

    @field_validator("url")
    @classmethod
    def _known_kind(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")
        return value


class ServiceSettings(Section):
    """The service: REST API and pages beside the hub's."""

    bind_url: Url = setting(
        "http://127.0.0.1:8003",
        "Where the service listens for the proxy; people reach it below `/services/armillary/`. Loopback by default, "
        "since on one machine nothing else needs it.",
        example="http://0.0.0.0:8003",
    )
    connect_url: Url | None = setting(
        None,
        "How the proxy reaches the service, where that differs from `bind_url`. Default: as `bind_url`.",
        example="http://service.armillary.svc:8003",
    )
    api_token_file: PathSetting | None = setting(
        None,
        "File with the token by which service and hub know each other. Default: `secrets/service_token` in "
        "`state_dir`, made by `armillary run`.",
        example="/run/secrets/service-token",
    )
    live_limit: Annotated[int, Field(ge=1, le=100_000)] = setting(
        2000,
        "How many pages may be kept up to date live at the same time; further ones are told to come back (503) and "
        "show the counts of when they were opened. 2000: each costs about 50 kB.",
        example=500,
        unit="connections",
    )


class ControllerSettings(Section):
    """The controller: the loops that count, and later queue, stop and repair. Any number may run, one acts."""

    lease_s: Annotated[float, Field(ge=2, le=300)] = setting(
        10.0,
        "How long the one that acts may be silent before another takes over. 10: a take-over takes at most this and a "
        "look (2 s); a shorter time would make a slow database look like a death.",
        example=30.0,
        unit="seconds",
    )
    stale_after_s: Annotated[float, Field(ge=5, le=3600)] = setting(
        15.0,
        "How old published counts may be before they are shown as stale, and no longer as the truth. 15: they are "
        "published every 3 s even when nothing changes.",
        example=60.0,
        unit="seconds",
    )
