"""The process of the demonstration's OpenID provider: `python -m hub.launch.provider FILE`.

Makes the database, adds what is missing (two seconds faster than through Canaille's own commands, which also
would not notice duplicates), and serves, all in one process.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import canaille
from asgiref.wsgi import WsgiToAsgi
from canaille.app import models
from canaille.backends import Backend
from hypercorn.asyncio import serve
from hypercorn.config import Config


def add_missing(seed: dict[str, Any]) -> None:
    """Create people and groups that are not there yet, and bring the hub's registration up to date.

    What an administrator changed at the provider (group members, locks) is left alone.
    """
    backend = Backend.instance
    joining: dict[str, list[Any]] = {}
    for person in seed["people"]:
        groups = person.pop("groups")
        known = backend.get(models.User, user_name=person["user_name"])
        if known is None:
            known = models.User(**person)
            backend.save(known)
            for group in groups:
                joining.setdefault(group, []).append(known)
    for name, people in joining.items():
        group = backend.get(models.Group, display_name=name)
        if group is None:
            group = models.Group(display_name=name, members=people)
        else:
            group.members = [*group.members, *(person for person in people if person not in group.members)]
        backend.save(group)
    _register(seed["client"])


def _register(registration: dict[str, Any]) -> None:
    backend = Backend.instance
    client = backend.get(models.Client, client_id=registration["client_id"])
    if client is None:
        client = models.Client(**registration)
    else:
        for key, value in registration.items():
            setattr(client, key, value)
    backend.save(client)
    # Only now: an audience that does not exist yet is stored as [null], and every token request answers 500.
    client.audience = [client]
    backend.save(client)


async def _serve(app: Any, listen: list[str]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    config = Config()
    config.bind = listen
    config.graceful_timeout = 1.0
    config.errorlog = "-"
    config.accesslog = None  # its lines would hold authorization codes
    asgi: Any = WsgiToAsgi(app)  # type: ignore[no-untyped-call]
    await serve(asgi, config, shutdown_trigger=ended.wait)


def main(file: str) -> None:
    """Run the provider as `file` says, until SIGTERM."""
    said = json.loads(Path(file).read_text(encoding="utf-8"))
    app = canaille.create_app(config=said["settings"])
    with app.app_context(), Backend.instance.session():
        add_missing(said["seed"])
    asyncio.run(_serve(app, said["seed"]["listen"]))


if __name__ == "__main__":
    main(sys.argv[1])
