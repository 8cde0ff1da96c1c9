"""From a validated request to the pod's manifest: KubeSpawner's traits are set, its manifest is taken further."""

from __future__ import annotations

import copy
from typing import Any

from kubespawner.slugs import is_valid_label, safe_slug
from traitlets import TraitError

from profiles.apps import app_path
from profiles.overrides import apply
from spawner import pod as steps
from spawner.kube_traits import KubeTraits
from spawner.overrides import environment, overrides
from spawner.placement import Contradiction, Placement, place, placed
from spawner.refusal import StartFailed
from spawner.request import Request

__all__ = ["PROFILE", "KubeManifest"]

PROFILE = "armillary/profile"
_ACCELERATOR = "armillary/accelerator"
_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105  # the name of a variable


class KubeManifest(KubeTraits):
    """Everything about a pod that is known before it is asked for."""

    secret_values: dict[str, str]
    """What the server's own Secret must hold: filled by `get_pod_manifest`."""

    @property
    def environment_secret(self) -> str:
        """Name of the Secret that holds the session's token and other secret variables."""
        return f"{self.pod_name}-env"

    def names_from_templates(self) -> None:
        """Compute the names again that KubeSpawner computes before a profile can change their templates (#761)."""
        self.pod_name = self._expand_user_properties(self.pod_name_template)
        self.secret_name = self._expand_user_properties(self.secret_name_template)
        self.dns_name = self.dns_name_template.format(namespace=self.namespace, name=self.pod_name)
        if not (self._pvc_exists and self.remember_pvc_name):
            self.pvc_name = self._expand_user_properties(self.pvc_name_template)

    async def load_user_options(self) -> None:
        """Set the traits to what was decided; called in start() only, where every door comes by.

        Objects are replaced, never changed: a trait may share its value with the class, and so with every user.
        """
        request: Request = self.request or await self.decide()
        for name, value in overrides(request, self.catalogue).items():
            self._override(request.profile, name, value)
        if request.image is not None:
            image = self.catalogue.images[request.image]
            self.image, self.image_pull_policy = image.reference, image.pull_policy
            if image.default_url:
                self.default_url = image.default_url
        if request.app is not None:
            self.default_url = app_path(request.app)
        if request.cpu is not None:
            self.cpu_limit = float(request.cpu)
            self.cpu_guarantee = float(request.cpu) / self.cpu_overcommit
        if request.memory is not None:
            self.mem_limit = self.mem_guarantee = request.memory
        self.names_from_templates()

    def _override(self, profile: str, name: str, value: Any) -> None:
        if not self.has_trait(name):
            raise self._bad_profile(profile, f"KubeSpawner has no setting {name!r}")
        if callable(value):
            value = value(self)
        try:
            setattr(self, name, apply(copy.deepcopy(getattr(self, name)), value))
        except TraitError as error:
            raise self._bad_profile(profile, str(error)) from error

    def _bad_profile(self, profile: str, problem: str) -> StartFailed:
        text = f"The profile {profile!r} is written wrongly. Choose another one and tell your administrators."
        return StartFailed("profile", text, log=f"profile {profile}: kubespawner_override: {problem}", status=500)

    def get_env(self) -> dict[str, Any]:
        """Return the session's environment; the catalogue's variables are taken literally, braces and all."""
        env: dict[str, Any] = super().get_env()
        asked: dict[str, str] = {}
        if self.request is not None:
            asked |= self.placement(self.request).environment
            asked |= environment(self.request, self.catalogue)
        hubs_own = {name for name in env if name.startswith("JUPYTERHUB_")}
        return env | {name: value for name, value in asked.items() if name not in hubs_own}

    async def get_pod_manifest(self) -> steps.Pod:
        """Return the pod for the decided request; shares nothing with the traits."""
        pod = await super().get_pod_manifest()
        pod = steps.never_restarted(pod)
        pod = steps.with_home(pod, steps.Home(self.home_path, self.pvc_name if self.storage_pvc_ensure else None))
        pod = steps.with_scratch(pod, self.scratch_limit or None)
        pod = steps.with_amounts(
            pod,
            {"cpu": self.cpu_limit, "memory": self.mem_limit, **self.extra_resource_limits},
            {"cpu": self.cpu_guarantee, "memory": self.mem_guarantee, **self.extra_resource_guarantees},
        )
        request: Request | None = self.request
        pod = self._placed(pod, request) if request is not None else placed(pod, Placement())
        pod = steps.restricted(pod)
        names = {_TOKEN, *self.secret_environment}
        pod, self.secret_values = steps.with_secret_environment(pod, self.environment_secret, names)
        return steps.annotated(pod, *self._marks(request)) if request is not None else pod

    def placement(self, request: Request) -> Placement:
        """Return where and with what a session of this request runs, its memory being what is set now."""
        return place(request, self.catalogue, memory=self.mem_limit, shm_share=self.shm_share)

    def _placed(self, pod: steps.Pod, request: Request) -> steps.Pod:
        try:
            return placed(pod, self.placement(request))
        except Contradiction as error:
            raise self._bad_profile(request.profile, str(error)) from error

    def _marks(self, request: Request) -> tuple[dict[str, str], dict[str, str]]:
        marks = {PROFILE: request.profile}
        if request.accelerator:
            marks[_ACCELERATOR] = request.accelerator
        return marks, {name: safe_slug(value, is_valid=is_valid_label) for name, value in marks.items()}

    def secret_manifest(self) -> dict[str, Any]:
        """Return the Secret with the session's secret variables."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": self.environment_secret,
                "labels": self._build_common_labels(self._expand_all(self.extra_labels)),
                "annotations": self._build_common_annotations({}),
            },
            "stringData": dict(self.secret_values),
        }
