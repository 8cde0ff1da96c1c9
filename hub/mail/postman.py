"""Sends mail when a server from the queue is up: in a thread, tried again some few times, never in anybody's way.

At most one mail a start: the start is written down as ended before, and a process that is killed then sends none.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage

from sqlalchemy import Engine

from hub.admission.tickets import Ticket
from hub.db.transaction import read
from hub.mail import addresses
from hub.mail.message import server_is_up
from hub.metrics import MAILS
from hub.secret import secret
from hub.settings import Settings
from hub.settings.queue import MailSettings

__all__ = ["Postman", "deliver"]

_log = logging.getLogger(__name__)

_PAUSES_S = (0.0, 30.0, 300.0)
"""Before each attempt. A server that greylists (RFC 6647) takes the mail after some minutes."""

_AT_ONCE = 4
_MOST = 500
"""Mails that may wait to be sent; with more the server for mail is away, and news of servers get old."""


class Postman:
    """For one event loop.

    Parameters
    ----------
    titles
        What accelerators are called, by key.
    pauses_s
        Before each attempt.
    """

    def __init__(
        self,
        database: Engine,
        settings: MailSettings,
        password: str,
        site: str,
        titles: Mapping[str, str],
        *,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        self._database = database
        self._settings = settings
        self._password = password
        self._site = site
        self._titles = titles
        self._pauses_s = pauses_s
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, settings: Settings, database: Engine, titles: Mapping[str, str]) -> Postman | None:
        """Return the one of these settings; None: the site sends no mail. Reads the password's file.

        Raises
        ------
        hub.secret.ConfigError
            That cannot be read.
        """
        own = settings.queue.mail
        if own.host is None:
            return None
        password = secret(own.password, own.password_file, "queue.mail.password_file")
        return cls(database, own, password, settings.public_url, titles)

    async def ready(self, ticket: Ticket) -> None:
        """Begin to tell the owner of a ticket that the server is up; returns at once."""
        if len(self._tasks) >= _MOST:
            MAILS.labels("failed").inc()
            return
        task = asyncio.create_task(self._tell(ticket), name=f"armillary-mail-{ticket.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let go of mails that are not sent yet."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, ticket: Ticket) -> None:
        said = ""
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            try:
                async with self._slots:
                    address = await asyncio.to_thread(read, self._database, lambda c: addresses.find(c, ticket.user))
                    if address is None:
                        MAILS.labels("no-address").inc()
                        return
                    title = self._titles.get(ticket.accelerator or "", ticket.accelerator or "")
                    message = server_is_up(ticket, title, self._site, self._settings.sender, address)
                    await asyncio.to_thread(deliver, self._settings, self._password, message)
            except (OSError, smtplib.SMTPException) as error:  # addresses are nobody's business: not in the log
                said = _said(error)
                if _for_good(error):
                    break
            else:
                MAILS.labels("sent").inc()
                return
        MAILS.labels("failed").inc()
        _log.warning("The mail that %r/%r is up could not be sent: %s", ticket.user, ticket.server, said)


def deliver(settings: MailSettings, password: str, message: EmailMessage) -> None:
    """Hand a message to the server for mail. Blocks, each step for `timeout_s` at most.

    Raises
    ------
    OSError, smtplib.SMTPException
        It was not taken.
    """
    host, domain = settings.host or "", settings.sender.rpartition("@")[2]
    # The name in EHLO: looking up one's own can take a resolver's whole patience.
    if settings.security == "tls":
        context = ssl.create_default_context()
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, settings.port, local_hostname=domain, timeout=settings.timeout_s, context=context
        )
    else:
        server = smtplib.SMTP(host, settings.port, local_hostname=domain, timeout=settings.timeout_s)
    with server:
        if settings.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.user is not None:
            server.login(settings.user, password)
        server.send_message(message)


def _codes(error: Exception) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _for_good(error: Exception) -> bool:
    """Whether trying again is of no use: the server has said so (5xx), or offers no protection or no login."""
    codes = _codes(error)
    if codes:
        return all(code >= 500 for code in codes)
    return isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError)


def _said(error: Exception) -> str:
    """What kind of failure it is, without what the server says: that often repeats the address."""
    return " ".join([type(error).__name__, *map(str, _codes(error))])
