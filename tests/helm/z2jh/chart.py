"""Objects that Zero to JupyterHub 4 makes for hub and proxy: how an image is started there, and with what around it.

Read from the templates of its chart (4.4.0: `templates/hub`, `templates/proxy`, `values.yaml`) and written down in our
own words: the hub's command, what is mounted where (configuration from a ConfigMap, values and tokens from a Secret,
`hub.extraFiles`, the claim of its SQLite file), variables, probes, security context, rights and Services; the proxy's
Deployment with its command. Values that a site may set and that play no part in this are left out; so are
NetworkPolicies, the user scheduler, the image puller and the autohttps part.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DEFAULTS", "merged", "objects"]

Object = dict[str, Any]

_HERE = Path(__file__).parent
_ETC = "/usr/local/etc/jupyterhub"
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsGroup": 1000,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_NOBODY = {**_CONFINED, "runAsUser": 65534, "runAsGroup": 65534}

DEFAULTS: Mapping[str, Any] = {
    "hub": {
        "baseUrl": "/",
        "db": {"type": "sqlite-pvc", "pvc": {"storage": "1Gi"}},
        "concurrentSpawnLimit": 64,
        "consecutiveFailureLimit": 5,
        "allowNamedServers": False,
        "config": {"JupyterHub": {"admin_access": True, "authenticator_class": "dummy"}},
        "services": {},
        "loadRoles": {},
        "extraConfig": {},
        "extraEnv": {},
        "extraFiles": {},
        "extraVolumes": [],
        "extraVolumeMounts": [],
        "initContainers": [],
        "extraContainers": [],
        "service": {"extraPorts": []},
    },
    "proxy": {"service": {"type": "LoadBalancer", "nodePorts": {}}},
    "singleuser": {
        "image": {"name": "quay.io/jupyterhub/k8s-singleuser-sample", "tag": "4"},
        "cloudMetadata": {"blockWithIptables": True, "ip": "169.254.169.254"},
        "networkTools": {"image": {"name": "quay.io/jupyterhub/k8s-network-tools", "tag": "4"}},
        "initContainers": [],
        "extraLabels": {"hub.jupyter.org/network-access-hub": "true"},
        "events": True,
        "uid": 1000,
        "fsGid": 100,
        "startTimeout": 300,
        "allowPrivilegeEscalation": False,
        "memory": {"guarantee": "1G"},
        "storage": {
            "type": "dynamic",
            "capacity": "10Gi",
            "homeMountPath": "/home/jovyan",
            "dynamic": {"volumeNameTemplate": "volume-{user_server}", "storageAccessModes": ["ReadWriteOnce"]},
            "extraVolumes": [],
            "extraVolumeMounts": [],
        },
    },
    "scheduling": {
        "userPods": {
            "tolerations": [
                {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
            ]
        }
    },
    "cull": {"enabled": True, "timeout": 3600},
}
"""Of its values.yaml, what the stand-in looks at."""


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values over values, as helm merges them: maps key by key, all else replaced."""
    found = deepcopy(dict(base))
    for key, value in more.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else deepcopy(value)
    return found


