"""`armillary import z2jh`: values of Zero to JupyterHub become values of our chart."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.z2jh.values import Turned

__all__ = ["add"]

_HEADS = {
    "there": "Carried over",
    "done": "Nothing to do",
    "missing": "No counterpart: look at these",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `import`."""
    parser = commands.add_parser("import", help="take over the configuration of another distribution")
    kinds = parser.add_subparsers(required=True, metavar="FROM", help="z2jh")
    text = "turn values of the chart Zero to JupyterHub into values of this chart, and say of each what became of it"
    z2jh = kinds.add_parser("z2jh", help=text, description=text)
    z2jh.set_defaults(do=_z2jh)
    z2jh.add_argument("values", type=Path, metavar="VALUES", help="their values.yaml")
    z2jh.add_argument("--output", type=Path, metavar="FILE", help="write ours there; default: standard output")
    z2jh.add_argument(
        "--namespace",
        type=_namespace,
        help="look at the homes there, too: which of them our hub finds by their names",
    )
    z2jh.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")
    z2jh.add_argument("--context", help="a context of that file; default: its current one")


def _namespace(text: str) -> str:
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a namespace")
    return text


def _z2jh(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import yaml

    from hub.z2jh.rules import Unusable
    from hub.z2jh.values import turn

    try:
        theirs = yaml.safe_load(arguments.values.read_text(encoding="utf-8"))
        turned = turn({} if theirs is None else theirs)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, Unusable) as error:
        print(f"{arguments.values} cannot be used: {error}", file=sys.stderr)
        return 1
    text = (
        "# From "
        + arguments.values.name
        + " by `armillary import z2jh`.\n"
        + yaml.safe_dump(turned.values, sort_keys=False, allow_unicode=True)
    )
    if arguments.output is None:
        print(text, end="")
    else:
        try:
            arguments.output.write_text(text, encoding="utf-8")
        except OSError as error:
            print(f"{arguments.output} cannot be written: {error.strerror or error}", file=sys.stderr)
            return 1
    print(_report(turned), file=sys.stderr)
    if arguments.namespace:
        return _homes(arguments, theirs or {}, environ)
    return 0


def _report(turned: Turned) -> str:
    parts = []
    for kind, head in _HEADS.items():
        lines = [line for line in turned.lines if line.kind == kind]
        if lines:
            parts.append(f"{head}:")
            for line in lines:
                to = f" → {line.to}" if line.to else ""
                parts.append(f"  {line.name}{to}{f': {line.why}' if line.why else ''}")
    return "\n".join(parts)


def _homes(arguments: argparse.Namespace, theirs: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    from hub.cluster_api import ApiProblem, connect
    from hub.z2jh.claims import Claim, homes

    storage = ((theirs.get("singleuser") or {}).get("storage") or {}).get("dynamic") or {}
    template = storage.get("pvcNameTemplate") or "claim-{username}"
    try:
        cluster = connect(arguments.kubeconfig, arguments.context, environ)
        found = [*cluster.items(f"/api/v1/namespaces/{arguments.namespace}/persistentvolumeclaims")]
    except ApiProblem as error:
        print(f"The homes cannot be looked at: {error}", file=sys.stderr)
        return 1
    heads = [one["metadata"] for one in found]
    claims = [Claim(one["name"], one.get("annotations") or {}, one.get("labels") or {}) for one in heads]
    known = homes(claims, template)
    lost = [home for home in known if not home.scheme]
    print(
        f"Homes in {arguments.namespace}: {len(known)}, of which our hub finds {len(known) - len(lost)}",
        file=sys.stderr,
    )
    for home in lost:
        whose = home.user or "nobody can tell whose it is"
        print(f"  {home.claim} ({whose}) has a name that the hub will not look for", file=sys.stderr)
    return 0
