"""The chart's values as a model: what `values.yaml` and `values.schema.json` are written from (`python -m helm.write`).

Names are helm's (camelCase). What hub, service and controller understand is not repeated here: it stands below
`settings`, in the words of armillary.yaml, and is checked by the settings' own model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from helm.base import Model as _Model
from helm.base import Objects, Text
from helm.monitoring.values import Monitoring
from hub.settings import Settings
from hub.settings.shape import shapes
from profiles.schema import json_schema

__all__ = ["FIXED", "Values", "fixed", "schema"]

FIXED: Mapping[str, str] = {
    "engine": "it is kubernetes",
    "public_url": "publicUrl",
    "bind_url": "the proxy's Service",
    "user_subdomains": "wildcard",
    "state_dir": "a folder of the pod",
    "catalogue": "catalogue",
    "hub.bind_url": "the hub's Service",
    "hub.connect_url": "the hub's Service",
    "hub.database_url": "database",
    "hub.metrics_token_file": "monitoring.existingSecret",
    "hub.database_url_file": "database",
    "proxy.kind": "the chart's proxy",
    "proxy.api_url": "the proxy's Service",
    "proxy.api_user": "the chart's proxy",
    "proxy.api_password": "secrets",
    "proxy.api_password_file": "secrets",
    "login.client_secret": "login.clientSecret or login.existingSecret",
    "login.client_secret_file": "login.clientSecret or login.existingSecret",
    "login.ca_file": "login.caCertificates",
    "database.url": "database",
    "database.url_file": "database",
    "service.bind_url": "the service's Service",
    "service.connect_url": "the service's Service",
    "service.api_token_file": "secrets",
    "kubernetes.namespace": "users.namespace",
    "kubernetes.image_pull_secrets": "imagePullSecrets",
    "kubernetes.priority_class": "priority",
    "quotas.file": "quotas",
    "queue.mail.password": "mail.existingSecret",
    "queue.mail.password_file": "mail.existingSecret",
    "local": "it is not for this engine",
}
"""Settings that the chart sets itself, and what says so instead."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Dns = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$", max_length=63)]


class Image(_Model):
    """An image."""

    repository: str = Field(description="Registry, path and name.", min_length=1)
    tag: str = Field(default="", description="Tag. Empty: the chart's appVersion.")
    digest: str = Field(
        default="", description="Digest (`sha256:…`), which wins over the tag.", pattern=r"^(sha256:[0-9a-f]{64})?$"
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When it is pulled."
    )


class Amounts(_Model):
    """Cpu in cores and memory in bytes, as Kubernetes writes them."""

    cpu: Quantity | None = Field(default=None, description="Cores.")
    memory: Quantity | None = Field(default=None, description="Bytes.")


class Resources(_Model):
    """What a container asks for and may have."""

    requests: Amounts = Field(default=Amounts(), description="What the scheduler keeps for it.")
    limits: Amounts = Field(default=Amounts(), description="What it may have at most.")


class Placing(_Model):
    """Where pods run."""

    node_selector: Text = Field(default={}, description="Labels that the node must have.")
    tolerations: Objects = Field(default=[], description="Taints that they tolerate.")
    affinity: dict[str, Any] = Field(default={}, description="Affinity, as in a pod.")
    priority_class_name: str = Field(default="", description="An existing PriorityClass. Empty: see `priority`.")
    annotations: Text = Field(default={}, description="Annotations of the pods.")
    labels: Text = Field(default={}, description="More labels of the pods.")


class Disruption(_Model):
    """PodDisruptionBudget."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    min_available: int = Field(default=1, ge=0, description="How many pods stay during a voluntary disruption.")


class Hub(Placing):
    """The hub. There is one pod; an update replaces it (`Recreate`) while proxy and sessions go on."""

    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="512Mi"), limits=Amounts(memory="2Gi")),
        description="About 0.3 GB per 1,000 running servers, beside 0.3 GB.",
    )
    disruption: Disruption = Field(
        default=Disruption(), description="With one pod it would keep nodes from being drained, so it is off."
    )
    extra_config: Text = Field(
        default={}, description="Python that runs after our configuration, by name; read in the order of the names."
    )
    extra_env: Objects = Field(default=[], description="More environment variables, as in a container.")
    extra_volumes: Objects = Field(default=[], description="More volumes, as in a pod.")
    extra_volume_mounts: Objects = Field(default=[], description="More mounts, as in a container.")
    grace_seconds: int = Field(default=30, ge=1, le=600, description="How long it may take to end, in seconds.")


class ProxyService(_Model):
    """The Service that people reach, by an Ingress, a Gateway or directly."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="Its type.")
    port: int = Field(default=80, ge=1, le=65535, description="Its port.")
    node_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port on the nodes, with NodePort. Empty: any."
    )
    annotations: Text = Field(default={}, description="Annotations, for instance of a cloud's load balancer.")
    load_balancer_class: str = Field(default="", description="Class of the load balancer. Empty: the cluster's.")


