"""The few requests to the Kubernetes API that a start needs: typed, bounded in time, repeated where that is safe.

The client library is untyped and is touched here only. Bodies are read as plain JSON: models would cost a
millisecond each and the library would write their content, Secrets too, to its debug log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp

__all__ = ["ApiFailure", "KubeApi"]

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_TRANSIENT = frozenset({0, 429, 500, 502, 503, 504})
_MERGE = "application/merge-patch+json"

Json = dict[str, Any]
_Result = TypeVar("_Result")


class ApiFailure(Exception):
    """The API server said no, or nothing.

    `status` is the HTTP status, 0 if there was no answer at all, in which case what was asked for may have been
    done all the same. `reason` and `message` are Kubernetes' own.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status or 'no answer'} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        # A quota that two requests change at once is a 409 too, but of another reason than AlreadyExists.
        return self.status in _TRANSIENT or (self.status == 409 and self.reason == "Conflict")


class KubeApi:
    """Requests about the objects of one server.

    Parameters
    ----------
    core
        A kubernetes_asyncio CoreV1Api.
    devices
        Returns a kubernetes_asyncio ResourceV1Api; only asked where an accelerator is a device of Dynamic Resource
        Allocation.
    request_timeout_s
        How long one request may take. An answer that comes later is not lost: whoever repeats a request finds
        what the first one made.
    retry_timeout_s
        How long a request is repeated while the API server does not answer, or answers 429 or 5xx.
    """

    def __init__(
        self,
        core: Any,
        *,
        request_timeout_s: float,
        retry_timeout_s: float,
        log: logging.Logger,
        devices: Callable[[], Any] | None = None,
    ) -> None:
        self._core = core
        self._devices = devices
        self._request_timeout_s = request_timeout_s
        self._retry_timeout_s = retry_timeout_s
        self._log = log

    async def patiently(self, attempt: Callable[[], Awaitable[_Result]], what: str) -> _Result:
        """Return what `attempt` returns, repeating it while it fails in a way that may pass.

        Raises
        ------
        ApiFailure
            Another failure, or the last one when the time is up.
        """
        deadline = asyncio.get_running_loop().time() + self._retry_timeout_s
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except ApiFailure as failure:
                wait = failure.retry_after_s or pause * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load, no secret
                if not failure.transient or asyncio.get_running_loop().time() + wait > deadline:
                    raise
                self._log.warning("%s: %s; trying again", what, failure)
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def create_pod(self, namespace: str, pod: Any) -> Json:
        """Make the pod; one attempt."""
        return await self._send("create_namespaced_pod", namespace, pod)

    async def read_pod(self, namespace: str, name: str) -> Json | None:
        """Return the pod, None if there is none; one attempt."""
        return await _or_none(self._send("read_namespaced_pod", name, namespace))

    async def delete_pod(self, namespace: str, name: str, uid: str, grace_s: int) -> None:
        """Ask for the end of exactly this pod; it being gone already, or replaced by another, is fine. Repeated."""
        await self._delete("pod", namespace, name, {"gracePeriodSeconds": grace_s, "preconditions": {"uid": uid}})

    async def renew(self, kind: str, namespace: str, name: str, manifest: Any) -> Json:
        """Make an object of this kind ("secret", "service") and return it; an older one goes first. Repeated.

        Not replaced in place: a new object has a new uid, so that a late deletion of the old one cannot hit it.
        """

        async def attempt() -> Json:
            try:
                return await self._send(f"create_namespaced_{kind}", namespace, manifest)
            except ApiFailure as failure:
                if not _exists(failure):
                    raise
            await _or_none(self._send(f"delete_namespaced_{kind}", name, namespace))
            return await self._send(f"create_namespaced_{kind}", namespace, manifest)

        return await self.patiently(attempt, f"Making {kind} {namespace}/{name}")

    async def patch_secret(self, namespace: str, name: str, change: Json) -> None:
        """Merge a change into a Secret; one that is gone is fine. Repeated."""
        await self.patiently(
            lambda: _or_none(self._send("patch_namespaced_secret", name, namespace, change, _content_type=_MERGE)),
            f"Changing secret {namespace}/{name}",
        )

    async def delete_secret(self, namespace: str, name: str, uid: str) -> None:
        """Delete exactly this Secret; it being gone already, or replaced by another, is fine. Repeated."""
        await self._delete("secret", namespace, name, {"preconditions": {"uid": uid}})

    async def read_claim(self, namespace: str, name: str) -> Json | None:
        """Return the PersistentVolumeClaim, None if there is none. Repeated."""
        return await self.patiently(
            lambda: _or_none(self._send("read_namespaced_persistent_volume_claim", name, namespace)),
            f"Reading claim {namespace}/{name}",
        )

    async def create_claim(self, namespace: str, claim: Any) -> None:
        """Make a PersistentVolumeClaim; one that exists is fine. Repeated."""
        await self._ensure("create_namespaced_persistent_volume_claim", namespace, claim)

    async def delete_claim(self, namespace: str, name: str) -> None:
        """Delete a PersistentVolumeClaim; one that is gone is fine. Repeated."""
        await self._delete("persistent_volume_claim", namespace, name, {})

    async def read_claim_template(self, namespace: str, name: str) -> Json | None:
        """Return the ResourceClaimTemplate, None if there is none, or no such kind of object. Repeated."""
        return await self.patiently(
            lambda: _or_none(self._send("read_namespaced_resource_claim_template", name, namespace)),
            f"Reading claim template {namespace}/{name}",
        )

    async def create_claim_template(self, namespace: str, template: Any) -> None:
        """Make a ResourceClaimTemplate; one that exists is fine. Repeated."""
        await self._ensure("create_namespaced_resource_claim_template", namespace, template)

    async def create_namespace(self, namespace: Any) -> None:
        """Make a namespace; one that exists is fine. Repeated."""
        await self._ensure("create_namespace", namespace)

    async def _delete(self, kind: str, namespace: str, name: str, body: Json) -> None:
        async def attempt() -> None:
            try:
                await self._send(f"delete_namespaced_{kind}", name, namespace, body=body)
            except ApiFailure as failure:
                if failure.status not in (404, 409):  # 409: the uid is another object's
                    raise

        await self.patiently(attempt, f"Deleting {kind} {namespace}/{name}")

    async def _ensure(self, method: str, *arguments: Any) -> None:
        async def attempt() -> None:
            try:
                await self._send(method, *arguments)
            except ApiFailure as failure:
                if not _exists(failure):
                    raise

        await self.patiently(attempt, method)

    def _method(self, name: str) -> Any:
        group = self._devices() if self._devices is not None and "resource_claim" in name else self._core
        return getattr(group, name)

    async def _send(self, method: str, *arguments: Any, **parameters: Any) -> Json:
        try:
            async with asyncio.timeout(self._request_timeout_s):
                response = await self._method(method)(*arguments, _preload_content=False, **parameters)
                async with response:
                    text = await response.text()
        except TimeoutError:
            message = f"no answer to {method} within {self._request_timeout_s:g} s"
            raise ApiFailure(0, "Timeout", message) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ApiFailure(0, "Unreachable", f"{type(error).__name__}: {error}") from error
        body = _parse(text)
        if response.ok:
            return body
        raise ApiFailure(
            response.status,
            str(body.get("reason") or response.reason),
            str(body.get("message") or text[:500]),
            retry_after_s=_seconds(response.headers),
        )


async def _or_none(request: Awaitable[Json]) -> Json | None:
    try:
        return await request
    except ApiFailure as failure:
        if failure.status == 404:
            return None
        raise


def _exists(failure: ApiFailure) -> bool:
    return failure.status == 409 and failure.reason == "AlreadyExists"


def _parse(text: str) -> Json:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return min(float(value), 30.0) if value.isdigit() else None
