"""Wait until a DaemonSet that brings images runs on every node that it is for; the chart's hook of that name.

python -m hub.pulled NAMESPACE NAME --within SECONDS
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from hub.cluster_api import ApiProblem, Away, ClusterApi, Json, connect

__all__ = ["main", "missing", "wait"]

_EVERY_S = 2.0


def missing(said: Json) -> str:
    """Return what a DaemonSet is waited for, in words; empty: nothing any more."""
    status = said.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(said["metadata"]["generation"]):
        return "the cluster has not looked at it yet"
    there, wanted = int(status.get("numberReady") or 0), int(status.get("desiredNumberScheduled") or 0)
    return "" if there >= wanted else f"the images are on {there} of {wanted} nodes"


def wait(
    cluster: ClusterApi,
    namespace: str,
    name: str,
    within_s: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Return whether all images were there in time; says how it stands whenever that changes.

    Raises
    ------
    ApiProblem
        The API server refuses what is asked; that it does not answer is waited out.
    """
    deadline, told = now() + within_s, ""
    while True:
        try:
            found = missing(cluster.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"))
        except Away as problem:
            found = str(problem)
        if not found:
            say("the images are on every node")
            return True
        if found != told:
            say(found)
            told = found
        if now() >= deadline:
            say(f"given up after {within_s:g} s; see: kubectl get pods -n {namespace} -o wide")
            return False
        sleep(_EVERY_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hub.pulled", description=__doc__.partition("\n")[0])
    parser.add_argument("namespace", metavar="NAMESPACE")
    parser.add_argument("name", metavar="NAME", help="of the DaemonSet")
    parser.add_argument("--within", type=float, metavar="SECONDS", required=True, help="how long at most")
    given = parser.parse_args(arguments)
    try:
        cluster = connect(None, None, os.environ)
        there = wait(cluster, given.namespace, given.name, given.within, lambda text: print(text, flush=True))
    except ApiProblem as problem:
        print(problem)
        return 1
    return 0 if there else 1


if __name__ == "__main__":
    sys.exit(main())
