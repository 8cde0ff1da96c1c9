"""Brings the session's watch into jupyter_server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from tornado.ioloop import IOLoop

from armillary_lab.activity import APPS, Connections, Requests
from armillary_lab.handlers import KEY, handlers
from armillary_lab.service import Service
from armillary_lab.session import Measured, SessionWatch, Surroundings, interval_of

__all__ = ["ArmillaryExtension"]


class ArmillaryExtension(ExtensionApp):
    """Measures the session, and tells the front end what it holds. Does nothing in a session of somebody else's hub."""

    name = "armillary_lab"

    _watch: SessionWatch | None = None

    def initialize_handlers(self) -> None:
        """Add the paths; measuring begins when the server's loop runs, and everything else is loaded."""
        self.handlers.extend(handlers())  # jupyter_server puts its own path in front
        self.serverapp.web_app.settings[KEY] = None
        self._connections = Connections()
        self._apps = self._offer_apps()
        service = Service.of(os.environ)
        if service is None:
            self.log.info("Armillary did not start this session: nothing is measured")
            return
        IOLoop.current().add_callback(self._begin, service)

    def _begin(self, service: Service) -> None:
        settings = self.serverapp.web_app.settings
        requests = Requests(settings["log_function"], self.serverapp.base_url, self._apps)
        settings["log_function"] = requests
        kernels = self.serverapp.kernel_manager.list_kernels
        around = Surroundings(kernels, self._terminals, requests, self._connections)
        measure = Measured(os.environ, around, time.monotonic)
        self._watch = settings[KEY] = SessionWatch(service, measure, interval_of(os.environ))
        self._watch.start()

    def _offer_apps(self) -> frozenset[str]:
        """Tell jupyter-server-proxy, which is loaded after this, of the session's applications; return their names."""
        if APPS not in os.environ:
            return frozenset()
        try:
            from armillary_lab.apps import processes
        except ImportError:
            self.log.warning("Armillary: the session's applications need jupyter-server-proxy, which is not installed")
            return frozenset()
        found = processes(os.environ, self._connections)
        # What somebody has set up in their home stays.
        own = self.serverapp.config.ServerProxy.get("servers", {})
        self.serverapp.config.ServerProxy.servers = {**own, **found}
        return frozenset(found)

    def _terminals(self) -> Mapping[str, Any] | None:
        manager = self.serverapp.web_app.settings.get("terminal_manager")
        return getattr(manager, "terminals", None)

    async def stop_extension(self) -> None:
        """End measuring with the server."""
        if self._watch is not None:
            await self._watch.stop()