class Proxy(Placing):
    """configurable-http-proxy. It is restarted only when its own image, token or resources change."""

    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="It holds every connection of every browser.",
    )
    disruption: Disruption = Field(
        default=Disruption(), description="With one pod it would keep nodes from being drained."
    )
    service: ProxyService = Field(default=ProxyService(), description="The Service in front of it.")
    timeout_seconds: int = Field(
        default=0, ge=0, description="End a connection without traffic after so long. 0: never."
    )
    extra_args: list[str] = Field(default=[], description="More arguments.")
    grace_seconds: int = Field(default=60, ge=1, le=3600, description="How long it may take to end, in seconds.")


class Autoscaling(_Model):
    """HorizontalPodAutoscaler by cpu."""

    enabled: bool = Field(default=False, description="Whether the number follows the load.")
    min_replicas: int = Field(default=2, ge=1, description="At least so many.")
    max_replicas: int = Field(default=5, ge=1, description="At most so many.")
    cpu_percent: int = Field(
        default=70, ge=1, le=100, description="The use of the requested cpu that is aimed at, in percent."
    )


class Service(Placing):
    """REST API and pages; any number of pods."""

    replicas: int = Field(default=2, ge=1, description="How many, where nothing scales them.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="100m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="Each live page costs about 50 kB.",
    )
    autoscaling: Autoscaling = Field(default=Autoscaling(), description="More of them under load.")
    disruption: Disruption = Field(default=Disruption(enabled=True), description="One stays while nodes are drained.")


class Controller(Placing):
    """The loops that count, queue, stop and repair; one acts, the others wait to take over."""

    replicas: int = Field(default=2, ge=1, description="How many.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="100m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="It knows every node and pod of the cluster, slim: 190 MB for 1,000 nodes and 10,000 pods.",
    )
    disruption: Disruption = Field(default=Disruption(enabled=True), description="One stays while nodes are drained.")


class Bundled(Placing):
    """A PostgreSQL of the chart's own: one pod with one volume, for sites that have none."""

    enabled: bool = Field(default=True, description="Whether it is used. Without it `database.existingSecret` is.")
    storage_class: str = Field(default="", description="StorageClass of its volume. Empty: the cluster's default.")
    size: Quantity = Field(default="8Gi", description="Size of its volume.")
    user: int = Field(default=999, ge=1, description="The uid that it runs as; that of the image's account `postgres`.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="200m", memory="256Mi"), limits=Amounts(memory="1Gi")),
        description="A million rows of the ledger are about 1 GB on disk.",
    )


class Database(_Model):
    """Where Armillary and JupyterHub keep what they know."""

    existing_secret: str = Field(
        default="",
        description="A Secret with the keys `armillary-url` and `jupyterhub-url`: two databases of a PostgreSQL ≥ 15, "
        "as `postgresql+psycopg://USER:PASSWORD@HOST/NAME`. Only without the bundled one.",
    )
    bundled: Bundled = Field(default=Bundled(), description="The chart's own PostgreSQL.")
    migrate_before_upgrade: bool = Field(
        default=True,
        description="Whether an upgrade begins with bringing the tables of both databases to what the new version "
        "needs, after the copy, and fails where that fails. Without it hub and JupyterHub do so when they start.",
    )


class Backup(_Model):
    """`armillary backup create` before every upgrade, and by a CronJob."""

    before_upgrade: bool = Field(
        default=True, description="Whether an upgrade begins with a copy, and fails without one."
    )
    schedule: str = Field(default="15 3 * * *", description="When a copy is made, as in cron. Empty: never.")
    keep: int = Field(default=14, ge=1, description="How many copies stay.")
    storage_class: str = Field(default="", description="StorageClass of their volume. Empty: the cluster's default.")
    size: Quantity = Field(default="10Gi", description="Size of their volume.")


