"""From NetworkPolicies to rules of iptables: pure, so that it can be compared with a plain model of their meaning.

https://kubernetes.io/docs/concepts/services-networking/network-policies/. A pod that a policy selects is isolated in that
policy's directions and gets a chain for each, which says what is allowed and drops the rest. Two things are always
allowed there: what belongs to a connection that was allowed when it began, and what a pod sends to itself. What this
machine sends to its pods (probes, the API server's `port-forward`) passes no chain of ours, as Kubernetes wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, Literal

Object = Mapping[str, Any]
Direction = Literal["ingress", "egress"]

MAIN = "ARMILLARY-LAB-P"
"""The chain that all forwarded and incoming packets pass."""

ANYWHERE = IPv4Network("0.0.0.0/0")
# A chain's name has at most 28 characters, so that the address is in hexadecimal digits.
_CHAINS: Mapping[Direction, str] = {"egress": "ARMILLARY-LAB-E", "ingress": "ARMILLARY-LAB-I"}


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own; `ports` are the numbers of its named ports, by protocol and name."""

    namespace: str
    address: IPv4Address
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Allowed:
    """Where a pod may connect to, or who may connect to it. No protocol: any; no ports: all (first and last)."""

    network: IPv4Network
    protocol: str = ""
    ports: tuple[int, int] | tuple[()] = ()


@dataclass(frozen=True)
class Isolation:
    """A pod that is isolated in one direction, and all that is allowed nevertheless."""

    address: IPv4Address
    direction: Direction
    allowed: tuple[Allowed, ...]


def read_pods(objects: Iterable[Object], within: IPv4Network) -> list[Pod]:
    """Return the pods with an address in `within`; those that have ended have none, and those of the host's network
    are no pods to a policy.
    """
    found = []
    for one in objects:
        status, spec = one.get("status", {}), one["spec"]
        address = status.get("podIP")
        if not address or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        if IPv4Address(address) not in within:
            continue
        named = {
            (port.get("protocol", "TCP").lower(), port["name"]): int(port["containerPort"])
            for container in spec["containers"]
            for port in container.get("ports", ())
            if "name" in port
        }
        labels = one["metadata"].get("labels") or {}
        found.append(Pod(one["metadata"]["namespace"], IPv4Address(address), labels, named))
    return found


