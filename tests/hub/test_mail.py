"""Mail when one's server is up: to the address of the login, once, and to nobody else whatever people are called."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from hub.admission import tickets
from hub.admission.changes import forget_user
from hub.admission.logins import Logins
from hub.admission.tickets import Ticket
from hub.auth.oidc import OIDCAuthenticator
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import addresses as table
from hub.db.tables import tickets as ticket_table
from hub.db.transaction import read, write
from hub.mail.addresses import AddressBook, address_in, find, remember, sweep
from hub.mail.message import server_is_up
from hub.mail.postman import Postman, deliver
from hub.metrics import MAILS
from hub.settings.queue import MailSettings
from tests.hub.admission_world import until
from tests.hub.mail_double import MailServer

TICKET = Ticket("0123abcd", "ann@lab", "my work", "gpu", accelerator="card", notify=True)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer().running() as running:
        yield running


def settings(server: MailServer, **more: Any) -> MailSettings:
    own: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "security": "none", "sender": "hub@example.org"}
    return MailSettings(**own, **more)


def postman(database: Engine, server: MailServer, **more: Any) -> Postman:
    titles = {"card": "A100"}
    return Postman(
        database, settings(server, **more), "", "https://hub.example.org/x", titles, pauses_s=(0.0, 0.01, 0.01)
    )


def know(database: Engine, user: str, address: str | None) -> None:
    write(database, lambda found: remember(found, user, address))


def count(outcome: str) -> float:
    return float(MAILS.labels(outcome)._value.get())


async def test_whoever_asked_for_it_is_told_at_the_address_of_the_login(database: Engine, server: MailServer) -> None:
    know(database, "ann@lab", "ann@example.org")
    know(database, "bob", "bob@example.org")
    before = count("sent")
    await postman(database, server).ready(TICKET)
    await until(lambda: count("sent") == before + 1)
    [mail] = [message_from_bytes(raw, policy=default) for raw in server.mails]
    assert server.recipients == ["rcpt TO:<ann@example.org>"]
    assert (mail["To"], mail["From"]) == ("ann@example.org", "hub@example.org")
    assert mail["Subject"] == "Your server my work is up"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"] == "<0123abcd@example.org>"
    assert mail.get_content_type() == "text/plain"
    assert "https://hub.example.org/x/user/ann@lab/my%20work/" in mail.get_content()
    assert "A100" in mail.get_content()
    assert server.greetings == ["ehlo example.org"]


async def test_without_an_address_nothing_is_sent(database: Engine, server: MailServer) -> None:
    before = count("no-address")
    await postman(database, server).ready(TICKET)
    await until(lambda: count("no-address") == before + 1)
    assert server.connections == 0


async def test_what_the_server_cannot_take_now_is_tried_again_and_sent_once(
    database: Engine, server: MailServer
) -> None:
    know(database, "ann@lab", "ann@example.org")
    server.answers = ["451 greylisted", "450 busy"]
    before = count("sent")
    await postman(database, server).ready(TICKET)
    await until(lambda: count("sent") == before + 1)
    assert (len(server.mails), server.connections) == (1, 3)


@pytest.mark.parametrize("answer", ["451 later", "550 no such mailbox for ann@example.org"])
async def test_a_mail_that_is_not_taken_is_given_up_and_the_log_holds_no_address(
    database: Engine, server: MailServer, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    know(database, "ann@lab", "ann@example.org")
    server.answers = [answer] * 10
    before = count("failed")
    with caplog.at_level(logging.DEBUG, "hub"):
        await postman(database, server).ready(TICKET)
        await until(lambda: count("failed") == before + 1)
    assert server.mails == []
    assert server.connections == (3 if answer.startswith("4") else 1)
    assert "could not be sent" in caplog.text
    assert "example.org" not in caplog.text


async def test_a_server_that_hangs_up_or_is_away_fails_and_harms_nobody(database: Engine, server: MailServer) -> None:
    know(database, "ann@lab", "ann@example.org")
    server.hangs_up = True
    before = count("failed")
    sender = postman(database, server)
    await sender.ready(TICKET)
    await until(lambda: count("failed") == before + 1)
    assert server.connections == 3
    await sender.ready(TICKET)
    await sender.close()


def test_where_protection_is_asked_for_nothing_is_sent_without(server: MailServer) -> None:
    message = server_is_up(TICKET, "", "https://x", "hub@example.org", "ann@example.org")
    with pytest.raises(smtplib.SMTPNotSupportedError):
        deliver(settings(server).model_copy(update={"security": "starttls"}), "", message)
    assert server.mails == []


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "address"),
    [
        pytest.param([{"email": "ann@example.org"}], "ann@example.org", id="as-it-is"),
        pytest.param(
            [{"email": "a.n+n_1@sub.example.org", "email_verified": True}], "a.n+n_1@sub.example.org", id="plus"
        ),
        pytest.param([{"email": "ann@example.org", "email_verified": "true"}], "ann@example.org", id="text"),
        pytest.param([{"email": "ann@example.org", "email_verified": False}], None, id="unverified"),
        pytest.param([{"email": "ann@example.org", "email_verified": "false"}], None, id="unverified-text"),
        pytest.param([{}, {"email": "ann@example.org"}], "ann@example.org", id="in-the-id-token"),
        pytest.param([{"email": "x", "email_verified": False}, {"email": "a@b.org"}], None, id="first-counts"),
        pytest.param([{"email": "a@b.org\nBcc: c@d.org"}], None, id="line-end"),
        pytest.param([{"email": "a@b.org, c@d.org"}], None, id="two"),
        pytest.param([{"email": "Ann <a@b.org>"}], None, id="name"),
        pytest.param([{"email": '"a b"@c.org'}], None, id="quoted"),
        pytest.param([{"email": "a@b@c.org"}], None, id="two-ats"),
        pytest.param([{"email": "ann"}], None, id="none"),
        pytest.param([{"email": ["a@b.org"]}], None, id="list"),
        pytest.param([{"email": "\u00e4@b.org"}], None, id="not-ascii"),
        pytest.param([{"email": f"a@{'b' * 260}.org"}], None, id="long"),
        pytest.param([{}, {}], None, id="nothing"),
    ],
)
def test_only_a_plain_verified_address_of_the_login_counts(claims: list[dict[str, Any]], address: str | None) -> None:
    assert address_in(*claims) == address


async def test_an_address_is_kept_changed_forgotten_with_its_owner_and_after_a_while(database: Engine) -> None:
    def known(user: str) -> str | None:
        return read(database, lambda found: find(found, user))

    book = AddressBook(database)
    for address in ("a@example.org", "b@example.org", None, "c@example.org"):
        await book.remember("ann", address)
        assert known("ann") == address
    know(database, "bob", "bob@example.org")
    know(database, "cleo", "cleo@example.org")
    write(database, lambda found: forget_user(found, "bob"))
    assert known("bob") is None
    old = update(table).where(table.c.user_name == "cleo").values(changed_at=Now() - 100.0)
    write(database, lambda found: found.execute(old))
    assert write(database, lambda found: sweep(found, 50.0)) == 1
    assert (known("cleo"), known("ann")) == (None, "c@example.org")


async def test_a_login_gives_the_address_and_one_without_takes_it_away(database: Engine) -> None:
    authenticator = OIDCAuthenticator(issuer="https://login.example.org", addresses=AddressBook(database))

    async def login(**claims: Any) -> str | None:
        state = {authenticator.user_auth_state_key: claims, "id_token_claims": {"sub": "1"}}
        model = {"name": "ann", "auth_state": state}
        assert await authenticator.run_post_auth_hook(None, model) == model
        return read(database, lambda found: find(found, "ann"))

    assert await login(sub="1", email="ann@example.org") == "ann@example.org"
    assert await login(sub="1", email="ann@example.org", email_verified=False) is None
    assert await login(sub="1", email="ann@example.org") == "ann@example.org"
    assert await login(sub="1") is None


async def test_a_login_takes_up_what_waits_for_one(database: Engine) -> None:
    authenticator = OIDCAuthenticator(issuer="https://login.example.org", logins=Logins(database))
    for name in ("ann", "bob"):
        ticket = Ticket(name, name, "", "lab", account=f"user:{name}")
        write(database, lambda found, ticket=ticket: tickets.insert(found, ticket))  # type: ignore[misc]
    lapsed = ticket_table.update().values(needs_login=True)
    write(database, lambda found: found.execute(lapsed))
    await authenticator.run_post_auth_hook(None, {"name": "ann", "auth_state": {}})
    waiting = read(database, tickets.waiting)
    assert {one.user: one.needs_login for one in waiting} == {"ann": False, "bob": True}


async def test_a_database_that_is_away_keeps_nobody_from_logging_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = connect(f"sqlite:///{tmp_path / 'none' / 'armillary.sqlite'}")
    await AddressBook(away).remember("ann", "ann@example.org")
    await Logins(away).happened("ann")
    assert "was not noted" in caplog.text
    assert "still wait for a login" in caplog.text
    assert "example.org" not in caplog.text


@pytest.mark.parametrize("name", ["two\r\nBcc: eve@example.org", "x" * 500, "\u202eevil", "%0d%0a", "../.."])
def test_a_name_that_somebody_chose_stays_within_its_line(name: str) -> None:
    ticket = Ticket("1", "ann", name, "gpu")
    message: EmailMessage = server_is_up(ticket, name, "https://hub.example.org/", "hub@example.org", "ann@example.org")
    again = message_from_bytes(bytes(message), policy=default)
    assert set(again.keys()) >= {"To", "Subject"}
    assert "Bcc" not in again
    assert again["To"] == "ann@example.org"
    assert len(again["Subject"]) < 100
    assert "\u202e" not in again["Subject"]