def objects(values: Mapping[str, Any], release: str, namespace: str) -> list[Object]:
    """Return the objects of a release with these values over the chart's own."""
    whole = merged(DEFAULTS, values)
    hub, proxy = whole["hub"], whole["proxy"]
    tokens = {f"hub.services.{key}.apiToken": one.get("apiToken") or _token() for key, one in hub["services"].items()}
    tokens |= {
        f"hub.config.{name}": _token()
        for name in ("ConfigurableHTTPProxy.auth_token", "JupyterHub.cookie_secret", "CryptKeeper.keys")
    }
    said = {**whole, "Chart": {"Name": "jupyterhub", "Version": "4"}, "Release": {"Name": release}}
    secret = {"values.yaml": yaml.safe_dump(said), **tokens, **_extra_files(hub["extraFiles"])}
    config = {file: (_HERE / file).read_text() for file in ("jupyterhub_config.py", "z2jh.py")}
    names = {name: name for name in ("hub", "proxy-api", "proxy-public")}
    room = hub["db"]["pvc"]
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": room["storage"]}},
        "storageClassName": room.get("storageClassName"),
    }
    ports = [{"name": "hub", "port": 8081, "targetPort": "http"}, *hub["service"]["extraPorts"]]
    public = {"name": "http", "port": 80, "targetPort": "http", "nodePort": proxy["service"]["nodePorts"].get("http")}
    made = [
        _object("v1", "ServiceAccount", "hub"),
        *_rights(namespace),
        _object("v1", "ConfigMap", "hub", data={**config, **names}),
        _object("v1", "Secret", "hub", data={key: _encoded(text) for key, text in secret.items()}),
        _object("v1", "PersistentVolumeClaim", "hub-db-dir", spec=claim),
        # Before the pods, as helm makes them: the hub finds their ports in its environment.
        _service("hub", "hub", "ClusterIP", ports),
        _service("proxy-api", "proxy", "ClusterIP", [{"port": 8001, "targetPort": "api"}]),
        _service("proxy-public", "proxy", proxy["service"]["type"], [public]),
        _deployment("hub", release, _hub_pod(hub, release)),
        _deployment("proxy", release, _proxy_pod(proxy)),
    ]
    return [{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in made]


# --- the pods --------------------------------------------------------------------------------------------------------


def _hub_pod(hub: Mapping[str, Any], release: str) -> Object:
    files = hub["extraFiles"]
    mounts: list[Object] = [
        {"mountPath": f"{_ETC}/jupyterhub_config.py", "subPath": "jupyterhub_config.py", "name": "config"},
        {"mountPath": f"{_ETC}/z2jh.py", "subPath": "z2jh.py", "name": "config"},
        {"mountPath": f"{_ETC}/config/", "name": "config"},
        {"mountPath": f"{_ETC}/secret/", "name": "secret"},
        *({"mountPath": one["mountPath"], "subPath": key, "name": "files"} for key, one in files.items()),
        *hub["extraVolumeMounts"],
        {"mountPath": "/srv/jupyterhub", "name": "pvc"},
    ]
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": "hub"}},
        {"name": "secret", "secret": {"secretName": "hub"}},
        *hub["extraVolumes"],
        {"name": "pvc", "persistentVolumeClaim": {"claimName": "hub-db-dir"}},
    ]
    if files:
        items = [{"key": key, "path": key} for key in files]
        volumes.append({"name": "files", "secret": {"secretName": "hub", "items": items}})
    token = {"secretKeyRef": {"name": "hub", "key": "hub.config.ConfigurableHTTPProxy.auth_token"}}
    container = {
        "name": "hub",
        "image": f"{hub['image']['name']}:{hub['image']['tag']}",
        "args": ["jupyterhub", "--config", f"{_ETC}/jupyterhub_config.py", "--upgrade-db"],
        "volumeMounts": mounts,
        "securityContext": _CONFINED,
        "env": [
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "HELM_RELEASE_NAME", "value": release},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "CONFIGPROXY_AUTH_TOKEN", "valueFrom": token},
            *_environment(hub["extraEnv"]),
        ],
        "ports": [{"name": "http", "containerPort": 8081}],
        "livenessProbe": {**_health(f"{hub['baseUrl']}hub/health"), "initialDelaySeconds": 300, "failureThreshold": 30},
        "readinessProbe": {**_health(f"{hub['baseUrl']}hub/health"), "periodSeconds": 2, "failureThreshold": 1000},
    }
    return {
        "serviceAccountName": "hub",
        "securityContext": {"fsGroup": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": volumes,
        "initContainers": hub["initContainers"],
        "containers": [container, *hub["extraContainers"]],
    }


def _proxy_pod(proxy: Mapping[str, Any]) -> Object:
    token = {"secretKeyRef": {"name": "hub", "key": "hub.config.ConfigurableHTTPProxy.auth_token"}}
    container = {
        "name": "chp",
        "image": f"{proxy['chp']['image']['name']}:{proxy['chp']['image']['tag']}",
        "command": [
            "configurable-http-proxy",
            "--ip=",
            "--api-ip=",
            "--api-port=8001",
            "--default-target=http://hub:$(HUB_SERVICE_PORT)",
            "--error-target=http://hub:$(HUB_SERVICE_PORT)/hub/error",
            "--port=8000",
        ],
        "env": [{"name": "CONFIGPROXY_AUTH_TOKEN", "valueFrom": token}],
        "ports": [{"name": "http", "containerPort": 8000}, {"name": "api", "containerPort": 8001}],
        "readinessProbe": {**_health("/_chp_healthz"), "periodSeconds": 2, "failureThreshold": 1000},
        "securityContext": _NOBODY,
    }
    return {"securityContext": {"runAsNonRoot": True}, "terminationGracePeriodSeconds": 60, "containers": [container]}


def _health(path: str) -> Object:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 3}


def _environment(given: Mapping[str, Any]) -> list[Object]:
    return [{"name": name, **(one if isinstance(one, Mapping) else {"value": one})} for name, one in given.items()]


def _extra_files(files: Mapping[str, Any]) -> dict[str, str]:
    """Texts as they are; data as the ending of the path says, which is YAML here."""
    found = {}
    for key, one in files.items():
        assert "stringData" in one or one["mountPath"].endswith((".yaml", ".yml")), one["mountPath"]
        found[key] = one["stringData"] if "stringData" in one else yaml.safe_dump(one["data"])
    return found


# --- what is around them ---------------------------------------------------------------------------------------------


def _object(version: str, kind: str, name: str, **more: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def _deployment(component: str, release: str, pod: Object) -> Object:
    labels = {"app": "jupyterhub", "component": component, "release": release}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"}, "template": template}
    return _object("apps/v1", "Deployment", component, spec=spec)


def _service(name: str, component: str, kind: str, ports: list[Object]) -> Object:
    selector = {"app": "jupyterhub", "component": component}
    return _object("v1", "Service", name, spec={"type": kind, "selector": selector, "ports": ports})


def _rights(namespace: str) -> list[Object]:
    made = ["get", "watch", "list", "create", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["pods", "persistentvolumeclaims", "secrets", "services"], "verbs": made},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    subjects = [{"kind": "ServiceAccount", "name": "hub", "namespace": namespace}]
    role = {"apiGroup": rbac, "kind": "Role", "name": "hub"}
    return [
        _object(f"{rbac}/v1", "Role", "hub", rules=rules),
        _object(f"{rbac}/v1", "RoleBinding", "hub", roleRef=role, subjects=subjects),
    ]


def _token() -> str:
    return secrets.token_hex(32)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
