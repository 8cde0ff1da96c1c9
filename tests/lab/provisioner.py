"""Gives every PersistentVolumeClaim of class `lab-local` a directory of this machine, at once.

Run as a process: `python -m tests.lab.provisioner KUBECONFIG FOLDER NODE`. It follows two watches, one of claims and
one of volumes; a volume whose claim is gone is removed with its directory. Sizes are not enforced.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

STORAGE_CLASS = "lab-local"
PROVISIONER = "armillary.lab/local"
_BY = "pv.kubernetes.io/provisioned-by"
# How long to wait before a watch that failed is opened again.
_PAUSE_S = 0.2

log = logging.getLogger("provisioner")


def storage_class() -> dict[str, object]:
    """The StorageClass object, which is the cluster's default."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def _volume(claim: Any, directory: Path, node: str) -> client.V1PersistentVolume:
    here = client.V1NodeSelectorRequirement(key="kubernetes.io/hostname", operator="In", values=[node])
    terms = [client.V1NodeSelectorTerm(match_expressions=[here])]
    return client.V1PersistentVolume(
        metadata=client.V1ObjectMeta(name=directory.name, annotations={_BY: PROVISIONER}),
        spec=client.V1PersistentVolumeSpec(
            capacity={"storage": claim.spec.resources.requests["storage"]},
            access_modes=claim.spec.access_modes,
            persistent_volume_reclaim_policy="Delete",
            storage_class_name=STORAGE_CLASS,
            claim_ref=client.V1ObjectReference(
                api_version="v1",
                kind="PersistentVolumeClaim",
                namespace=claim.metadata.namespace,
                name=claim.metadata.name,
                uid=claim.metadata.uid,
            ),
            local=client.V1LocalVolumeSource(path=str(directory)),
            node_affinity=client.V1VolumeNodeAffinity(required=client.V1NodeSelector(node_selector_terms=terms)),
        ),
    )


def provide(api: client.CoreV1Api, folder: Path, node: str, claim: Any) -> None:
    """Makes directory and volume for a claim that waits for one; any other claim is left alone."""
    wanted = claim.spec.storage_class_name == STORAGE_CLASS and claim.status.phase == "Pending"
    if not wanted or claim.spec.volume_name or claim.metadata.deletion_timestamp:
        return
    directory = folder / f"pvc-{claim.metadata.uid}"
    directory.mkdir(exist_ok=True)
    # Pods come with uids of their own, and without an fsGroup nobody changes the directory's owner.
    directory.chmod(0o777)
    try:
        api.create_persistent_volume(_volume(claim, directory, node))
    except client.ApiException as error:
        if error.status != 409:
            raise
    log.info("%s/%s has %s", claim.metadata.namespace, claim.metadata.name, directory.name)


def reclaim(api: client.CoreV1Api, folder: Path, volume: Any) -> None:
    """Removes a volume of ours whose claim is gone, and its directory."""
    ours = (volume.metadata.annotations or {}).get(_BY) == PROVISIONER
    if not ours or volume.status.phase != "Released" or volume.metadata.deletion_timestamp:
        return
    directory = folder / volume.metadata.name
    if str(directory) != volume.spec.local.path:
        return
    shutil.rmtree(directory, ignore_errors=True)
    api.delete_persistent_volume(volume.metadata.name)
    log.info("%s is removed", directory.name)


def follow(list_all: Callable[..., Any], act: Callable[[Any], None]) -> None:
    """Acts on every object there is and on every change, for ever; a lost watch is opened again."""
    while True:
        try:
            listed = list_all()
            for item in listed.items:
                act(item)
            events = watch.Watch().stream(list_all, resource_version=listed.metadata.resource_version)
            for event in events:
                if event["type"] in ("ADDED", "MODIFIED"):
                    act(event["object"])
        except Exception:
            # Whatever it was (the API server restarts, a conflict), a new list is the cure.
            log.exception("watching again")
            time.sleep(_PAUSE_S)


def main() -> None:
    """Runs until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    kubeconfig, folder, node = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    config.load_kube_config(kubeconfig)
    # One client for each thread: a watch holds its connection.
    claims, volumes = client.CoreV1Api(client.ApiClient()), client.CoreV1Api(client.ApiClient())
    removing = partial(reclaim, volumes, folder)
    threading.Thread(target=follow, args=(volumes.list_persistent_volume, removing), daemon=True).start()
    follow(claims.list_persistent_volume_claim_for_all_namespaces, partial(provide, claims, folder, node))


if __name__ == "__main__":
    main()
