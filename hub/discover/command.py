"""The command `armillary discover`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from hub.cluster_api import ApiProblem, ClusterApi, Forbidden, Json, NotFound, connect
from hub.discover.finding import Inventory

__all__ = ["add"]

# As the shipped catalogue names it: what the lab builds.
_IMAGE = "localhost/armillary/base:0.2.0"

_EPILOG = "What is printed goes into a catalogue in the place of its section `accelerators`; read its comments first."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `discover cluster` and `discover local`."""
    parser = commands.add_parser(
        "discover", help="print what accelerators there are, ready for a catalogue", epilog=_EPILOG
    )
    where = parser.add_subparsers(required=True, metavar="WHERE")
    cluster = where.add_parser("cluster", help="of a Kubernetes cluster: device plugins, labels, DRA", epilog=_EPILOG)
    cluster.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, or this pod's account"
    )
    cluster.add_argument("--context", metavar="NAME", help="a context of the kubeconfig; default: its current one")
    local = where.add_parser("local", help="of this machine: NVIDIA cards and their MIG instances", epilog=_EPILOG)
    for one, do in ((cluster, _cluster), (local, _local)):
        one.add_argument("--complete", action="store_true", help="print a whole catalogue, with an image and a profile")
        one.set_defaults(do=do)


def _cluster(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        found = _look(connect(arguments.kubeconfig, arguments.context, environ))
    except ApiProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    _show(found, complete=arguments.complete)
    return 0


def _local(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.discover.local import findings_of_cards
    from spawner.devices.nvml import NvmlAway
    from spawner.devices.reader import Reader

    try:
        seen = Reader().look()
    except NvmlAway as problem:
        print(problem, file=sys.stderr)
        return 1
    findings, remarks = findings_of_cards(seen)
    count = f"{len(seen.cards)} NVIDIA card{'' if len(seen.cards) == 1 else 's'}"
    _show(Inventory(f"{count} of this machine", findings, remarks), complete=arguments.complete)
    return 0


def _look(api: ClusterApi) -> Inventory:
    """All that a cluster has. What the credentials may not see of it is said, as long as they see its nodes."""
    from hub.discover.cluster import findings_of_nodes, runtime_class_of
    from hub.discover.dra import devices_of, findings_of_devices
    from hub.discover.nodes import read_node

    nodes = [read_node(node) for node in api.items("/api/v1/nodes")]
    missing: list[str] = []
    runtime_classes = _list(api, "/apis/node.k8s.io/v1/runtimeclasses", missing)
    slices = _list(api, "/apis/resource.k8s.io/v1/resourceslices", missing)
    classes = _list(api, "/apis/resource.k8s.io/v1/deviceclasses", missing)
    plugins, left_out = findings_of_nodes(nodes, runtime_class_of(runtime_classes))
    devices, unreachable = findings_of_devices(devices_of(slices), classes)
    source = f"{api.name}, {len(nodes)} node{'' if len(nodes) == 1 else 's'}"
    return Inventory(source, plugins + devices, (*left_out, *unreachable, *missing))


def _list(api: ClusterApi, path: str, missing: list[str]) -> list[Json]:
    """The objects of a kind that this cluster may lack, or that may be out of sight."""
    try:
        return list(api.items(path))
    except NotFound:
        return []
    except Forbidden as problem:
        missing.append(str(problem))
        return []


def _show(found: Inventory, *, complete: bool) -> None:
    from hub.discover.render import catalogue, section

    print(catalogue(found, _IMAGE) if complete else section(found), end="")
