"""Enforces NetworkPolicies in the lab, as a CNI plugin does elsewhere: `with enforced(cluster): ...`.

Run as a process: `python -m tests.lab.policies KUBECONFIG FILE`. It follows policies, pods and namespaces, writes the
rules of `policy_rules` with iptables whenever they change, and then into FILE, so that a test can wait for them.

It does not run unless somebody asks for it: it costs a process that wakes with every change of a pod, and what tests of
other things need is that nothing comes between them and what they talk to.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from tests.lab import cache, network, node, policy_rules, processes
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError, LabUnavailable

NAME = "policies"
_REPOSITORY = Path(__file__).resolve().parents[2]
_IN_USE = "policies-in-use"
# There when tests have started it, so that the last of them ends it.
_FOR_TESTS = ".policies-for-tests"
_CHAINS = re.compile(r"ARMILLARY-LAB-[PEI]\b")
# Where a packet passes on its way to another pod, beyond this machine, and to this machine.
_HOOKS = ("FORWARD", "INPUT")
# Packets between two pods cross the bridge only; with these iptables sees them.
_BRIDGE_SYSCTLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
# Several changes come together, for instance those of a pod that starts; and how long to wait after a failure.
_GATHER_S, _PAUSE_S = 0.05, 0.5
_ON_THE_NODE = f"spec.nodeName={node.NAME}"

log = logging.getLogger(NAME)


# --- the process ---------------------------------------------------------------------------------------------------


def _chains(policies: list[Any], pods: list[Any], namespaces: list[Any]) -> dict[str, list[str]]:
    known = policy_rules.read_pods(pods, ipaddress.IPv4Network(network.PODS))
    labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces}
    return policy_rules.rules(policy_rules.isolations(policies, known, labels))


def _run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def _hook(program: str) -> None:
    """Leads packets into our chain."""
    for hook in _HOOKS:
        rule = (hook, "-j", policy_rules.MAIN)
        check = [program, "--wait", "-t", "mangle", "-C", *rule]
        if subprocess.run(check, capture_output=True, check=False).returncode:
            _run(program, "--wait", "-t", "mangle", "-I", *rule)


def _apply(chains: dict[str, list[str]]) -> None:
    existing = re.findall(r"^:(\S+)", _run("iptables-save", "-t", "mangle"), flags=re.MULTILINE)
    _run("iptables-restore", "--noflush", "--wait", given=policy_rules.restoration(chains, existing))
    _hook("iptables")


def _close_ipv6() -> None:
    """The cluster has IPv4 only, but pods have link-local addresses, which must be no way around."""
    text = f"*mangle\n:{policy_rules.MAIN} - [0:0]\n-A {policy_rules.MAIN} -i {network.BRIDGE} -j DROP\nCOMMIT\n"
    _run("ip6tables-restore", "--noflush", "--wait", given=text)
    _hook("ip6tables")


def _follow(list_all: Callable[..., Any], changed: threading.Event, **selection: str) -> None:
    """Sets the event now and after every change, for ever; a lost watch is opened again."""
    while True:
        try:
            version = list_all(limit=1, **selection).metadata.resource_version
            changed.set()
            for _ in watch.Watch().stream(list_all, resource_version=version, **selection):
                changed.set()
        except Exception:
            # Whatever it was (the API server restarts, the version is too old), a new list is the cure.
            log.exception("watching again")
            time.sleep(_PAUSE_S)


def main() -> None:
    """Runs until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    kubeconfig, told = sys.argv[1], Path(sys.argv[2])
    config.load_kube_config(kubeconfig)

    def core() -> Any:
        return client.CoreV1Api(client.ApiClient())  # one for each thread: a watch holds its connection

    def rules_of() -> Any:
        return client.NetworkingV1Api(client.ApiClient())

    changed = threading.Event()
    for list_all, selection in (
        (rules_of().list_network_policy_for_all_namespaces, {}),
        (core().list_pod_for_all_namespaces, {"field_selector": _ON_THE_NODE}),
        (core().list_namespace, {}),
    ):
        threading.Thread(target=_follow, args=(list_all, changed), kwargs=selection, daemon=True).start()
    kinds, policies = core(), rules_of()

    def items(list_all: Callable[..., Any], **selection: str) -> list[Any]:
        return list(json.loads(list_all(_preload_content=False, **selection).data)["items"])

    _close_ipv6()
    applied: dict[str, list[str]] | None = None
    while True:
        changed.wait()
        time.sleep(_GATHER_S)
        changed.clear()
        try:
            chains = _chains(
                items(policies.list_network_policy_for_all_namespaces),
                items(kinds.list_pod_for_all_namespaces, field_selector=_ON_THE_NODE),
                items(kinds.list_namespace),
            )
            if chains != applied:
                _apply(chains)
                applied = chains
                log.info("%d chains", len(chains))
            partial = told.with_suffix(".new")
            partial.write_text(json.dumps(chains))
            partial.rename(told)
        except Exception:
            log.exception("trying again")
            time.sleep(_PAUSE_S)
            changed.set()


# --- from outside --------------------------------------------------------------------------------------------------


def _told() -> Path:
    return cache.run_folder() / "policies.json"


def start(cluster: Cluster) -> bool:
    """Starts to enforce, and returns when what there is now is enforced; False when that was so before.

    Raises:
        LabUnavailable: this machine's kernel does not show bridged packets to iptables.
    """
    for name in _BRIDGE_SYSCTLS:
        switch = Path("/proc/sys/net/bridge", name)
        if not switch.exists():
            raise LabUnavailable(f"{switch} is missing: the kernel has no br_netfilter, or it is not loaded")
        switch.write_text("1")
    command = [sys.executable, "-m", "tests.lab.policies", str(cluster.kubeconfig), str(_told())]
    started = processes.start(NAME, command, {"PYTHONPATH": str(_REPOSITORY)})
    settle(cluster)
    return started


def stop() -> None:
    """Ends it and removes its rules."""
    processes.stop(NAME)
    network.remove_chains(_CHAINS)
    _told().unlink(missing_ok=True)


def settle(cluster: Cluster) -> None:
    """Returns when the rules are those of the policies, pods and namespaces that there are now."""

    def items(*words: str) -> list[Any]:
        return list(json.loads(cluster.kubectl("get", *words, "-o", "json"))["items"])

    def settled() -> bool:
        pods = items("pods", "-A", f"--field-selector={_ON_THE_NODE}")
        wanted = _chains(items("networkpolicies", "-A"), pods, items("namespaces"))
        return _told().exists() and json.loads(_told().read_text()) == wanted

    processes.wait_until(settled, "the rules of the policies", NAME)


def keep(cluster: Cluster) -> None:
    """Enforces until the cluster goes down, also when tests have begun it."""
    start(cluster)
    (cache.run_folder() / _FOR_TESTS).unlink(missing_ok=True)


@contextlib.contextmanager
def enforced(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Enforces the cluster's policies while the block runs, for any number of users at once.

    Yields:
        A function that returns when what was changed before is enforced.
    """
    with cache.shared(_IN_USE) as last:
        mark = cache.run_folder() / _FOR_TESTS
        if start(cluster):
            mark.touch()
        try:
            yield lambda: settle(cluster)
        finally:
            if last() and mark.exists():
                mark.unlink()
                stop()


if __name__ == "__main__":
    main()
