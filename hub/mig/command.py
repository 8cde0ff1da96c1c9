"""The command `armillary mig`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub.cluster_api import ApiProblem, ClusterApi, connect
from profiles.syntax import SyntaxProblem, check_label_value

if TYPE_CHECKING:
    from hub.mig.change import Change
    from hub.mig.hub_api import HubAccess
    from hub.mig.plan import Plan

__all__ = ["add"]

_GRACE_S, _TIMEOUT_S, _AWAY_S = 300.0, 900.0, 600.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `mig plan` and `mig apply`."""
    parser = commands.add_parser("mig", help="change how a node's NVIDIA cards are partitioned (MIG)")
    what = parser.add_subparsers(required=True, metavar="WHAT")
    plan = what.add_parser("plan", help="say what a change would mean and who would be stopped; changes nothing")
    apply = what.add_parser("apply", help="change it: cordon, empty the node, set the label, follow, uncordon")
    for one in (plan, apply):
        one.add_argument("node", metavar="NODE", help="name of the node")
        one.add_argument(
            "--layout", required=True, type=_layout, help="name of a layout that the MIG manager knows: all-1g.5gb"
        )
        one.add_argument(
            "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, or this pod's account"
        )
        one.add_argument("--context", metavar="NAME", help="a context of the kubeconfig; default: its current one")
    plan.set_defaults(do=_plan)
    apply.add_argument(
        "--drain", action="store_true", help="stop who has the cards; else nothing is done while they run"
    )
    apply.add_argument(
        "--grace", type=_seconds, default=_GRACE_S, metavar="SECONDS", help="from the warning to the stop; default: 300"
    )
    apply.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT_S, metavar="SECONDS", help="for the MIG manager; default: 900"
    )
    apply.add_argument("--yes", action="store_true", help="do not ask; needed where nobody can answer")
    apply.add_argument("--hub-url", type=_url, metavar="URL", help="stop sessions through this hub, not by their pods")
    apply.add_argument("--hub-token-file", type=Path, metavar="FILE", help="file with a token that may stop servers")
    apply.add_argument("--namespace", metavar="NAME", help="where that hub's sessions run")
    apply.set_defaults(do=_apply)


def _layout(text: str) -> str:
    try:
        return check_label_value(text) or _empty()
    except SyntaxProblem as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _empty() -> str:
    raise argparse.ArgumentTypeError("must not be empty")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 7 * 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, from 0 to a week")
    return seconds


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise argparse.ArgumentTypeError(f"{text!r} is no address of a hub: write one such as https://hub.example.org/")
    return text


def _say(text: str) -> None:
    print(text, flush=True)


def _plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.mig.plan import make_plan
    from hub.mig.view import look

    try:
        view = look(connect(arguments.kubeconfig, arguments.context, environ), arguments.node)
    except ApiProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    plan = make_plan(view, arguments.layout)
    for line in plan.lines():
        _say(line)
    _say("Nothing was changed.")
    return 1 if plan.problems else 0


def _apply(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    wrong = _wrongly_called(arguments)
    if wrong:
        print(wrong, file=sys.stderr)
        return 2
    try:
        return _changed(arguments, connect(arguments.kubeconfig, arguments.context, environ))
    except ApiProblem as problem:
        print(problem, file=sys.stderr)
        return 1


def _wrongly_called(arguments: argparse.Namespace) -> str:
    hub = (arguments.hub_url, arguments.hub_token_file, arguments.namespace)
    if any(hub) and not all(hub):
        return "--hub-url, --hub-token-file and --namespace belong together: give all three or none."
    if not arguments.yes and not sys.stdin.isatty():
        return "Nobody can be asked here; give --yes after reading what `armillary mig plan` says."
    return ""


def _changed(arguments: argparse.Namespace, once: ClusterApi) -> int:
    """Show the plan, ask, and do it."""
    from hub.mig.change import Change
    from hub.mig.holder import Holder
    from hub.mig.hub_api import HubAccess, HubProblem, read_token
    from hub.mig.patience import PatientApi
    from hub.mig.plan import make_plan
    from hub.mig.view import look

    plan = make_plan(look(once, arguments.node), arguments.layout)
    for line in plan.lines():
        _say(line)
    if plan.done:
        return 0
    if plan.problems:
        return 1
    try:
        hub = None
        if arguments.hub_url:
            hub = HubAccess(arguments.hub_url, read_token(arguments.hub_token_file), arguments.namespace)
    except HubProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    if plan.stops and not arguments.drain:
        _say("They run: nothing was changed. Wait for their end, or give --drain to stop them.")
        return 1
    if not _allowed(once, plan, hub) or not (arguments.yes or _agreed(arguments.node)):
        return 1
    api = PatientApi(once, _say, _AWAY_S)
    holder = Holder(api, arguments.node, _say)
    return _run(
        Change(api, plan, holder, _say, arguments.drain, arguments.grace, arguments.timeout, hub),
        lambda: holder.let_go(once),
    )


def _allowed(api: ClusterApi, plan: Plan, hub: HubAccess | None) -> bool:
    """Whether these credentials may do all of it; says what they may not."""
    from hub.mig.rights import missing, to_change, to_drain

    sessions = {one.namespace for one in plan.stops if one.session} - {hub.namespace if hub else ""}
    others = {one.namespace for one in plan.stops if not one.session}
    lacking = missing(api, [*to_change(), *to_drain(sessions, others)])
    for right in lacking:
        _say(f"These credentials lack the right {right}; nothing was changed.")
    return not lacking


def _agreed(node: str) -> bool:
    try:
        said = input(f"Change {node} now? [y/N] ").strip().lower()
    except EOFError:
        said = ""
    if said in ("y", "yes"):
        return True
    _say("Nothing was changed.")
    return False


def _run(change: Change, let_go: Callable[[], None]) -> int:
    """Do it; whatever ends it, the next run need not wait."""
    from hub.mig.change import Failed, Occupied
    from hub.mig.drain import NotDrained
    from hub.mig.holder import Lost, Taken

    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    again = f"The same command goes on where it was ended; {change.node} may be cordoned until then."
    try:
        change.run()
    except Occupied as problem:
        _say(f"Somebody came in between: {problem}. Nothing is done while they run; give --drain to stop them.")
    except (Taken, Lost) as problem:
        _say(str(problem))
    except Failed as problem:
        _say(str(problem))
        let_go()
    except (NotDrained, ApiProblem) as problem:
        _say(f"{problem} {again}")
        let_go()
    except KeyboardInterrupt:
        _say(f"Ended. {again}")
        let_go()
    else:
        return 0
    return 1


def _interrupt() -> None:
    raise KeyboardInterrupt