class Login(_Model):
    """The hub's secret at the OpenID provider; all else of the login is below `settings.login`."""

    client_secret: str = Field(default="", description="The secret itself; better keep it in a Secret of your own.")
    existing_secret: str = Field(default="", description="A Secret that holds it.")
    key: str = Field(default="client-secret", description="The key in that Secret.", min_length=1)
    ca_certificates: str = Field(default="", description="PEM of authorities that signed the provider's certificate.")


class Mail(_Model):
    """The password of the mail server that `settings.queue.mail` names."""

    existing_secret: str = Field(default="", description="A Secret that holds it. Empty: none is used.")
    key: str = Field(default="password", description="The key in that Secret.", min_length=1)


class Secrets(_Model):
    """Keys and tokens that hub, proxy and service share."""

    existing_secret: str = Field(
        default="",
        description="A Secret with the keys `cookie_secret`, `auth_state_keys`, `proxy_password` and `service_token`, "
        "each 64 hexadecimal digits; with the bundled database also `postgres-password`, `armillary-url`, "
        "`jupyterhub-url`. Empty: one is made at the first install and kept. Tools that render without asking the "
        "cluster need one of yours.",
    )


class Namespace(_Model):
    """The namespace of the sessions."""

    name: Dns = Field(default="", description="Its name. Empty: the release's name and `-users`.")
    create: bool = Field(
        default=True, description="Whether the chart makes it; with Pod Security `restricted` enforced."
    )
    keep: bool = Field(
        default=True, description="Whether it, and with it all homes, stays when the chart is uninstalled."
    )
    labels: Text = Field(default={}, description="More labels of it.")
    annotations: Text = Field(default={}, description="Annotations of it.")


class Allowed(_Model):
    """Where sessions may connect to, beside DNS, hub, proxy and service."""

    internet: bool = Field(default=True, description="Whether addresses that are not private are allowed.")
    except_: list[str] = Field(
        default=[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "168.63.129.16/32",
            "fc00::/7",
            "fe80::/10",
        ],
        alias="except",
        description="What is not the internet: private addresses, and clouds' metadata (168.63.129.16 is Azure's). Add "
        "public addresses of your cluster: of its API server and its nodes.",
    )
    more: Objects = Field(
        default=[], description="More rules, as in `egress` of a NetworkPolicy: a file server, a site's services."
    )


class UserPolicy(_Model):
    """NetworkPolicy of the sessions."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    egress: Allowed = Field(default=Allowed(), description="Where sessions may connect to.")


class Placeholders(_Model):
    """Pods that hold room for the next session, and make way for it at once."""

    replicas: int = Field(default=0, ge=0, description="How many.")
    resources: Resources = Field(
        default=Resources(requests=Amounts(cpu="1", memory="4Gi"), limits=Amounts()), description="What each holds."
    )
    node_selector: Text = Field(default={}, description="Labels that the node must have.")
    tolerations: Objects = Field(default=[], description="Taints that they tolerate.")


class PrePuller(_Model):
    """Images of the catalogue on every node before somebody waits for them."""

    continuous: bool = Field(default=True, description="Whether nodes that come later get them, too.")
    hook: bool = Field(
        default=False,
        description="Whether an installation or upgrade goes on only when every node has them. It fails where one "
        "cannot get them.",
    )
    hook_seconds: int = Field(
        default=900, ge=10, le=86_400, description="How long that is waited for; helm's --timeout must be longer."
    )
    images: list[str] = Field(default=[], description="The images. Empty: those of the catalogue that is given here.")
    node_selector: Text = Field(default={}, description="Labels of the nodes.")
    tolerations: Objects = Field(default=[], description="Taints that it tolerates.")


class Users(_Model):
    """What surrounds the sessions; the sessions themselves are described by `settings` and `catalogue`."""

    namespace: Namespace = Field(default=Namespace(), description="Their namespace.")
    network_policy: UserPolicy = Field(default=UserPolicy(), description="Whom they reach, and who reaches them.")
    placeholders: Placeholders = Field(default=Placeholders(), description="Room that is kept.")
    pre_puller: PrePuller = Field(default=PrePuller(), description="Images that are there.")


class Tls(_Model):
    """Encryption of an Ingress."""

    enabled: bool = Field(default=True, description="Whether it is, for an https publicUrl.")
    secret_name: str = Field(
        default="", description="Secret with the certificate. Empty: the release's name and `-tls`."
    )
    cluster_issuer: str = Field(default="", description="ClusterIssuer of cert-manager that makes it. Empty: you do.")


class Ingress(_Model):
    """An Ingress for publicUrl."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    class_name: str = Field(default="", description="IngressClass. Empty: the cluster's default.")
    annotations: Text = Field(default={}, description="Annotations: time-outs of websockets, sizes of bodies.")
    tls: Tls = Field(default=Tls(), description="Its encryption.")


