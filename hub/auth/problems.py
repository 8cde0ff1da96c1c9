"""Why a login did not work: one class per kind, each with its HTTP status and a text for the person in front of it.

Texts for people hold nothing that came from outside unchecked; what the provider said goes to the log, on one line and
cut short, and never a token, a code or a secret.
"""

from collections.abc import Mapping
from typing import Any

from tornado import web

LONGEST_QUOTE = 200


def quoted(said: Any) -> str:
    """Something that came from outside, fit for a log line: one line, no control characters, cut short."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(said))
    return repr(text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…")


class LoginProblem(web.HTTPError):
    """A login that ends on a page that says why.

    `title` and `text` are for the person, `log` is for the operator. `again` says whether trying again can help;
    `other` whether signing in as somebody else can.
    """

    status = 400
    title = "You are not logged in"
    headers: Mapping[str, str] = {}
    outcome = "refused"
    """Its label in `hub.metrics.LOGINS`."""
    again = True
    other = False

    def __init__(self, text: str, *, log: str) -> None:
        super().__init__(self.status, log)
        self.text = text
        self.jupyterhub_message = text


class Unanswered(LoginProblem):
    """The provider cannot be reached, is too slow, or says that it is out of order."""

    status = 503
    title = "The login service does not answer"
    outcome = "provider"
    headers: Mapping[str, str] = {"Retry-After": "15"}

    def __init__(self, *, log: str) -> None:
        super().__init__(
            "The login service does not answer at the moment. Nothing of yours is lost, and what runs goes on running. "
            "Please try again in a minute; if it stays like this, tell the people who run this hub.",
            log=f"login provider does not answer: {log}",
        )


class Garbled(LoginProblem):
    """The provider answered something that it must not: its configuration or ours is wrong."""

    status = 502
    title = "The login service gave a wrong answer"
    outcome = "provider"

    def __init__(self, *, log: str) -> None:
        super().__init__(
            "The login service answered something that this hub cannot use. That is for the people who run this hub to "
            "mend; its log says what was wrong.",
            log=f"login provider gave a wrong answer: {log}",
        )


class Unproven(LoginProblem):
    """A token that is not what the provider promised: wrong signature, issuer, audience, time or nonce."""

    status = 403
    title = "This login could not be verified"

    def __init__(self, *, log: str) -> None:
        super().__init__(
            "What came back from the login service does not prove who you are, so nobody was logged in. Please log in "
            "again from the start; if it happens again, tell the people who run this hub.",
            log=f"login refused, not proven: {log}",
        )


class GrantRefused(LoginProblem):
    """The provider refuses a code or a refresh token: used before, expired, withdrawn, or not for us."""

    status = 403
    title = "This login has expired"

    def __init__(self, *, log: str) -> None:
        super().__init__(
            "The login service does not accept this login any more: it was used already, or took too long. Please log "
            "in again.",
            log=f"login provider refuses the grant: {log}",
        )


class StrayCallback(LoginProblem):
    """A return from the provider that this browser did not ask for, or asked for too long ago."""

    status = 400
    title = "This login is not one that was begun here"

    def __init__(self, *, log: str) -> None:
        super().__init__(
            "This page only works directly after logging in, once, and in the same browser. The login may have been "
            "used already, may have taken longer than ten minutes, or cookies are switched off. Please log in again.",
            log=f"login refused: {log}",
        )


class NotAllowed(LoginProblem):
    """Somebody known, who may not use this hub."""

    status = 403
    title = "You may not use this hub"
    outcome = "not-allowed"
    again = False
    other = True
