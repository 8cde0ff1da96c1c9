"""JupyterHub's side of a start as in the hub: a database, a person in it, and what answers like a session."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from spawner.kube import ArmillarySpawner

__all__ = ["HubUser", "answering"]


class HubUser:
    """One database and one person; every start goes by `User.spawn`, as in the hub."""

    def __init__(self, name: str, config: Config) -> None:
        listening = list(logging.root.handlers)
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        logging.root.handlers[:] = listening  # alembic takes them away where no JupyterHub application runs
        for role in roles.get_default_roles():
            roles.create_role(self.db, role)
        self.db.add(orm.OAuthClient(identifier="jupyterhub"))
        self.orm_user = orm.User(name=name)
        self.db.add(self.orm_user)
        self.db.commit()
        roles.assign_default_roles(self.db, entity=self.orm_user)
        self.config = config
        self.user = self.restarted()

    def restarted(self) -> User:
        """Return the user as a hub sees it that was just started: all memory gone, the database kept."""
        self.user = User(self.orm_user, {
            "config": self.config,
            "spawner_class": ArmillarySpawner,
            "hub": Hub(ip="127.0.0.1", port=8081, base_url="/hub/"),
            "base_url": "/",
            "log": logging.getLogger("hub"),
        }, self.db)  # fmt: skip
        return self.user

    @property
    def spawner(self) -> ArmillarySpawner:
        """The spawner of the default server."""
        found: ArmillarySpawner = self.user.spawners[""]
        return found

    def close(self) -> None:
        """End what goes on in the background, and the database."""
        for spawner in list(self.user.spawners.values()):
            for task in list(spawner._background):
                task.cancel()
        self.db.close()


@asynccontextmanager
async def answering() -> AsyncIterator[int]:
    """Yield the port of this machine at which something answers HTTP as every session would."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"version": "1"}, headers={"X-JupyterHub-Version": "6.1.1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
