"""The chart's values about who reaches whom."""

from __future__ import annotations

from pydantic import Field

from helm.base import Model, Objects, Text

__all__ = ["Gateway", "Ingress", "Policies"]


class Tls(Model):
    """Encryption of an Ingress."""

    enabled: bool = Field(default=True, description="Whether it is, for an https publicUrl.")
    secret_name: str = Field(
        default="", description="Secret with the certificate. Empty: the release's name and `-tls`."
    )
    cluster_issuer: str = Field(default="", description="ClusterIssuer of cert-manager that makes it. Empty: you do.")


class Ingress(Model):
    """An Ingress for publicUrl."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    class_name: str = Field(default="", description="IngressClass. Empty: the cluster's default.")
    annotations: Text = Field(default={}, description="Annotations: time-outs of websockets, sizes of bodies.")
    tls: Tls = Field(default=Tls(), description="Its encryption.")


class Gateway(Model):
    """An HTTPRoute for publicUrl, for clusters with the Gateway API."""

    enabled: bool = Field(default=False, description="Whether there is one.")
    parent_refs: Objects = Field(default=[], description="The Gateways, as in an HTTPRoute.")
    annotations: Text = Field(default={}, description="Annotations.")


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


class NameServers(Model):
    """Whom sessions and the proxy ask for names."""

    to: Objects = Field(
        default=_NAME_SERVERS,
        description="Who answers, as in `to` of a NetworkPolicy: kube-system and private addresses, not clouds' "
        "metadata.",
        min_length=1,
    )
    ports: list[int] = Field(default=[53, 5353], description="Their ports.", min_length=1)


class Policies(Model):
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
