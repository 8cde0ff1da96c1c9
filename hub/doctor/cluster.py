"""The cluster: its version, what we may do there, the sessions' namespace, the storage of homes."""

from __future__ import annotations

from collections.abc import Iterator

from hub.cluster_api import ApiProblem, ClusterApi, Forbidden, NotFound
from hub.cluster_rights import Right, needed
from hub.doctor.finding import Finding, good, problem, unseen, warning
from hub.settings import Settings
from profiles.model import Catalogue

__all__ = ["cluster"]

_AREA = "Cluster"
_OLDEST = (1, 30)  # as the chart's kubeVersion
_CLAIMS = (1, 34)
_TOO_MUCH = (Right("", "secrets", "get"), Right("", "secrets", "list"), Right("", "nodes", "patch", users=False))


def cluster(api: ClusterApi, settings: Settings, catalogue: Catalogue, part: str) -> Iterator[Finding]:
    """Look at the cluster with the rights of one part: `hub` or `controller`."""
    try:
        said = api.get("/version")
    except ApiProblem as trouble:
        yield problem(_AREA, str(trouble), "Without it nobody is started; sessions that run go on.")
        return
    version = _version(said)
    claims = any(one.kubernetes and one.kubernetes.dra for one in catalogue.accelerators.values())
    text = f"Kubernetes {said.get('gitVersion')}"
    if version < _OLDEST:
        yield warning(_AREA, text, "The chart wants 1.30 or newer; it is tested with 1.34.")
    elif claims and version < _CLAIMS:
        yield problem(_AREA, f"{text} has no resource.k8s.io/v1", "Accelerators by device class need 1.34 or newer.")
    else:
        yield good(_AREA, text)
    yield from _rights(api, settings.kubernetes.namespace, part, claims=claims)
    yield _namespace(api, settings.kubernetes.namespace)
    yield _storage(api, settings.kubernetes.storage_class)


def _version(said: dict[str, object]) -> tuple[int, int]:
    def number(text: object) -> int:
        digits = "".join(letter for letter in str(text) if letter.isdigit())
        return int(digits or 0)

    return number(said.get("major")), number(said.get("minor"))


def _rights(api: ClusterApi, namespace: str, part: str, *, claims: bool) -> Iterator[Finding]:
    missing = [_worded(one, namespace) for one in needed(part, claims=claims) if not _may(api, one, namespace)]
    if missing:
        to_do = (
            "Give its service account the role of the page “Run on Kubernetes”; the chart does that (`rbac.create`)."
        )
        yield problem("Rights", f"the {part} may not {'; '.join(missing)}", to_do)
    else:
        yield good("Rights", f"the {part} may do all that it needs")
    more = [_worded(one, namespace) for one in _TOO_MUCH if _may(api, one, namespace)]
    if more:
        to_do = "Nothing here needs it; these may be an administrator's credentials, or the role is too wide."
        yield warning("Rights", f"the {part} may also {'; '.join(more)}", to_do)


def _worded(right: Right, namespace: str) -> str:
    return f"{right.verb} {right.resource} in {namespace if right.users else 'all namespaces'}"


def _may(api: ClusterApi, right: Right, namespace: str) -> bool:
    asked = {"group": right.group, "resource": right.resource, "verb": right.verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked | ({"namespace": namespace} if right.users else {})},
    }
    said = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool((said.get("status") or {}).get("allowed"))


def _namespace(api: ClusterApi, name: str) -> Finding:
    try:
        found = api.get(f"/api/v1/namespaces/{name}")
    except Forbidden:
        return unseen("Sessions", f"whether the namespace {name} enforces Pod Security: the rights do not tell")
    except NotFound:
        return problem("Sessions", f"there is no namespace {name}", f"`kubectl create namespace {name}`, or the chart.")
    labels = found.get("metadata", {}).get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") == "restricted":
        return good("Sessions", f"the namespace {name} enforces Pod Security “restricted”")
    to_do = f"`kubectl label namespace {name} pod-security.kubernetes.io/enforce=restricted`; our sessions satisfy it."
    return warning("Sessions", f"the namespace {name} does not enforce Pod Security “restricted”", to_do)


def _storage(api: ClusterApi, name: str | None) -> Finding:
    path = "/apis/storage.k8s.io/v1/storageclasses"
    try:
        if name:
            api.get(f"{path}/{name}")
            return good("Homes", f"there is the StorageClass {name}")
        if any(_is_default(one) for one in api.items(path)):
            return good("Homes", "there is a default StorageClass")
    except Forbidden:
        return unseen("Homes", "which StorageClasses there are: the rights do not tell")
    except NotFound:
        text, to_do = f"there is no StorageClass {name}", "Name one of `kubectl get storageclasses` in the settings."
        return problem("Homes", text, f"{to_do} Nobody new can start until then.")
    to_do = "Name one in kubernetes.storage_class, or mark one as the default."
    return problem("Homes", "there is no default StorageClass, and the settings name none", to_do)


def _is_default(storage_class: dict[str, dict[str, dict[str, str]]]) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
