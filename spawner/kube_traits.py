"""What a deployer can set of the kubernetes engine beside KubeSpawner's own settings, and which of those differ.

Only settings and their checks; what is done with them is in `spawner.kube`.
"""

from __future__ import annotations

from typing import Any

from kubespawner import KubeSpawner
from traitlets import Bool, Dict, Float, Integer, List, TraitError, Unicode, default, validate

__all__ = ["KubeTraits"]


class KubeTraits(KubeSpawner):  # type: ignore[misc]  # KubeSpawner is untyped
    """KubeSpawner with our settings and our defaults."""

    namespace: str
    start_timeout: int
    _pvc_exists: bool
    _start_future: Any

    home_path = Unicode(
        "/home/user",
        config=True,
        help="""
        Where the home is mounted in every session; also its $HOME and the folder it starts in. An absolute path.

        Default: /home/user, the home of the images in `images/`. Example, for images of the Jupyter Docker
        Stacks: `c.ArmillarySpawner.home_path = "/home/jovyan"`
        """,
    )

    scratch_limit = Unicode(
        "10Gi",
        config=True,
        help="""
        How large /tmp may grow, as a Kubernetes quantity; a session that goes beyond is ended by the cluster and
        told so. Empty: as large as the node's disk.

        Default: 10Gi, so that one session cannot fill the disk that all sessions of a node share.
        """,
    )

    shm_share = Float(
        0.5,
        min=0.0,
        max=1.0,
        config=True,
        help="""
        Which part of a session's memory /dev/shm may fill. What lies there counts as memory of the session, whose
        limit stays the same. 0: the 64 MiB that container runtimes give.

        Default: 0.5, as Linux itself does. Data loaders of PyTorch hand their batches over in /dev/shm and die with
        "bus error" where it is full. A volume that the deployer mounts at /dev/shm is left as it is.
        """,
    )

    cpu_overcommit = Float(
        1.0,
        min=1.0,
        config=True,
        help="""
        How many times the same cpu cores may be promised: a session that asks for 4 cores reserves 4 divided by this.

        Default: 1.0, what was picked is what is got. Interactive sessions idle most of the time, 4.0 is common.
        Memory is never promised twice, because a session that does not get it is killed.
        """,
    )

    secret_environment = List(
        Unicode(),
        config=True,
        help="""
        Names of further environment variables whose values are secret. They are kept in the server's own Secret,
        like the session's token, and not written into the pod's specification.

        Default: none. Example: `c.ArmillarySpawner.secret_environment = ["S3_SECRET_ACCESS_KEY"]`
        """,
    )

    stop_timeout = Integer(
        120,
        min=1,
        config=True,
        help="""
        For how many seconds a stopping pod is waited for until it is gone.

        Default: 120, as volumes of some kinds take a minute to be released. KubeSpawner uses `start_timeout` for this
        (kubespawner#253), which long image pulls make too long.
        """,
    )

    counted_tolerations = List(
        Dict(),
        config=True,
        help="""
        Those of `tolerations` that the controller counts nodes with; `kubernetes.tolerations` sets both.

        Default: none. Where `tolerations` has others, or `extra_pod_config` or `scheduler_name` is set, only the
        scheduler knows on which nodes a session may run: nothing is refused then because no node is counted for it.
        """,
    )

    nodes_may_appear = Bool(
        False,
        config=True,
        help="""
        Whether the cluster gets new nodes by itself (autoscaling).

        Default: False: a session that fits on no node, even an empty one, is refused at once with the reason.
        Where nodes appear when they are needed, set it to True; such a session then waits up to `start_timeout`.
        """,
    )

    @property
    def placed_by_hand(self) -> bool:
        """Whether settings that the counts do not know take part in the choice of a node, for every session."""
        unknown = [one for one in self.tolerations if one not in self.counted_tolerations]
        return bool(unknown or self.extra_pod_config or self.scheduler_name)

    # --- KubeSpawner's settings with another default, each with the reason -----------------------------------

    @default("uid")
    def _uid_default(self) -> int:
        return 1000  # Pod Security "restricted" wants a user that is not root

    @default("gid")
    def _gid_default(self) -> int:
        return 1000  # without it the group would be root's

    @default("fs_gid")
    def _fs_gid_default(self) -> int:
        return 1000  # so that a fresh volume can be written to

    @default("pod_security_context")
    def _pod_security_context_default(self) -> dict[str, Any]:
        return {"fsGroupChangePolicy": "OnRootMismatch"}  # else each start walks through the whole home

    @default("slug_scheme")
    def _slug_scheme_default(self) -> str:
        return "safe"  # the other one lets two names become one

    @default("storage_pvc_ensure")
    def _storage_pvc_ensure_default(self) -> bool:
        return True  # a home that survives its session is what a home is

    @default("storage_capacity")
    def _storage_capacity_default(self) -> str:
        return "10Gi"

    @default("pvc_name_template")
    def _pvc_name_template_default(self) -> str:
        return "claim-{username}"  # one home under all servers of a person; for default servers KubeSpawner's own name

    @default("delete_pvc")
    def _delete_pvc_default(self) -> bool:
        return False  # deleting an account by mistake must not delete years of work

    @default("k8s_api_request_timeout")
    def _request_timeout_default(self) -> int:
        return 15  # admission webhooks may take 10 s each; KubeSpawner's 3 s gives up on pods that are made

    @default("k8s_api_request_retry_timeout")
    def _retry_timeout_default(self) -> int:
        return 60  # an API server that is being upgraded is away for half a minute

    @default("start_timeout")
    def _start_timeout_default(self) -> int:
        return 300  # the first pull of a large image takes minutes; sure failures are told at once anyway

    # --- settings that would be without effect ---------------------------------------------------------------

    @validate("profile_list", "profile_form_template", "additional_profile_form_template_paths", "slow_spawn_message")
    def _without_effect(self, proposal: Any) -> Any:
        name = proposal["trait"].name
        if not proposal["value"] or proposal["value"] == proposal["trait"].default_value:
            return proposal["value"]
        instead = "Write the profiles into the catalogue, which takes a profile_list as it is."
        if name != "profile_list":
            instead = "The form and the progress messages are Armillary's own; remove the line."
        raise TraitError(f"{type(self).__name__}.{name} has no effect here. {instead}")

    @validate("home_path")
    def _absolute(self, proposal: Any) -> Any:
        if not proposal["value"].startswith("/") or proposal["value"].rstrip("/") in ("", "/tmp"):  # noqa: S108  # a path in the pod
            raise TraitError(f"home_path must be an absolute path other than / and /tmp, not {proposal['value']!r}")
        return proposal["value"].rstrip("/")