class Gateway(_Model):
    """An HTTPRoute for publicUrl, for clusters with the Gateway API."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    parent_refs: Objects = Field(default=[], description="The Gateways, as in an HTTPRoute.")
    annotations: Text = Field(default={}, description="Annotations.")


class Priority(_Model):
    """PriorityClasses: core parts before sessions, sessions before placeholders."""

    enabled: bool = Field(
        default=True, description="Whether the chart makes them. They are objects of the whole cluster."
    )
    core: int = Field(default=1000, description="Of hub, proxy, service, controller and database.")
    users: int = Field(default=0, description="Of sessions.")
    placeholders: int = Field(default=-10, description="Of placeholders, which anything displaces.")


_METADATA = "169.254.169.254/32"
_NAME_SERVERS: Objects = [
    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
    {"ipBlock": {"cidr": "10.0.0.0/8"}},
    {"ipBlock": {"cidr": "172.16.0.0/12"}},
    {"ipBlock": {"cidr": "192.168.0.0/16"}},
    {"ipBlock": {"cidr": "100.64.0.0/10"}},
    {"ipBlock": {"cidr": "169.254.0.0/16", "except": [_METADATA]}},
    {"ipBlock": {"cidr": "fc00::/7", "except": ["fd00:ec2::254/128"]}},
    {"ipBlock": {"cidr": "fe80::/10"}},
]
# Some network plugins choose pods by blocks of addresses, some only by selectors; a node's own cache of names has a
# link-local address. Clouds' metadata is none, and a name server beyond the cluster would be a way out of it.


class NameServers(_Model):
    """Whom sessions and the proxy ask for names."""

    to: Objects = Field(
        default=_NAME_SERVERS,
        description="Who answers, as in `to` of a NetworkPolicy: kube-system and private addresses, not clouds' "
        "metadata.",
        min_length=1,
    )
    ports: list[int] = Field(default=[53, 5353], description="Their ports.", min_length=1)


class Policies(_Model):
    """NetworkPolicies of the core parts; those of the sessions are `users.networkPolicy`."""

    enabled: bool = Field(default=True, description="Whether there are any.")
    dns: NameServers = Field(default=NameServers(), description="Whom sessions and the proxy ask for names.")
    ingress_from: Objects = Field(
        default=[], description="Who may reach the proxy, as in `from` of a NetworkPolicy. Empty: everybody."
    )
    monitoring_from: Objects = Field(
        default=[],
        description="Who may reach the ports of hub, service and controller that have metrics, as in `from` of a "
        "NetworkPolicy. Empty: nobody does for that.",
    )
    proxy_to: Objects = Field(
        default=[],
        description="Where the proxy may connect beside hub, service and sessions, as in `to` of a NetworkPolicy: "
        "services of your own that the hub announces.",
    )


class Rbac(_Model):
    """What the service accounts may do."""

    create: bool = Field(default=True, description="Whether the chart makes roles and bindings.")
    dynamic_resource_allocation: bool = Field(
        default=True, description="Whether that is needed for accelerators that are asked for by ResourceClaims."
    )


class Values(_Model):
    """Values of the chart."""

    public_url: str = Field(
        default="",
        description="Where people reach the site: https://hub.example.org/. The path may be longer. Required.",
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
    )
    wildcard: bool = Field(
        default=False,
        description="Whether each person's sessions have a host name of their own, ann.hub.example.org for a site at "
        "hub.example.org. DNS, Ingress or Gateway and the certificate must know *.hub.example.org, too.",
    )
    settings: dict[str, Any] = Field(
        default={},
        description="What hub, service and controller are told, as in armillary.yaml: login, kubernetes, queue, …",
    )
    catalogue: dict[str, Any] = Field(
        default={}, description="What can be started, as in a catalogue. Empty: the shipped one."
    )
    quotas: dict[str, Any] = Field(
        default={}, description="Limits, as in the file of quotas. Empty: none are declared."
    )
    login: Login = Field(default=Login(), description="The secret of the login.")
    mail: Mail = Field(default=Mail(), description="The secret of the mail server.")
    secrets: Secrets = Field(default=Secrets(), description="Keys and tokens.")
    database: Database = Field(default=Database(), description="The databases.")
    backup: Backup = Field(default=Backup(), description="Copies of the installation.")
    hub: Hub = Field(default=Hub(), description="The hub.")
    proxy: Proxy = Field(default=Proxy(), description="The proxy.")
    service: Service = Field(default=Service(), description="The service.")
    controller: Controller = Field(default=Controller(), description="The controller.")
    users: Users = Field(default=Users(), description="The sessions' surroundings.")
    ingress: Ingress = Field(default=Ingress(), description="Ingress.")
    gateway: Gateway = Field(default=Gateway(), description="Gateway API.")
    network_policies: Policies = Field(default=Policies(), description="NetworkPolicies of the core parts.")
    monitoring: Monitoring = Field(default=Monitoring(), description="Metrics, dashboards, alerts.")
    priority: Priority = Field(default=Priority(), description="PriorityClasses.")
    rbac: Rbac = Field(default=Rbac(), description="Rights.")
    images: dict[Literal["hub", "proxy", "postgres", "pause"], Image] = Field(
        default={
            "hub": Image(repository="localhost/armillary/hub"),
            "proxy": Image(repository="localhost/armillary/proxy"),
            "postgres": Image(repository="localhost/armillary/postgres"),
            "pause": Image(repository="registry.k8s.io/pause", tag="3.10"),
        },
        description="The chart's images; those of sessions are in the catalogue.",
    )
    image_pull_secrets: list[str] = Field(
        default=[], description="Secrets for private registries, of all pods and sessions."
    )
    uid: int = Field(default=1000, ge=1, description="The uid and gid that hub, proxy, service and controller run as.")


def fixed() -> Iterator[str]:
    """Yield every setting that the chart sets, dotted; those of a section that is fixed as a whole, too."""
    known = {shape.dotted for shape in shapes(Settings)}
    for name in FIXED:
        yield from (dotted for dotted in known if dotted == name or dotted.startswith(f"{name}."))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of values.yaml: ours, with the settings' and the catalogue's own in it."""
    found = Values.model_json_schema(by_alias=True)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["properties"]["global"] = {"type": "object", "description": "helm's own; nothing here reads it."}
    found["required"] = ["publicUrl"]
    _embed(found, "settings", _without_fixed(Settings.model_json_schema()))
    _embed(found, "catalogue", json_schema())
    return found


