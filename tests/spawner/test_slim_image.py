"""What a pod of ours runs, as the ledger is told it."""

from __future__ import annotations

from typing import Any

import pytest

from spawner.capacity.slim import SPAWN_ID, slim_pod

DIGEST = "sha256:" + "ab" * 32


def pod(told: Any, *, ours: bool = True, containers: Any = None) -> dict[str, Any]:
    annotations = {SPAWN_ID: "s1"} if ours else {}
    return {
        "metadata": {"name": "p", "namespace": "n", "annotations": annotations},
        "spec": {
            "containers": containers or [{"name": "notebook", "image": "lab:1"}, {"name": "side", "image": "x:1"}]
        },
        "status": {"phase": "Running", "containerStatuses": told},
    }


@pytest.mark.parametrize(
    ("told", "digest"),
    [
        ([{"name": "notebook", "imageID": f"docker.io/library/lab@{DIGEST}"}], DIGEST),
        ([{"name": "notebook", "imageID": DIGEST}], DIGEST),
        ([{"name": "side", "imageID": "sha256:other"}, {"name": "notebook", "imageID": f"r/l@{DIGEST}"}], DIGEST),
        ([{"name": "notebook", "imageID": ""}], ""),
        ([{"name": "notebook", "imageID": "docker://odd"}], ""),
        ([{"name": "notebook"}], ""),
        ([{"name": "side", "imageID": DIGEST}], ""),
        ([], ""),
        (None, ""),
        ("odd", ""),
    ],
)
def test_image_and_digest_are_those_of_the_session_not_of_a_sidecar(told: Any, digest: str) -> None:
    found = slim_pod(pod(told))
    assert (found.spawn_id, found.image, found.digest) == ("s1", "lab:1", digest)


def test_of_others_pods_nothing_is_kept() -> None:
    found = slim_pod(pod([{"name": "notebook", "imageID": DIGEST}], ours=False))
    assert (found.image, found.digest) == ("", "")
