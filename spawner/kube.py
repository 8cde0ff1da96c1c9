"""The kubernetes engine: a validated request becomes a pod, and its user hears what happens to it.

KubeSpawner makes the manifests out of its traits. What surrounds them is ours: the decision, the pure steps on the
pod (`pod`), making it exactly once (`pod_maker`), waiting by events (`pod_watch`), saying why (`diagnosis`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlparse

from jupyterhub.utils import maybe_future, url_path_join
from kubespawner.objects import make_namespace

from profiles.model import Engine
from spawner import pod as steps
from spawner.api_refusals import explain
from spawner.capacity.availability import Availability
from spawner.claims import ensure_template
from spawner.core import RequestSpawner
from spawner.diagnosis import Reason, diagnose, exit_code, process_runs
from spawner.kube_api import ApiFailure
from spawner.kube_home import KubeHome
from spawner.kube_manifest import KubeManifest
from spawner.kube_network import KubeNetwork
from spawner.kube_state import KubeState
from spawner.metrics import UNKNOWN_POLLS
from spawner.no_node import Known
from spawner.pod_maker import Owner, PodMaker, late_pod_removed
from spawner.pod_progress import step
from spawner.pod_watch import PodView
from spawner.protocols import PlacingDesk
from spawner.readiness import wait_until_answering
from spawner.reason import HEALED_BY_NODES
from spawner.refusal import Refusal, StartFailed
from spawner.request import Request
from spawner.reservation import Reservation
from spawner.stages import Stages
from spawner.start_limits import longest_start_s

__all__ = ["ArmillarySpawner"]

_LOADING_S = 5.0  # how long a look at a server waits for the first list of pods, all servers of a hub together
_GONE_S = 2.0  # how often a pod that is being ended is read, should its end not be heard of
_CLEANING_S = 5.0  # how long a failed start is cleaned up before its user is told why it failed
_COUNTING_S = 1.0  # how long counts are waited for before it is said why a start was too late
_MARGIN_S = 30  # by which our own limit of a start, which can say why, comes before JupyterHub's, which cannot


class ArmillarySpawner(RequestSpawner, KubeManifest, KubeHome, KubeNetwork, KubeState):
    """Starts servers as pods."""

    engine: ClassVar[Engine] = "kubernetes"

    stages: Stages | None = None
    """Where the time of the present start went."""

    known: Availability | None = None
    """What was free a moment ago; for texts about a start that waits, and only as long as it does: it is all that
    anybody holds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.secret_values = {}
        self._cleaning: asyncio.Task[None] | None = None
        self._last_view: PodView | None = None
        self._starting = False
        self._exit_code = 1
        self._background: set[asyncio.Task[Any]] = set()
        self._configured_start_timeout = self.start_timeout
        self._maker: PodMaker | None = None
        self._counting: asyncio.Task[Any] | None = None
        if isinstance(self.desk, PlacingDesk):
            self.desk.placing(self.placed_by_hand)

    # --- the parts -------------------------------------------------------------------------------------------

    def _pod_maker(self) -> PodMaker:
        if self._maker is None:
            self._maker = PodMaker(
                self.kube(),
                Owner(self.user.name, self.name),
                watch=self.watch,
                stop_timeout_s=self.stop_timeout,
                log=self.log,
            )
        return self._maker

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)  # the event loop keeps only weak references
        task.add_done_callback(self._background.discard)
        return task

    # --- start -----------------------------------------------------------------------------------------------

    def start(self) -> asyncio.Future[str]:  # type: ignore[override]  # not a coroutine: see its first words
        """Begin at once: JupyterHub reads `start_timeout` right after this returns, before a coroutine would run."""
        self.start_timeout = longest_start_s(self.catalogue, self._configured_start_timeout) + _MARGIN_S
        self._starting = True
        starting = self._start_future = asyncio.ensure_future(self._start())  # as KubeSpawner.start does
        starting.add_done_callback(self._note_started)  # also when it is cancelled before it runs
        return starting

    def _note_started(self, _: object) -> None:
        self._starting = False

    async def _start(self) -> str:
        """Return the address of the running server.

        Raises
        ------
        Refusal
            With the cause in plain words, if there is one that we can name.
        """
        self.note_facts()
        self.stages, self.ended = Stages(), None
        limit, seconds = asyncio.timeout(None), 0
        try:
            async with limit:
                request = await self.decide()
                profile = self.catalogue.profiles[request.profile]
                self.start_timeout = self._configured_start_timeout
                await self.load_user_options()
                seconds = profile.start_timeout_s or self.start_timeout
                limit.reschedule(asyncio.get_running_loop().time() + seconds)
                self._profile = request.profile
                await self._hold(request, seconds)
                return await self._launch(request)
        except TimeoutError:
            if not limit.expired():
                raise
            failure = await self._too_late(seconds)
            await self._give_up(failure)
            raise failure from None
        except Refusal as refusal:
            await self._give_up(refusal)
            raise
        finally:
            self._starting = False
            self.known = self._last_view = None  # not to be kept as long as the server runs
            self.feed.close()

    async def _hold(self, request: Request, seconds: float) -> None:
        """Reserve what the pod will ask for, under the identity that it will bear.

        Raises
        ------
        Refusal
            It is not to be had; nothing was begun then.
        """
        self.spawn_id = self.new_spawn_id()
        cpu = self.cpu_guarantee or self.cpu_limit  # Kubernetes takes the limit where no request is made
        memory = self.mem_guarantee or self.mem_limit
        try:
            await self.reserve(request, cpu=cpu, memory=memory, expires_in_s=seconds + _MARGIN_S)
            await self._count()  # what a pod that cannot be placed at once is explained by
        except Refusal:
            self.spawn_id = None
            raise

    async def _launch(self, request: Request) -> str:
        pod = await self._make(request)
        self._pod_uid = pod["metadata"]["uid"]
        self._persist()
        self._reach("pod created")
        self._in_background(self._own_secret(pod))
        if self.internal_ssl or self.services_enabled or self.after_pod_created_hook:
            await self.surround(pod)
        self._last_view = PodView(pod)
        watch = self.watch(pod)
        running = await watch.until(self._running)
        url: str = self._get_pod_url(running)
        gone: asyncio.Future[None] = asyncio.ensure_future(watch.until(self._failing))
        gone.add_done_callback(_heard)
        try:
            await wait_until_answering(
                url_path_join(url, self.server.base_url, "api"), gone, ssl_options=self.ssl_options()
            )
        finally:
            gone.cancel()
        self._reach("answers")
        self.log.info("%s started: %s", self._log_name, self.stages)
        return url

    async def _make(self, request: Request) -> dict[str, Any]:
        """Return the pod, made together with what it needs."""
        self.feed.say("Preparing your session", 5)
        assert self.spawn_id is not None, "`_hold` has set it"
        self.live_pods()
        self.live_events()
        if self.enable_user_namespaces:
            await self._ensure_namespace()
        candidates = self.claim_names()
        if len(candidates) > 1:  # the claim's name is in the manifest
            await self.ensure_home(candidates)
        pod = await self.get_pod_manifest()
        if self.modify_pod_hook:
            pod = await maybe_future(self.modify_pod_hook(self, pod))
        pod = steps.annotated(pod, {steps.SPAWN_ID: self.spawn_id})
        needed = [self._make_secret()]
        needed += [ensure_template(self.kube(), self.namespace, one) for one in self.placement(request).claims]
        if len(candidates) == 1:
            needed.append(self.ensure_home(candidates))
        await asyncio.gather(*needed)
        self._persist()  # a hub that is killed from here on finds pod and Secret again
        self.feed.say("Asking the cluster for your session", 10)
        maker = self._pod_maker()
        try:
            return await maker.make(self.namespace, pod, self.feed.say)
        except Refusal:
            if maker.doubtful:
                self._in_background(self._remove_late_pod(self.spawn_id))
            raise

    async def _remove_late_pod(self, spawn_id: str) -> None:
        await late_pod_removed(self.kube(), self.namespace, self.pod_name, spawn_id, grace_s=self.delete_grace_period)
        await self.release(spawn_id)

    def _running(self, view: PodView) -> dict[str, Any] | None:
        """Return the pod once its session's process runs and has an address; say what is waited for until then."""
        self._failing(view)
        pod = view.pod
        if pod is None:
            return None
        now = step(pod, view.events, self._known())
        self.feed.say(now.text, now.percent)
        if pod["spec"].get("nodeName"):
            self._reach("scheduled")
        else:
            self._count_again()
        if not process_runs(pod) or not (pod.get("status") or {}).get("podIP"):
            return None
        self._reach("container runs")
        return pod

    def _failing(self, view: PodView) -> None:
        """Raise as soon as it is sure that the server will not run.

        Raises
        ------
        StartFailed
            With the cause.
        """
        if view.pod is None:
            if view.why_gone is not None:
                raise StartFailed(view.why_gone.code, view.why_gone.text)
            text = "Your server was deleted in the cluster while it was starting. Start it again."
            raise StartFailed("deleted", text)
        self._last_view = view
        reason = diagnose(view.pod, view.events, self._known())
        if reason is None or not reason.final or (reason.code in HEALED_BY_NODES and self.nodes_may_appear):
            return
        log = f"{reason.code}: pod {self.namespace}/{self.pod_name}: {reason.text}"
        raise StartFailed(reason.code, reason.text, log=log)

    async def _too_late(self, seconds: float) -> StartFailed:
        with suppress(TimeoutError):
            async with asyncio.timeout(_COUNTING_S):
                await self._count()
        view, known = self._last_view, self._known()
        pod = view.pod if view is not None else None
        waited = step(pod, view.events, known).text if view is not None and pod else "Asking the cluster"
        reason = diagnose(pod, view.events, known) if view is not None and pod else None
        code = reason.code if reason else "start-timeout"
        text = f"Your server was not ready after {_minutes(seconds)}. It was waiting for this: {waited.rstrip('.')}."
        later = "" if "ry again later" in waited else " Try again later."
        return StartFailed(code, f"{text}{later}", status=504)

    def _known(self) -> Known | None:
        """Return what is known about the present start beside the cluster's own words, counts of a moment ago too."""
        request = self.request
        if request is None or self.spawn_id is None:
            return None
        wanted = self.reservation or Reservation(
            self.spawn_id, self.user.name, self.name, request.profile, request.accelerator, request.count
        )
        accelerator = self.catalogue.accelerators[request.accelerator] if request.accelerator else None
        if accelerator is None:
            return Known(wanted, availability=self.known)
        device = accelerator.kubernetes
        return Known(wanted, accelerator.title, device.resource if device is not None else None, self.known)

    async def _count(self) -> None:
        found = await self.availability()
        if self._starting:
            self.known = found

    def _count_again(self) -> None:
        """See that the next look at a pod that waits for a node has fresh counts; this one does not wait for them."""
        if self._counting is None or self._counting.done():
            self._counting = self._in_background(self._count())

    async def _make_secret(self) -> None:
        try:
            made = await self.kube().renew("secret", self.namespace, self.environment_secret, self.secret_manifest())
        except ApiFailure as failure:
            raise explain(failure, "your session's key") from failure
        self._secret_uid = made["metadata"]["uid"]

    async def _own_secret(self, pod: dict[str, Any]) -> None:
        """Make the pod the owner of its Secret, so that both go together even when the hub is away."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self.pod_name, "uid": pod["metadata"]["uid"]}
        try:
            change = {"metadata": {"ownerReferences": [owner]}}
            await self.kube().patch_secret(self.namespace, self.environment_secret, change)
        except ApiFailure as failure:
            self.log.warning("Secret %s got no owner: %s", self.environment_secret, failure)

    async def _ensure_namespace(self) -> None:
        labels = self._expand_all(self.user_namespace_labels)
        manifest = make_namespace(self.namespace, labels, self._expand_all(self.user_namespace_annotations))
        try:
            await self.kube().create_namespace(manifest)
        except ApiFailure as failure:
            raise explain(failure, "your namespace") from failure

    def notices(self) -> list[str]:
        """Return sentences for the top of the form: also how the last server ended, if that was not its user's wish."""
        notices = super().notices()
        if self.ended is not None and self._start_future is None:  # else the page says it already
            notices.append(f"Last time: {self.ended.text}")
        return notices

    # --- stop ------------------------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """End the pod and return when it is gone.

        Raises
        ------
        NotGone, ApiFailure
            It is not.
        """
        await self.say_unwanted()
        maker = self._pod_maker()
        await maker.settled()
        pod = await self.kube().patiently(self._find, f"Looking for pod {self.pod_name}")
        if pod is not None:
            await maker.end(pod, grace_s=0 if now else self.delete_grace_period)
        await self._delete_secret()
        if not maker.doubtful:  # a pod that may still appear holds what was reserved for it
            await self.release()

    async def _give_up(self, failure: Refusal) -> None:
        """Ask for the end of what a failed start has left; its user need not wait for an API server that is away."""
        if self.spawn_id is None:
            return  # nothing was begun
        self.ended = Reason(failure.code, failure.text, True)
        await self._tidy()

    async def _tidy(self) -> None:
        self._cleaning = self._in_background(self._clean_up(self.spawn_id))
        await asyncio.wait([self._cleaning], timeout=_CLEANING_S)

    async def _clean_up(self, spawn_id: str | None) -> None:
        # The id is given, not looked up: this may last until the next start has another one.
        maker = self._pod_maker()
        try:
            pod = await self.kube().patiently(lambda: self._find(spawn_id), f"Looking for pod {self.pod_name}")
            ended = pod is None or exit_code(pod) is not None
            if pod is not None and (self.delete_stopped_pods or not ended):
                uid = pod["metadata"]["uid"]
                await self.kube().delete_pod(self.namespace, self.pod_name, uid, self.delete_grace_period)
            await self._delete_secret()
        except ApiFailure as failure:
            self.log.warning("%s: what is left of it could not be removed: %s", self._log_name, failure)
            return
        if pod is not None and not ended:
            self._in_background(self._release_when_gone(pod, spawn_id))
        elif not maker.doubtful:
            await self.release(spawn_id)

    async def _release_when_gone(self, pod: dict[str, Any], spawn_id: str | None) -> None:
        """Give back what a pod that is being ended held; one that stays too long is the controller's affair."""
        with suppress(TimeoutError, ApiFailure):
            async with asyncio.timeout(self.stop_timeout):
                await self.watch(pod).until(lambda view: True if view.pod is None else None, recheck_s=_GONE_S)
            await self.release(spawn_id)

    async def _delete_secret(self) -> None:
        # Without its uid, after a crash of the hub, the Secret goes with the pod that owns it.
        uid, self._secret_uid = self._secret_uid, None
        if uid is not None:
            await self.kube().delete_secret(self.namespace, self.environment_secret, uid)

    # --- poll ------------------------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """Return None while the server lives, is starting, or nobody can tell; else how it ended.

        Never "ended" for want of knowledge: JupyterHub drops a server on that word, and revokes its token.
        """
        maker = self._pod_maker()
        if self._starting or (maker.in_flight is not None and not maker.in_flight.done()):
            return None
        if self._cleaning is not None and not self._cleaning.done():
            return 1  # its start has failed, and its end is being seen to
        try:
            if not await self.live_pods().loaded(_LOADING_S):
                raise ApiFailure(0, "Unknown", "the list of pods could not be read yet")
            pod = await self._find()
        except ApiFailure as failure:
            UNKNOWN_POLLS.inc()
            self.log.warning("%s: unknown whether it runs, taken for running: %s", self._log_name, failure)
            return None
        if pod is None:
            if self._secret_uid is not None or self.reservation is not None:
                await self._tidy()
            if self.spawn_id is not None and self.ended is None:
                deleted = Reason("deleted", "Your server was deleted in the cluster by somebody else.", True)
                self._remember_end(self.live_pods().why_gone(self._pod_uid or "") or deleted)
            return self._exit_code if self.spawn_id else 0
        code = exit_code(pod)
        if code is None:
            self._note_address(pod)
            return None
        self._exit_code = code
        self._remember_end(diagnose(pod) or Reason("ended", f"Your server has ended (exit code {code}).", True))
        if self.delete_stopped_pods:
            await self._tidy()
        else:
            await self.release()  # a pod that has ended holds nothing
        return code

    async def _find(self, spawn_id: str | None = None) -> dict[str, Any] | None:
        """Return our pod, of the present start or of another one of ours, None if it surely does not exist.

        The API server is asked where the live copy lacks the pod, as it may be behind, or has lost touch.

        Raises
        ------
        ApiFailure
            Unknown.
        """
        live = self.live_pods()
        pod = live.resources.get(f"{self.namespace}/{self.pod_name}")
        if pod is not None and self._is_ours(pod, spawn_id) and (live.fresh or exit_code(pod) is not None):
            return dict(pod)
        pod = await self.kube().read_pod(self.namespace, self.pod_name)
        return pod if pod is not None and self._is_ours(pod, spawn_id) else None

    def _is_ours(self, pod: dict[str, Any], wanted: str | None = None) -> bool:
        """Return whether this is the pod of the present start; also with an empty state, after a crash of the hub."""
        spawn_id = (pod["metadata"].get("annotations") or {}).get(steps.SPAWN_ID)
        if wanted is not None and wanted != self.spawn_id:  # the state is that of another start already
            return bool(spawn_id == wanted) and Owner(self.user.name, self.name).owns(pod)
        known = self.spawn_id in (None, spawn_id) and self._pod_uid in (None, pod["metadata"]["uid"])
        return known and Owner(self.user.name, self.name).owns(pod)

    def _note_address(self, pod: dict[str, Any]) -> None:
        """Correct JupyterHub's record of the server's address, which a crash of the hub may have left empty."""
        server = self.server
        if server is None or not self._has_address(pod):
            return
        url = urlparse(self._get_pod_url(pod))
        port = url.port or (443 if url.scheme == "https" else 80)
        if (server.proto, server.ip, server.port) != (url.scheme, url.hostname, port):
            self.log.info("%s is at %s", self._log_name, url.netloc)
            server.proto, server.ip, server.port = url.scheme, url.hostname, port
            self.user.db.commit()

    @staticmethod
    def _has_address(pod: dict[str, Any]) -> bool:
        return bool((pod.get("status") or {}).get("podIP"))

    def _remember_end(self, reason: Reason) -> None:
        self.ended = reason
        self.log.warning("%s has ended: %s: %s", self._log_name, reason.code, reason.text)

    def _reach(self, stage: str) -> None:
        if self.stages is not None:
            self.stages.reach(stage)


def _heard(gone: asyncio.Future[None]) -> None:
    # It may fail in the moment in which the server answers, when nobody asks it any more.
    if not gone.cancelled():
        gone.exception()


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:g} second{'' if seconds == 1 else 's'}"