def _without_fixed(said: dict[str, Any]) -> dict[str, Any]:
    for name in FIXED:
        where, _, last = name.rpartition(".")
        _section(said, where)["properties"].pop(last)
    return said


def _section(said: dict[str, Any], where: str) -> dict[str, Any]:
    found = said
    for part in filter(None, where.split(".")):
        named = found["properties"][part]
        reference = named.get("$ref") or named["allOf"][0]["$ref"]
        found = said["$defs"][reference.removeprefix("#/$defs/")]
    return found


def _embed(into: dict[str, Any], name: str, said: dict[str, Any]) -> None:
    """Put a schema in the place of a property; its definitions get a prefix, so that none is another's."""
    definitions = said.pop("$defs", {})
    prefix = f"{name}-"

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: value[key].replace("#/$defs/", f"#/$defs/{prefix}") if key == "$ref" else renamed(value[key])
                for key in value
            }
        return [renamed(one) for one in value] if isinstance(value, list) else value

    into["$defs"].update({f"{prefix}{key}": renamed(value) for key, value in definitions.items()})
    whole = {
        key: value for key, value in renamed(said).items() if key not in ("$schema", "$id", "title", "description")
    }
    # Nothing said is legal: then the defaults hold, or the catalogue that is shipped.
    description = into["properties"][name]["description"]
    into["properties"][name] = {"description": description, "type": "object", "if": {"minProperties": 1}, "then": whole}
