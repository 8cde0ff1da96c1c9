"""Which value of Zero to JupyterHub (chart 4) becomes which of ours, and what has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RULES", "Rule", "Unusable", "python_line"]


class Unusable(ValueError):
    """A value that means something here, but not in this form; the text says what to do."""


@dataclass(frozen=True)
class Rule:
    """What becomes of one value.

    `to` is our dotted name; empty: there is none, and `why` says what to do instead, or why nothing needs to be done
    (`done`). `change` makes our value of theirs; what it raises as Unusable is reported.
    """

    to: str = ""
    change: Callable[[Any], Any] = lambda value: value
    why: str = ""
    done: bool = False


def python_line(trait: str, value: Any) -> str:
    """Return a line of jupyterhub_config.py that sets a trait, or calls the method that is named last."""
    called = trait.rpartition(".")[2] in ("extend", "update")
    return f"c.{trait}({value!r})" if called else f"c.{trait} = {value!r}"


def _seconds_to_hours(value: Any) -> Any:
    if not isinstance(value, int | float) or value <= 0:
        raise Unusable("seconds above 0 are expected")
    return value / 3600


def _environment(value: Any) -> Any:
    """Their variables are a mapping of texts or of objects as in a pod, or a list; ours a list."""
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping):
        raise Unusable("a mapping or a list of variables is expected")
    found = []
    for name, one in value.items():
        if isinstance(one, Mapping):
            found.append({"name": name, **one})
        elif one is not None:
            found.append({"name": name, "value": str(one)})
    return found


def _amounts(value: Any) -> Any:
    if not isinstance(value, Mapping) or set(value) - {"requests", "limits"}:
        raise Unusable("requests and limits are expected")
    found: dict[str, dict[str, str]] = {}
    for kind, amounts in value.items():
        wrong = set(amounts or {}) - {"cpu", "memory"}
        if wrong:
            raise Unusable(f"only cpu and memory are known here, not {', '.join(sorted(wrong))}")
        found[kind] = {name: str(amount) for name, amount in (amounts or {}).items()}
    return found


def _first(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise Unusable("a list with one element is expected")
    return value[0]


def _names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Unusable("a list of names is expected")
    return [one["name"] if isinstance(one, Mapping) else str(one) for one in value]


def _line(trait: str) -> Callable[[Any], Any]:
    return lambda value: python_line(trait, value)


def _limit(value: Any) -> Any:
    if not isinstance(value, int) or value < 0:
        raise Unusable("a number is expected")
    return value


def _secret(key: str) -> Rule:
    return Rule(
        why=f"secrets are made anew, or name them: put it into a Secret with the key `{key}`, secrets.existingSecret"
    )


_EXTRA = "hub.extraConfig.z2jh"
"""Lines of Python: a value that ends up here is the text of one."""

_OWN_POD = ("nodeSelector", "tolerations", "annotations", "labels")

RULES: Mapping[str, Rule] = {
    # --- in front
    "proxy.secretToken": _secret("proxy_password"),
    "proxy.service.type": Rule("proxy.service.type"),
    "proxy.service.annotations": Rule("proxy.service.annotations"),
    "proxy.service.nodePorts.http": Rule("proxy.service.nodePort"),
    "proxy.service.nodePorts.https": Rule(why="TLS ends before the proxy: an Ingress, a Gateway or a load balancer"),
    "proxy.service.loadBalancerIP": Rule(why="deprecated by Kubernetes; use the annotations of your load balancer"),
    "proxy.service.labels": Rule(why="labels of the Service are the chart's own"),
    "proxy.chp.resources": Rule("proxy.resources", _amounts),
    "proxy.chp.nodeSelector": Rule("proxy.nodeSelector"),
    "proxy.chp.tolerations": Rule("proxy.tolerations"),
    "proxy.chp.extraCommandLineFlags": Rule("proxy.extraArgs"),
    "proxy.chp.pdb.enabled": Rule("proxy.disruption.enabled"),
    "proxy.chp.defaultTarget": Rule(why="it is the hub"),
    "proxy.chp.errorTarget": Rule(why="it is the hub"),
    "proxy.chp": Rule(why="the proxy's pod is the chart's own"),
    "proxy.annotations": Rule("proxy.annotations"),
    "proxy.labels": Rule("proxy.labels"),
    "proxy.https": Rule(why="TLS ends before the proxy: enable ingress or gateway; ingress.tls knows cert-manager"),
    "proxy.traefik": Rule(why="there is no traefik in the chart: enable ingress or gateway"),
    "ingress.enabled": Rule("ingress.enabled"),
    "ingress.ingressClassName": Rule("ingress.className"),
    "ingress.annotations": Rule("ingress.annotations"),
    "ingress.pathType": Rule(done=True, why="Prefix"),
    # --- hub
    "hub.cookieSecret": _secret("cookie_secret"),
    "hub.concurrentSpawnLimit": Rule("settings.hub.concurrent_starts", _limit),
    "hub.activeServerLimit": Rule("settings.hub.server_limit", _limit),
    "hub.consecutiveFailureLimit": Rule("settings.hub.restart_after_failures", _limit),
    "hub.shutdownOnLogout": Rule("settings.servers.stop_on_logout"),
    "hub.namedServerLimitPerUser": Rule("settings.servers.named_limit", _limit),
    "hub.templatePaths": Rule("settings.hub.template_paths"),
    "hub.templateVars": Rule(_EXTRA, _line("JupyterHub.template_vars.update")),
    "hub.authenticatePrometheus": Rule("settings.hub.metrics_need_token"),
    "hub.redirectToServer": Rule(_EXTRA, _line("JupyterHub.redirect_to_server")),
    "hub.resources": Rule("hub.resources", _amounts),
    "hub.extraEnv": Rule("hub.extraEnv", _environment),
    "hub.extraVolumes": Rule("hub.extraVolumes"),
    "hub.extraVolumeMounts": Rule("hub.extraVolumeMounts"),
    "hub.pdb.enabled": Rule("hub.disruption.enabled"),
    "hub.image": Rule(done=True, why="the chart has an image of its own; packages of yours go into one built on it"),
    "hub.db": Rule(why="the bundled PostgreSQL is used, or name yours in database.existingSecret; its logins are new"),
    "hub.services": Rule(why="write them as lines: c.JupyterHub.services.append({…}) in hub.extraConfig"),
    "hub.loadRoles": Rule(why="write them as lines: c.JupyterHub.load_roles.append({…}) in hub.extraConfig"),
    "hub.existingSecret": Rule(why="see secrets.existingSecret"),
    "hub.networkPolicy": Rule(why="see networkPolicies and users.networkPolicy"),
    "hub.serviceAccount": Rule(why="service accounts and their rights are the chart's own"),
    "hub.deploymentStrategy": Rule(done=True, why="Recreate"),
    **{f"hub.{name}": Rule(f"hub.{name}") for name in _OWN_POD},
    # --- sessions
    "singleuser.storage.capacity": Rule("settings.kubernetes.home_size", str),
    "singleuser.storage.dynamic.storageClass": Rule("settings.kubernetes.storage_class"),
    "singleuser.storage.dynamic.storageAccessModes": Rule("settings.kubernetes.home_access_mode", _first),
    "singleuser.storage.dynamic.pvcNameTemplate": Rule(_EXTRA, _line("KubeSpawner.pvc_name_template")),
    "singleuser.storage.dynamic.volumeNameTemplate": Rule(done=True, why="names of volumes are the pod's own affair"),
    "singleuser.storage.dynamic.subPath": Rule(_EXTRA, _line("KubeSpawner.volume_mounts")),
    "singleuser.storage.homeMountPath": Rule(
        why="homes are at /home/user in our images; see c.KubeSpawner.volume_mounts"
    ),
    "singleuser.storage.extraVolumes": Rule(_EXTRA, _line("KubeSpawner.volumes.extend")),
    "singleuser.storage.extraVolumeMounts": Rule(_EXTRA, _line("KubeSpawner.volume_mounts.extend")),
    "singleuser.storage.static": Rule(why="one volume for all: mount it by c.KubeSpawner.volumes in hub.extraConfig"),
    "singleuser.extraEnv": Rule(_EXTRA, _line("Spawner.environment.update")),
    "singleuser.extraTolerations": Rule("settings.kubernetes.tolerations"),
    "singleuser.nodeSelector": Rule(_EXTRA, _line("KubeSpawner.node_selector.update")),
    "singleuser.extraLabels": Rule(_EXTRA, _line("KubeSpawner.extra_labels.update")),
    "singleuser.extraAnnotations": Rule(_EXTRA, _line("KubeSpawner.extra_annotations.update")),
    "singleuser.initContainers": Rule(_EXTRA, _line("KubeSpawner.init_containers.extend")),
    "singleuser.extraContainers": Rule(_EXTRA, _line("KubeSpawner.extra_containers.extend")),
    "singleuser.extraPodConfig": Rule(_EXTRA, _line("KubeSpawner.extra_pod_config.update")),
    "singleuser.lifecycleHooks": Rule(_EXTRA, _line("KubeSpawner.lifecycle_hooks")),
    "singleuser.cmd": Rule(_EXTRA, _line("Spawner.cmd")),
    "singleuser.startTimeout": Rule("settings.servers.start_timeout_s"),
    "singleuser.defaultUrl": Rule("settings.servers.default_url"),
    "singleuser.uid": Rule("settings.kubernetes.uid"),
    "singleuser.fsGid": Rule("settings.kubernetes.gid"),
    "singleuser.networkPolicy.enabled": Rule("users.networkPolicy.enabled"),
    "singleuser.networkPolicy.egress": Rule("users.networkPolicy.egress.more"),
    "singleuser.networkPolicy.egressAllowRules.nonPrivateIPs": Rule("users.networkPolicy.egress.internet"),
    "singleuser.networkPolicy": Rule(why="see users.networkPolicy: sessions are reached by hub and proxy only"),
    "singleuser.cloudMetadata": Rule(done=True, why="sessions reach no private address, so no metadata either"),
    "singleuser.allowPrivilegeEscalation": Rule(
        why="sessions satisfy Pod Security restricted; see allow_weaker_security"
    ),
    "singleuser.serviceAccountName": Rule(why="sessions have no account of the cluster; see allow_weaker_security"),
    # --- scheduling, images, culling
    "scheduling.userPlaceholder.replicas": Rule("users.placeholders.replicas"),
    "scheduling.userPlaceholder.resources": Rule("users.placeholders.resources", _amounts),
    "scheduling.podPriority.enabled": Rule("priority.enabled"),
    "scheduling.podPriority.defaultPriority": Rule("priority.users"),
    "scheduling.podPriority.userPlaceholderPriority": Rule("priority.placeholders"),
    "scheduling.userScheduler": Rule(why="the cluster's own scheduler places sessions; nothing here packs them"),
    "scheduling": Rule(why="see hub.nodeSelector, hub.affinity and those of the other parts"),
    "prePuller.hook.enabled": Rule("users.prePuller.hook"),
    "prePuller.hook": Rule(why="see users.prePuller.hook: one Job waits for the images"),
    "prePuller.continuous.enabled": Rule("users.prePuller.continuous"),
    "prePuller.extraTolerations": Rule("users.prePuller.tolerations"),
    "prePuller": Rule(why="see users.prePuller"),
    "cull.maxAge": Rule("settings.idle.session_hours", _seconds_to_hours),
    "cull.every": Rule(done=True, why="idleness is looked at every half minute"),
    "cull.removeNamedServers": Rule(why="named servers stay, stopped, until their owner removes them"),
    "cull.users": Rule(why="people are not removed for being away"),
    "cull.adminUsers": Rule(done=True, why="limits hold for everybody; see settings.idle.limits"),
    "cull.concurrency": Rule(done=True, why="nothing of the kind is needed"),
    "imagePullSecrets": Rule("imagePullSecrets", _names),
    "imagePullSecret": Rule(why="make the Secret yourself and name it in imagePullSecrets"),
    "debug.enabled": Rule("settings.hub.log_level", lambda value: "DEBUG" if value else "INFO"),
    "rbac.create": Rule("rbac.create"),
    "custom": Rule(why="nothing reads it here; see hub.extraConfig and hub.extraVolumes"),
    "global": Rule(done=True, why="helm's own"),
    "fullnameOverride": Rule(done=True, why="names come from the release"),
    "nameOverride": Rule(done=True, why="names come from the release"),
}
"""By dotted name; where a value has no rule of its own, that of the nearest one above it holds."""
