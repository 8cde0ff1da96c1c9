"""The one mail that is sent: a server is up. Plain text; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import quote

from hub.admission.tickets import Ticket

__all__ = ["server_is_up"]

_LONGEST_NAME = 60


def server_is_up(ticket: Ticket, title: str, site: str, sender: str, recipient: str) -> EmailMessage:
    """Return the mail for a ticket whose server is up.

    Parameters
    ----------
    title
        What its accelerator is called; empty: none.
    site
        Public URL of the site.
    sender, recipient
        Checked addresses. Whatever else people could choose is shortened and printed without control characters, and
        the email package refuses line ends in headers.
    """
    name = _printed(ticket.server)
    which = f"Your server {name}" if name else "Your server"
    path = f"user/{quote(ticket.user, safe='@')}/" + (f"{quote(ticket.server, safe='')}/" if ticket.server else "")
    message = EmailMessage()
    message["Subject"] = f"{which} is up"
    message["From"] = sender
    message["To"] = recipient
    message["Date"] = format_datetime(datetime.now(UTC))
    # The same for the same start: should it be sent twice, programs for mail show it once.
    message["Message-ID"] = f"<{ticket.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence notice answers it
    turn = f"It was your turn for {_printed(title)}." if title else "It was your turn."
    message.set_content(
        f"{turn} {which} is up:\n\n    {site.rstrip('/')}/{path}\n\n"
        "It uses what you were granted from now on. If you do not need it any more, stop it there, so that others get "
        "it.\n\nYou get this mail because you asked for it when you joined the queue.\n"
    )
    return message


def _printed(text: str) -> str:
    """A name as it can stand in a line."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"
