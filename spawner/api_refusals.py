"""What a failed request to the Kubernetes API means to the person who wanted a server. Pure."""

from __future__ import annotations

import re

from spawner.kube_api import ApiFailure
from spawner.refusal import Refusal, StartFailed

__all__ = ["explain"]

_QUOTA = re.compile(r"exceeded quota: (?P<rest>.+)")
_WEBHOOK = re.compile(r"admission webhook \"[^\"]+\" denied the request: (?P<rest>.+)", re.S)
_RUNTIME_CLASS = re.compile(r"RuntimeClass \"(?P<name>[^\"]+)\" not found")
_LONGEST = 400


def explain(failure: ApiFailure, what: str) -> Refusal:
    """Return the refusal that says what happened; `what` completes "… could not be made", such as "your server".

    Kubernetes' own words are passed on where they are about limits that a person can do something about (quota,
    admission webhooks); everything else goes to the log, as it names objects and accounts of the cluster.
    """
    log = f"{what}: {failure}"
    quota = _QUOTA.search(failure.message)
    if failure.status == 403 and quota:
        text = (
            f"The cluster's quota is used up: {_short(quota['rest'])}. "
            "Stop another server, ask for less, or ask your administrators for a larger quota."
        )
        return Refusal("cluster-quota", text, log=log, status=403)
    webhook = _WEBHOOK.search(failure.message)
    if webhook:
        text = f"A rule of the cluster forbids {what}: {_short(webhook['rest'])}"
        return Refusal("cluster-policy", text, log=log, status=403)
    if failure.status == 403 and "violates PodSecurity" in failure.message:
        text = (
            f"The cluster's security rules forbid {what} as this profile describes it. "
            "Choose another profile and tell your administrators."
        )
        return Refusal("pod-security", text, log=log, status=403)
    runtime_class = _RUNTIME_CLASS.search(failure.message)
    if runtime_class:
        text = (
            f"The cluster has no runtime class {runtime_class['name']}, which this accelerator needs. "
            "Choose another accelerator and tell your administrators."
        )
        return StartFailed("no-runtime-class", text, log=log)
    if failure.status in (401, 403):
        text = (
            f"The hub may not make {what} in the cluster. This is a mistake in its installation, not yours: "
            "tell your administrators; the hub's log names the missing right."
        )
        return StartFailed("cluster-rights", text, log=log)
    if failure.status in (400, 404, 422):
        text = (
            f"The cluster did not accept {what} as this profile describes it. "
            "Choose another profile and tell your administrators; the hub's log has the cause."
        )
        return StartFailed("cluster-rejected", text, log=log)
    if failure.status == 0:
        said = "did not answer in time"
    elif failure.status == 429:
        said = "is overloaded"
    else:
        said = f"answered with an error ({failure.status})"
    text = f"The cluster {said}, so that {what} could not be made. Nothing was lost; try again in some minutes."
    return StartFailed("cluster-unavailable", text, log=log, status=503)


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
