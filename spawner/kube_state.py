"""What is stored of a server, so that a hub that was killed finds it again."""

from __future__ import annotations

from typing import Any

from spawner.diagnosis import Reason
from spawner.kube_traits import KubeTraits

__all__ = ["KubeState"]

_KEPT = ("services_enabled", "pod_connect_ip", "delete_grace_period")
# Settings of a profile that a running server needs after a restart of the hub, when its profile is not applied.


class KubeState(KubeTraits):
    """The identity of the present server, and the end of the last one."""

    spawn_id: str | None = None
    """Identity of the present start, also in the pod's annotations."""

    ended: Reason | None = None
    """Why the last server ended, if it did not end because its user wished it; kept until the next start."""

    _pod_uid: str | None = None
    _secret_uid: str | None = None
    _profile: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._configured_namespace = self.namespace

    def _persist(self) -> None:
        """Store the state in the midst of a start, so that a hub killed now finds its pod again."""
        if self.orm_spawner is None:
            return
        state = self.get_state()
        state.pop("was_ready", None)
        self.orm_spawner.state = state
        self.user.db.commit()

    def get_state(self) -> dict[str, Any]:
        """Return what is stored."""
        state: dict[str, Any] = super().get_state()
        if self._state_kubespawner_version == "unknown" and not self._pvc_exists:
            # Without this a claim of the old naming scheme is never looked for again (kubespawner#937).
            state.pop("kubespawner_version", None)
        own: dict[str, Any] = {}
        if self.spawn_id is not None:
            own = {"spawn_id": self.spawn_id, "pod_uid": self._pod_uid, "secret_uid": self._secret_uid}
            own["profile"] = self._profile
            own |= {name: getattr(self, name) for name in _KEPT}
        if self.ended is not None:
            own["ended"] = {"code": self.ended.code, "text": self.ended.text}
        if own:
            state["armillary"] = own
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned, which may be of any older version, or nothing."""
        super().load_state(state)
        own = state.get("armillary") or {}
        self.spawn_id = own.get("spawn_id")
        self._pod_uid = own.get("pod_uid")
        self._secret_uid = own.get("secret_uid")
        self._profile = own.get("profile")
        for name in _KEPT:
            if name in own:
                setattr(self, name, own[name])
        if "ended" in own:
            self.ended = Reason(own["ended"]["code"], own["ended"]["text"], True)

    def clear_state(self) -> None:
        """Forget the last server, its namespace too, which a profile may have changed."""
        self.namespace = self._configured_namespace
        super().clear_state()
        self.spawn_id = self._pod_uid = self._profile = None