def isolations(
    policies: Iterable[Object], pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> list[Isolation]:
    """Return what the policies isolate.

    Args:
        policies: NetworkPolicy objects.
        pods: all pods.
        namespaces: labels of every namespace, by name.
    """
    allowed: dict[tuple[IPv4Address, Direction], set[Allowed]] = {}
    for policy in policies:
        spec, space = policy["spec"], policy["metadata"]["namespace"]
        chosen = [pod for pod in pods if pod.namespace == space and _matches(spec.get("podSelector"), pod.labels)]
        for direction in _directions(spec):
            for pod in chosen:
                rules = allowed.setdefault((pod.address, direction), set())
                for rule in spec.get(direction) or ():
                    rules.update(_allowed(rule, direction, pod, space, pods, namespaces))
    return [
        Isolation(address, direction, tuple(sorted(rules)))
        for (address, direction), rules in sorted(allowed.items(), key=lambda entry: entry[0])
    ]


def _directions(spec: Object) -> list[Direction]:
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    both: tuple[Direction, ...] = ("ingress", "egress")
    return [direction for direction in both if direction.capitalize() in types]


def _matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses these labels; an empty one chooses everything."""
    selector = selector or {}
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    return all(_holds(one, labels.get(one["key"])) for one in selector.get("matchExpressions") or ())


def _holds(expression: Object, value: str | None) -> bool:
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"operator {expression['operator']!r} of a label selector is none of Kubernetes'")


def _allowed(
    rule: Object,
    direction: Direction,
    isolated: Pod,
    space: str,
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Iterator[Allowed]:
    networks = list(_networks(rule.get("from" if direction == "ingress" else "to"), space, pods, namespaces))
    everything: Object = {}
    for port in rule.get("ports") or (everything,):
        protocol = port.get("protocol", "TCP").lower() if port else ""
        number = port.get("port")
        if isinstance(number, str):
            # A name is that of the pod which is connected to, and each pod may have another number for it.
            targets = [isolated] if direction == "ingress" else pods
            for target in targets:
                if (known := target.ports.get((protocol, number))) is None:
                    continue
                here = IPv4Network(target.address)
                for network in networks:
                    if direction == "ingress" or here.subnet_of(network):
                        yield Allowed(network if direction == "ingress" else here, protocol, (known, known))
        else:
            ports = () if number is None else (number, port.get("endPort") or number)
            yield from (Allowed(network, protocol, ports) for network in networks)


def _networks(
    peers: Sequence[Object] | None, space: str, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[IPv4Network]:
    """The addresses of a rule's peers; a rule without peers means everybody."""
    if not peers:
        yield ANYWHERE
    for peer in peers or ():
        if "ipBlock" in peer:
            yield from _block(peer["ipBlock"])
            continue
        for pod in pods:
            near = pod.namespace == space
            if "namespaceSelector" in peer:
                near = _matches(peer["namespaceSelector"], namespaces.get(pod.namespace, {}))
            if near and _matches(peer.get("podSelector"), pod.labels):
                yield IPv4Network(pod.address)


def _block(block: Object) -> list[IPv4Network]:
    """The networks that an ipBlock is without its exceptions; none for IPv6, which the lab's pods do not have."""
    whole = ip_network(block["cidr"], strict=False)
    if not isinstance(whole, IPv4Network):
        return []
    left = [whole]
    for text in block.get("except") or ():
        out = IPv4Network(text, strict=False)
        parts: list[IPv4Network] = []
        for one in left:
            if one.subnet_of(out):
                continue
            parts += one.address_exclude(out) if out.subnet_of(one) else [one]
        left = parts
    return left


# --- text of iptables ----------------------------------------------------------------------------------------------


def _chain(isolation: Isolation) -> str:
    return f"{_CHAINS[isolation.direction]}-{int(isolation.address):08X}"


def rules(isolated: Sequence[Isolation]) -> dict[str, list[str]]:
    """Return every chain with its rules, as iptables writes them; `MAIN` is the first."""
    main = ["-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"]
    chains = {MAIN: main}
    for one in isolated:
        own, peer = ("-s", "-d") if one.direction == "egress" else ("-d", "-s")
        main.append(f"{own} {one.address}/32 -j {_chain(one)}")
        chains[_chain(one)] = [
            f"{peer} {one.address}/32 -j RETURN",
            *(f"{peer} {allowed.network}{_match(allowed)} -j RETURN" for allowed in one.allowed),
            "-j DROP",
        ]
    return chains


def _match(allowed: Allowed) -> str:
    if not allowed.protocol:
        return ""
    ports = f" -m {allowed.protocol} --dport {':'.join(map(str, allowed.ports))}" if allowed.ports else ""
    return f" -p {allowed.protocol}{ports}"


def restoration(chains: Mapping[str, Sequence[str]], existing: Iterable[str]) -> str:
    """Return what iptables-restore must read so that these chains are there, in one step, and no other of ours.

    Args:
        chains: what `rules` returns.
        existing: names of the chains that are there now.
    """
    # The table `mangle` is asked before `filter`, where kube-proxy accepts packets of services.
    lines = ["*mangle"]
    gone = [name for name in existing if name not in chains and name.startswith(tuple(_CHAINS.values()))]
    lines += [f":{name} - [0:0]" for name in (*chains, *gone)]
    lines += [f"-A {name} {rule}" for name, those in chains.items() for rule in those]
    lines += [f"-X {name}" for name in gone]
    return "\n".join([*lines, "COMMIT", ""])
