"""How our processes log: a text for people, or JSON for those who collect logs, a line for each record."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from jupyterhub.log import log_request

from spawner.log_facts import REQUEST_HEADER, about, facts, request_id

__all__ = ["Format", "JsonFormatter", "begin", "hub_request", "of_jupyterhub"]

Format = Literal["text", "json"]

_OURS = ("hub", "spawner", "profiles")
_TEXT = "[%(levelname).1s %(asctime)s.%(msecs)03d %(name)s] %(message)s"
_process = "armillary"


class JsonFormatter(logging.Formatter):
    """One JSON object for each record.

    `time` (UTC, RFC 3339), `level`, `logger`, `message`, `process`, `pid`; what the line is about, where that is known
    (`request`, `user`, `server`, `spawn`, `ticket`); `exception` with its traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": _process,
            "pid": os.getpid(),
            **facts(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            said["stack"] = record.stack_info
        return json.dumps(said, ensure_ascii=False, default=str)


def begin(process: str, level: str, form: Format) -> None:
    """Log to standard error from now on; for service and controller.

    Only our own parts get a level below INFO: others tell secrets at DEBUG.
    """
    global _process  # noqa: PLW0603  # one for the whole process
    _process = process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(_TEXT, "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=max(logging.INFO, logging.getLevelNamesMapping()[level]))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def of_jupyterhub(level: str, form: Format) -> dict[str, Any]:
    """Return JupyterHub's `logging_config`: our own parts in its log, and all of it as JSON where that is wanted."""
    global _process  # noqa: PLW0603  # one for the whole process
    _process = "hub"
    found: dict[str, Any] = {
        "loggers": {name: {"level": level, "handlers": ["console"], "propagate": False} for name in _OURS}
    }
    if form == "json":
        found["formatters"] = {"console": {"class": f"{__name__}.{JsonFormatter.__name__}"}}
    return found


def hub_request(handler: Any) -> None:
    """Log an answered request as JupyterHub does, with the id that the request came with."""
    with about(request=request_id(handler.request.headers.get(REQUEST_HEADER))):
        log_request(handler)
