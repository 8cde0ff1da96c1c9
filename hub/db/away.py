"""What JupyterHub's pages say while its own database does not answer.

It looks up there who asks, and where that fails goes on as if nobody were logged in (`BaseHandler.prepare`, JupyterHub
6.1): people read that they may not do this, or are led to log in, which fails, too.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import HTTPError

__all__ = ["DatabaseSilent", "say_so"]

_prepare = BaseHandler.prepare


class DatabaseSilent(HTTPError):
    """503: who asks cannot be looked up."""

    headers = {"Retry-After": "15"}  # JupyterHub's handlers read it of an error

    def __init__(self, cause: Exception) -> None:
        super().__init__(503, f"the hub's database does not answer: {type(cause).__name__}")
        self.jupyterhub_message = (
            "The hub's database does not answer at the moment, so nobody can log in or start. What runs goes on "
            "running. Please try again in a minute; if it stays like this, tell the people who run this hub."
        )


async def _prepared(handler: Any) -> None:
    try:
        await handler.get_current_user()
    except SQLAlchemyError as error:
        handler._jupyterhub_user = None
        # Without the statement, whose parameters are nobody's business.
        handler.log.error(
            "Who asks cannot be looked up in the hub's database: %s", getattr(error, "orig", None) or error
        )
        handler.db.rollback()
        handler._resolve_roles_and_scopes()  # the page of an error shows what one may do: nothing
        raise DatabaseSilent(error) from error
    except Exception:
        handler.log.exception("Failed to get current user")
    await _prepare(handler)


def say_so() -> None:
    """Have every page and path of the hub answer 503 with that text; done twice it is the same as once."""
    BaseHandler.prepare = _prepared
