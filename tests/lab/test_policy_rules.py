"""Rules mean what the policies say: compared, packet by packet, with the sentences of Kubernetes' documentation."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.lab import policy_rules
from tests.lab.policy_rules import Pod, isolations, read_pods, restoration, rules

SPACES = {"a": {"kubernetes.io/metadata.name": "a", "team": "x"}, "b": {"kubernetes.io/metadata.name": "b"}}
NODE, FAR = "10.88.0.1", "192.0.2.7"


# --- the model -----------------------------------------------------------------------------------------------------


def chosen(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if key not in labels or labels[key] != value:
            return False
    for one in selector.get("matchExpressions", []):
        there = one["key"] in labels
        inside = there and labels[one["key"]] in one.get("values", [])
        if {"In": not inside, "NotIn": inside, "Exists": not there, "DoesNotExist": there}[one["operator"]]:
            return False
    return True


def is_peer(peer: dict[str, Any], policy: dict[str, Any], address: str, pods: dict[str, Pod]) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if ":" in block["cidr"] or ip_address(address) not in ip_network(block["cidr"]):
            return False
        return not any(ip_address(address) in ip_network(out) for out in block.get("except", []))
    if address not in pods:
        return False
    pod = pods[address]
    if "namespaceSelector" in peer:
        if not chosen(peer["namespaceSelector"], SPACES[pod.namespace]):
            return False
    elif pod.namespace != policy["metadata"]["namespace"]:
        return False
    return chosen(peer.get("podSelector", {}), dict(pod.labels))


def is_port(entry: dict[str, Any], target: str, protocol: str, number: int, pods: dict[str, Pod]) -> bool:
    if entry.get("protocol", "TCP").lower() != protocol:
        return False
    wanted = entry.get("port")
    if isinstance(wanted, str):
        return target in pods and pods[target].ports.get((protocol, wanted)) == number
    return wanted is None or wanted <= number <= entry.get("endPort", wanted)


def may(policies: list[dict[str, Any]], pods: dict[str, Pod], packet: tuple[str, str, str, int]) -> bool:
    """A connection is there if neither end, where it is isolated, is without a rule that allows it."""
    source, target, protocol, number = packet
    if source == target:
        return True
    for end, other, key, direction in ((source, target, "to", "egress"), (target, source, "from", "ingress")):
        if end not in pods:
            continue
        own = [
            policy
            for policy in policies
            if policy["metadata"]["namespace"] == pods[end].namespace
            and chosen(policy["spec"]["podSelector"], dict(pods[end].labels))
            and direction.capitalize() in policy["spec"]["policyTypes"]
        ]
        if own and not any(
            (not rule.get(key) or any(is_peer(peer, policy, other, pods) for peer in rule[key]))
            and (not rule.get("ports") or any(is_port(port, target, protocol, number, pods) for port in rule["ports"]))
            for policy in own
            for rule in policy["spec"].get(direction, [])
        ):
            return False
    return True


# --- what iptables does with the rules -----------------------------------------------------------------------------


def passes(chains: dict[str, list[str]], packet: tuple[str, str, str, int]) -> bool:
    """Whether the first packet of a connection comes through; refuses words of iptables that it does not know."""
    source, target, protocol, number = packet

    def walk(name: str) -> bool:
        for rule in chains[name]:
            words, matched, jump = shlex.split(rule), True, ""
            while words:
                word, value = words.pop(0), words.pop(0)
                if word == "-m":
                    assert value in ("conntrack", "tcp", "udp", "sctp")
                elif word == "--ctstate":
                    matched = False  # of a new connection
                elif word in ("-s", "-d"):
                    matched &= IPv4Address(source if word == "-s" else target) in IPv4Network(value)
                elif word == "-p":
                    matched &= value == protocol
                elif word == "--dport":
                    first, last = map(int, value.split(":"))
                    matched &= first <= number <= last
                else:
                    assert word == "-j", word
                    jump = value
            if not matched:
                continue
            if jump in ("RETURN", "DROP"):
                return jump == "RETURN"
            if not walk(jump):
                return False
        return True

    return walk(policy_rules.MAIN)


# --- worlds --------------------------------------------------------------------------------------------------------

names, values = st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"])
labels = st.dictionaries(names, values, max_size=2)
expressions = st.builds(
    lambda key, operator, some: {
        "key": key,
        "operator": operator,
        **({"values": some} if operator in ("In", "NotIn") else {}),
    },
    st.sampled_from(["app", "tier", "team"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.lists(values, min_size=1, max_size=2, unique=True),
)
selectors = st.one_of(
    st.just({}),
    labels.map(lambda some: {"matchLabels": some}),
    st.lists(expressions, max_size=2).map(lambda some: {"matchExpressions": some}),
)
spaces = st.one_of(st.just({}), st.sampled_from(["a", "b"]).map(lambda s: {"matchLabels": {"kubernetes.io/metadata.name": s}}),
                   expressions.map(lambda one: {"matchExpressions": [one]}))  # fmt: skip
blocks = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]},
        {"cidr": "10.88.0.0/16", "except": ["10.88.1.2/31"]},
        {"cidr": "10.88.1.0/30"},
        {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/29", "192.0.2.6/32"]},
        {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/24"]},
        {"cidr": "::/0", "except": ["fc00::/7"]},
    ]
)
peers = st.one_of(
    blocks.map(lambda block: {"ipBlock": block}),
    selectors.map(lambda one: {"podSelector": one}),
    spaces.map(lambda one: {"namespaceSelector": one}),
    st.tuples(spaces, selectors).map(lambda both: {"namespaceSelector": both[0], "podSelector": both[1]}),
)
ports = st.one_of(
    st.just({"protocol": "UDP"}),
    st.sampled_from([80, 81, 8080]).map(lambda number: {"port": number}),
    st.just({"port": "http", "protocol": "TCP"}),
    st.just({"port": "http", "protocol": "UDP"}),
    st.just({"port": 80, "endPort": 81, "protocol": "SCTP"}),
    st.just({"port": 79, "endPort": 8080}),
)


def policy(space: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"namespace": space, "name": "p"}, "spec": spec}


@st.composite
def some_policies(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"podSelector": draw(selectors)}
    spec["policyTypes"] = draw(st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]))
    for direction, key in (("ingress", "from"), ("egress", "to")):
        if direction.capitalize() in spec["policyTypes"]:
            rule = st.fixed_dictionaries(
                {}, optional={key: st.lists(peers, max_size=2), "ports": st.lists(ports, max_size=2)}
            )
            spec[direction] = draw(st.lists(rule, max_size=2))
    return policy(draw(st.sampled_from(["a", "b"])), spec)


some_pods = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        labels,
        st.dictionaries(st.just(("tcp", "http")), st.sampled_from([80, 8080]), max_size=1),
    ),
    min_size=1,
    max_size=4,
).map(lambda some: [Pod(space, IPv4Address(f"10.88.1.{n}"), own, named) for n, (space, own, named) in enumerate(some)])


# Worlds are large, and other tests run at the same time.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(some_policies(), max_size=4), some_pods)
@example([policy("a", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})], [Pod("a", IPv4Address("10.88.1.0"))])
def test_a_packet_passes_exactly_when_the_policies_allow_the_connection(
    policies: list[dict[str, Any]], pods: list[Pod]
) -> None:
    chains = rules(isolations(policies, pods, SPACES))
    known = {str(pod.address): pod for pod in pods}
    for source in (*known, FAR):
        for target in (*known, NODE, FAR):
            for protocol, number in (("tcp", 80), ("tcp", 81), ("tcp", 8080), ("tcp", 9), ("udp", 80), ("sctp", 81)):
                packet = (source, target, protocol, number)
                assert passes(chains, packet) == may(policies, known, packet), packet


# --- sentences of their own ----------------------------------------------------------------------------------------

ONE, TWO = Pod("a", IPv4Address("10.88.1.1"), {"app": "x"}), Pod("a", IPv4Address("10.88.1.2"))


def through(policies: list[dict[str, Any]], source: str, target: str, port: int = 80) -> bool:
    return passes(rules(isolations(policies, [ONE, TWO], SPACES)), (source, target, "tcp", port))


def test_without_a_policy_everything_passes() -> None:
    assert rules(isolations([], [ONE, TWO], SPACES)) == {
        policy_rules.MAIN: ["-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"]
    }


def test_a_policy_without_rules_isolates_the_chosen_in_its_directions_only() -> None:
    deny = [policy("a", {"podSelector": {"matchLabels": {"app": "x"}}})]  # without policyTypes: Ingress
    assert not through(deny, "10.88.1.2", "10.88.1.1")
    assert not through(deny, FAR, "10.88.1.1")
    assert through(deny, "10.88.1.1", "10.88.1.2")
    assert through(deny, "10.88.1.1", "10.88.1.1")
    silent = [policy("a", {"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"]})]
    assert not through(silent, "10.88.1.1", NODE)
    assert through(silent, "10.88.1.2", "10.88.1.1")


def test_policies_add_up() -> None:
    allow = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]}
    both = [policy("a", {"podSelector": {}, "policyTypes": ["Ingress"]}), policy("a", allow)]
    assert through(both, FAR, "10.88.1.1", 80)
    assert not through(both, FAR, "10.88.1.1", 81)


def test_a_named_port_is_that_of_each_pod_that_the_rule_chooses() -> None:
    own = {
        number: Pod("a", IPv4Address(f"10.88.1.{number}"), {"n": str(number)}, {("tcp", "http"): number})
        for number in (7, 8)
    }
    rule = {"to": [{"podSelector": {"matchLabels": {"n": "7"}}}], "ports": [{"port": "http"}]}
    spec = {"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"], "egress": [rule]}
    chains = rules(isolations([policy("a", spec)], [ONE, *own.values()], SPACES))
    reached = {
        (pod, port) for pod in own for port in own if passes(chains, ("10.88.1.1", f"10.88.1.{pod}", "tcp", port))
    }
    assert reached == {(7, 7)}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param({}, True, id="running"),
        pytest.param({"phase": "Succeeded"}, False, id="ended, its address may be another's"),
        pytest.param({"podIP": "10.0.0.7"}, False, id="of a simulated node"),
        pytest.param({"podIP": None}, False, id="not started"),
    ],
)
def test_pods_that_have_an_address_here(change: dict[str, Any], found: bool) -> None:
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]}
    one: dict[str, Any] = {
        "metadata": {"namespace": "a", "name": "p"},
        "spec": {"containers": [container]},
        "status": {"podIP": "10.88.1.9", "phase": "Running", **change},
    }
    expected = [Pod("a", IPv4Address("10.88.1.9"), {}, {("tcp", "http"): 80})] if found else []
    assert read_pods([one], IPv4Network("10.88.0.0/16")) == expected
    one["spec"]["hostNetwork"] = True
    assert read_pods([one], IPv4Network("10.88.0.0/16")) == []


def test_chains_that_are_not_needed_any_more_go_in_the_same_step() -> None:
    text = restoration(
        {"ARMILLARY-LAB-P": ["-j X"]}, ["ARMILLARY-LAB-P", "ARMILLARY-LAB-E-0A580101", "KUBE-X", "INPUT"]
    )
    assert text.splitlines() == [
        "*mangle",
        ":ARMILLARY-LAB-P - [0:0]",
        ":ARMILLARY-LAB-E-0A580101 - [0:0]",
        "-A ARMILLARY-LAB-P -j X",
        "-X ARMILLARY-LAB-E-0A580101",
        "COMMIT",
    ]
