"""The section about waiting: who may wait how often, how many servers start at once, and the notice by e-mail."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from hub.settings.values import Name, PathSetting, Seconds, Section, setting

__all__ = ["MailSettings", "QueueSettings"]

_SLOTS = {"local": 8, "kubernetes": 48}


class MailSettings(Section):
    """Notices by e-mail when one's server is up; sent only where a server for mail is named."""

    host: Name | None = setting(
        None,
        "The SMTP server that takes the mail. Default: none, no notice is offered then.",
        example="smtp.example.org",
    )
    port: Annotated[int, Field(ge=1, le=65_535)] = setting(
        587, "Its port. 587: submission of mail (RFC 6409).", example=25, unit="port"
    )
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls",
        "How the connection is protected: STARTTLS, TLS from its beginning (port 465), or not at all, which only a "
        "server on the same machine or network should take.",
        example="tls",
    )
    user: Name | None = setting(None, "User name at the server. Default: none is sent.", example="armillary")
    password: SecretStr | None = setting(
        None, "Password there. A secret: only by environment or `password_file`.", example="***"
    )
    password_file: PathSetting | None = setting(
        None, "File that holds the password. Default: none.", example="/run/secrets/mail-password"
    )
    sender: Annotated[str, Field(pattern=r"^[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,190}$")] = setting(
        "armillary@localhost", "Address that the mail comes from.", example="hub@example.org"
    )
    timeout_s: Seconds = setting(
        20, "How long the server may take for one mail. 20: it may look up who sends.", example=60, unit="seconds"
    )

    @model_validator(mode="after")
    def _password_stays_secret(self) -> Self:
        if self.user is not None and self.security == "none":
            raise ValueError("queue.mail: a password is never sent without protection; set security, or remove user")
        return self


class QueueSettings(Section):
    """The queue: what happens to requests that cannot be had at once."""

    start_slots: Annotated[int, Field(ge=1, le=10_000)] | None = setting(
        None,
        "How many servers the queue starts at the same moment; further ones are started as these are ready. Default: "
        "48 on Kubernetes, a little below `hub.concurrent_starts`, so that people at the hub's own doors get in too; 8 "
        "with the local engine, whose machine has to run all of them.",
        example=20,
        unit="servers",
    )
    tickets: Annotated[int, Field(ge=0, le=1000)] = setting(
        4,
        "How many places in the queue a person may have at once, unless a quota `queued` says otherwise; 0 switches "
        "the queue off. 4: as many as there may be named servers.",
        example=1,
        unit="tickets",
    )
    login_wait_s: Annotated[int, Field(ge=60, le=30 * 86_400)] = setting(
        86_400,
        "How long a place is kept for somebody whose turn has come but whose login has ended meanwhile. A day: whoever "
        "queued in the evening may sleep.",
        example=7200,
        unit="seconds",
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = setting(
        3,
        "How often a start from the queue may fail before its ticket ends. 3: a bad node should not cost somebody the "
        "place, and a bad request should not be tried for ever.",
        example=1,
        unit="starts",
    )
    reservation_s: Annotated[int, Field(ge=10, le=3600)] = setting(
        60,
        "How long what was granted is kept for a start that nobody sees to any more, as when service and controller "
        "were both killed. 60: both are back by then.",
        example=120,
        unit="seconds",
    )
    switch_grace_s: Annotated[int, Field(ge=0, le=3600)] = setting(
        90,
        "How long a session is told beforehand that it is about to be stopped, because its owner switches to another "
        "accelerator and that is there. 90: JupyterLab saves its documents then, and in a tab that nobody looks at a "
        "browser lets it ask only once a minute.",
        example=120,
        unit="seconds",
    )
    keep_days: Annotated[int, Field(ge=1, le=3650)] = setting(
        30,
        "How long tickets that have ended can be looked up. 30: long enough to ask why.",
        example=7,
        unit="days",
    )
    mail: MailSettings = Field(default=MailSettings(), description="Notices by e-mail when one's server is up.")

    def slots(self, engine: str) -> int:
        """How many servers may be starting at once with this engine."""
        return self.start_slots if self.start_slots is not None else _SLOTS[engine]
