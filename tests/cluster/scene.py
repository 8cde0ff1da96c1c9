"""Work that a part of ours does in the cluster, tried with the token of an account that may this or that."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, AuthorizationV1Api, Configuration, CoreV1Api, ResourceV1Api
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config import load_kube_config, load_kube_config_from_dict

from profiles.model import Catalogue
from spawner.kube import ArmillarySpawner
from tests.cluster.sessions import WORLD
from tests.helm.rights import Grant
from tests.lab.cluster import Cluster

__all__ = ["CLAIMED_CARDS", "PLAIN", "PLAIN_CARDS", "Outcome", "Piece", "Scene", "Site", "tried"]

_PATIENCE_S = 40.0
_AFTER_REFUSAL_S = 3.0
"""How long is waited for anything once the log has named a right as missing; all else takes a second or two."""

_CLOSING_S = 0.25
"""How long connections with TLS take to close (aiohttp's documentation, "Graceful shutdown")."""

PLAIN = "rights.lab.test/card"
PLAIN_CARDS, CLAIMED_CARDS = 4, 100
"""How many cards the node has of its plugin, and of the driver."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """The namespaces of a release and its sessions, and a simulated node with devices of this driver, all our own."""

    cluster: Cluster
    core: str
    users: str
    node: str
    driver: str

    def kubeconfig(self, account: str) -> Json:
        """Return a kubeconfig with a token of a service account of the release."""
        token = self.cluster.kubectl("create", "token", account, "-n", self.core, "--duration=1h").strip()
        found: Json = yaml.safe_load(self.cluster.kubeconfig.read_text())
        return {**found, "users": [{"name": found["users"][0]["name"], "user": {"token": token}}]}


class Scene:
    """What one piece of work needs: names of its own, an administrator's eyes and hands, and patience.

    Parameters
    ----------
    tag
        In all names, so that nothing is there of an earlier scene.
    core, devices
        The administrator's CoreV1Api and ResourceV1Api.
    refused
        Whether the log has named a right as missing.
    """

    def __init__(self, site: Site, tag: str, core: Any, devices: Any, refused: Callable[[], bool]) -> None:
        self.site, self.tag, self.core, self.devices = site, tag, core, devices
        self._refused = refused
        self._refused_at: float | None = None

    @property
    def card(self) -> str:
        """Key of the accelerator that is claimed; another one in each scene, so that its template is new."""
        return f"card-{self.tag}"

    @property
    def catalogue(self) -> Catalogue:
        """What can be started: sessions without an accelerator, or with a device of our driver."""
        options = {"image": "lab", "accelerator": ["none", self.card, "plain"], "cpu": [0.1], "memory": ["256Mi"]}
        own_node = {WORLD: self.site.users}
        accelerators = {
            self.card: {"title": "Claimed card", "kubernetes": {"dra": {"device_class": self.site.driver}}},
            "plain": {"title": "Plain card", "kubernetes": {"resource": PLAIN, "node_labels": own_node}},
        }
        images = {"lab": {"title": "JupyterLab", "reference": "localhost/none:1"}}
        profiles = {"lab": {"title": "JupyterLab", "options": options}}
        return Catalogue.model_validate({"accelerators": accelerators, "images": images, "profiles": profiles})

    async def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait until something is true, and return it; `true` may be a coroutine function.

        Raises
        ------
        AssertionError
            It does not become true.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            found = true()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            now = loop.time()
            if self._refused_at is None and self._refused():
                self._refused_at = now
            given_up = now - began > _PATIENCE_S
            if self._refused_at is not None:
                given_up = given_up or now - max(began, self._refused_at) > _AFTER_REFUSAL_S
            assert not given_up, f"not within {now - began:.1f} s: {what}"
            await asyncio.sleep(0.05)

    async def done(self, work: Coroutine[Any, Any, Any], what: str) -> Any:
        """Return what some work returns, unless that takes too long."""
        task = asyncio.ensure_future(work)
        try:
            await self.until(task.done, what)
            return task.result()
        finally:
            task.cancel()

    async def gone(self, read: Callable[[str, str], Awaitable[Any]], name: str) -> bool:
        """Return whether an object of the sessions' namespace is no more."""
        try:
            await read(name, self.site.users)
        except ApiException as error:
            return int(error.status) == 404
        return False


Piece = Callable[[Scene], Coroutine[Any, Any, None]]
_Broken = tuple[str, Exception] | None


@dataclass(frozen=True)
class Outcome:
    """What broke first, empty: nothing; and what an operator can read: the log, and what an exception says for it."""

    broke: str
    said: str

    def names(self, right: Grant) -> bool:
        """Return whether an operator can read which right is missing."""
        return f'cannot {right.verb} resource "{right.resource}" in API group "{right.group}"' in self.said


def tried(
    site: Site,
    pieces: Sequence[Piece],
    account: str,
    rights: Sequence[Grant],
    missing: Grant | None,
    log: pytest.LogCaptureFixture,
) -> Outcome:
    """Do all pieces of work at once as a service account, until one fails or all are done.

    Parameters
    ----------
    rights
        What the account's part has by the chart.
    missing
        What this account does not have of it.
    log
        Is emptied before.
    """
    log.clear()
    with pytest.MonkeyPatch.context() as patch:
        # The parts find a service account in their pod; here they are given one.
        patch.setattr("kubespawner.spawner.load_config", lambda **_: None)
        patch.setattr("spawner.capacity.watch.load_config", lambda: None)
        patch.setattr(Configuration, "_default", None)
        broken = asyncio.run(_closed_afterwards(_tried(site, pieces, account, rights, missing, log)))
    said = [str(getattr(broken[1], "log_message", broken[1]))] if broken else []
    words = f"{broken[0]}: {type(broken[1]).__name__}: {broken[1]}" if broken else ""
    return Outcome(words, "\n".join([*log.messages, *said]))


async def _tried(
    site: Site,
    pieces: Sequence[Piece],
    account: str,
    rights: Sequence[Grant],
    missing: Grant | None,
    log: pytest.LogCaptureFixture,
) -> _Broken:
    administrator, own = Configuration(), Configuration()
    await load_kube_config(str(site.cluster.kubeconfig), client_configuration=administrator)
    await load_kube_config_from_dict(site.kubeconfig(account), client_configuration=own)
    Configuration.set_default(own)
    async with ApiClient(administrator) as admin, ApiClient(own) as client:
        await _settled(AuthorizationV1Api(client), rights, missing)
        scene = Scene(site, account, CoreV1Api(admin), ResourceV1Api(admin), lambda: any(map(_refusal, log.messages)))
        tasks = [asyncio.create_task(piece(scene), name=piece.__name__) for piece in pieces]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            broken = [task for task in tasks if task.done() and task.exception() is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await ArmillarySpawner._stop_all_reflectors()
    for task in broken:
        error = task.exception()
        assert isinstance(error, Exception)
        return task.get_name(), error
    return None


async def _closed_afterwards(work: Coroutine[Any, Any, _Broken]) -> _Broken:
    """Return what some work returns, when all else has ended and what it had open is closed."""
    try:
        return await work
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(_CLOSING_S)


def _refusal(text: str) -> bool:
    return " is forbidden: User " in text


async def _settled(reviews: Any, rights: Sequence[Grant], missing: Grant | None) -> None:
    """Wait until the API server has taken the account's roles over: all is allowed but what is missing."""

    async def may(one: Grant) -> bool:
        wanted = {"group": one.group, "resource": one.resource, "verb": one.verb}
        place = {"namespace": one.namespace} if one.namespace else {}
        body = {"spec": {"resourceAttributes": wanted | place}}
        return bool((await reviews.create_self_subject_access_review(body)).status.allowed)

    async with asyncio.timeout(_PATIENCE_S):
        while [one for one in rights if await may(one) != (one != missing)]:
            await asyncio.sleep(0.1)
