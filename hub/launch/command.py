"""`armillary run` and `armillary clean`: read the command line, run, and say everything a person needs to know."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hub.launch import plan, state
from hub.launch.accounts import ACCOUNTS
from hub.launch.launcher import SESSION_GRACE_S, Launcher
from hub.launch.ownership import AlreadyRuns, Children, RunLock
from hub.launch.plan import Plan, Wishes
from hub.launch.problem import Problem, of_oserror
from hub.settings import Settings, SettingsError
from spawner.processes.ending import end_all
from spawner.processes.isolation import detect

PORT_VARIABLE = "ARMILLARY_LAUNCH_PORT"
PROVIDER_PORT_VARIABLE = "ARMILLARY_LAUNCH_PROVIDER_PORT"


def say(text: str) -> None:
    """Print one message at once; a terminal that has gone away must not stop us from ending things properly."""
    with contextlib.suppress(OSError, ValueError):
        print(f"armillary: {text}", flush=True)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the launcher's command line (`run …`, `clean …`); returns the exit status."""
    arguments = _parser().parse_args(argv)
    where = arguments.state or Path(environ.get("ARMILLARY_STATE_DIR", ".armillary"))
    os.umask(0o077)
    try:
        if not sys.platform.startswith("linux"):
            raise Problem(f"this runs on Linux only, not on {sys.platform}: sessions are kept apart by its means")
        return int(arguments.do(arguments, environ))
    except Problem as problem:
        return _fail(str(problem))
    except SettingsError as error:
        return _fail(f"the settings cannot be used:\n{error}")
    except AlreadyRuns as other:
        return _fail(
            f"already runs at {other.address} (process {other.pid}; Ctrl-C there, or `kill {other.pid}`, stops it)"
            if other.address
            else "is just being started by another command; wait a moment"
        )
    except OSError as error:
        return _fail(str(of_oserror(error, state=where)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="armillary", description="Run Armillary on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="start the proxy, the hub and, unless there is one, an OpenID provider")
    run.set_defaults(do=_run)
    run.add_argument(
        "--port", type=_port, help=f"the site's port (default 8000, or as in the settings; also ${PORT_VARIABLE})"
    )
    run.add_argument(
        "--provider-port", type=_port, help=f"the demonstration provider's port (also ${PROVIDER_PORT_VARIABLE})"
    )
    run.add_argument(
        "--config", type=Path, metavar="FILE", help="the hub's configuration (default jupyterhub_config.py)"
    )
    clean = commands.add_parser("clean", help="remove everything that `run` keeps: homes, accounts, secrets, logs")
    clean.set_defaults(do=_clean)
    clean.add_argument("--yes", action="store_true", help="do not ask")
    for command in (run, clean):
        command.add_argument("--state", type=Path, metavar="DIR", help="the state folder (default .armillary)")
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")


def _from_variable(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        return _port(text)
    except argparse.ArgumentTypeError as error:
        raise Problem(f"{name}: {error}") from None


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    wishes = Wishes(
        state=arguments.state,
        port=arguments.port or _from_variable(environ, PORT_VARIABLE),
        provider_port=arguments.provider_port or _from_variable(environ, PROVIDER_PORT_VARIABLE),
        config=arguments.config,
    )
    loaded, overrides = plan.read_settings(wishes, environ)
    paths = loaded.settings.paths
    state.prepare(paths)
    lock = RunLock(paths.root / "run.lock")
    try:
        children = Children(paths.root / "processes")
        for child in children.end_survivors(grace_s=5.0):
            say(f"ended the {child.name} that a killed launcher had left (process {child.process.pid})")
        made = plan.make(wishes, environ, loaded, overrides)
        made.proxy.write()
        _upgrade(made.settings)
        lock.announce(made.address)
        say(f"starting proxy, hub, service{' and OpenID provider' if made.provider else ''}; this takes some seconds")
        return asyncio.run(Launcher(made, children, environ, say, lambda seconds: welcome(made, seconds)).run())
    finally:
        lock.release()


def _upgrade(settings: Settings) -> None:
    """Bring Armillary's database up to date before anything uses it; says what that changed."""
    # Late: `clean` and a second start need none of it.
    from hub.db.address import AddressError
    from hub.db.installation import bring_up_to_date
    from hub.db.upgrade import UpgradeError
    from hub.uids import UidError

    try:
        database, said = bring_up_to_date(settings)
    except (AddressError, UpgradeError, UidError, OSError) as error:
        raise Problem(f"Armillary's database cannot be used: {error}") from None
    database.dispose()
    if len(said) > 1:  # a single one says that there was nothing to do, or that all is new
        for sentence in said:
            say(sentence)


def welcome(made: Plan, seconds: float) -> None:
    """Say that everything works: address, accounts, how people are kept apart, where data lies, how to stop."""
    paths = made.settings.paths
    lines = [f"ready after {seconds:.1f} s at {made.address}", ""]
    if made.provider is not None:
        lines.append(f"  {'account':<16}{'password':<26}groups")
        lines += [
            f"  {account.name:<16}{made.provider.passwords[account.name]:<26}{', '.join(account.groups)}"
            for account in ACCOUNTS
        ]
        lines.append(f"\n  {'Provider':<12}{made.provider.issuer} (a demonstration, for this machine only)")
    lines.append(f"  {'Data':<12}{made.settings.state_dir} (homes in {made.settings.local.homes or paths.homes})")
    lines.append(f"  {'Logs':<12}{paths.logs}")
    if made.settings.engine == "local":
        lines.append(f"  {'Isolation':<12}{_isolation(made)}")
    lines.append(f"  {'Stop':<12}Ctrl-C ends everything, people's sessions too; homes and accounts stay")
    say("\n".join(lines))


def _isolation(made: Plan) -> str:
    chosen = made.settings.local.isolation
    if chosen == "shared":
        return "All users share one Unix account (local.isolation: shared)."
    return detect().describe()


def _clean(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    loaded, _ = plan.read_settings(Wishes(state=arguments.state), environ)
    paths = loaded.settings.paths
    if not (paths.root / state.MARK).exists():
        say(f"nothing to remove: there is no state in {paths.root}")
        return 0
    lock = RunLock(paths.root / "run.lock")
    try:
        homes = sorted(entry.name for entry in paths.homes.iterdir()) if paths.homes.is_dir() else []
        what = f"{paths.root}, with {len(homes)} home{'' if len(homes) == 1 else 's'}, accounts, secrets and logs"
        if not arguments.yes and not _agreed(what):
            return 1
        Children(paths.root / "processes").end_survivors(grace_s=5.0)
        asyncio.run(end_all(paths.launches, SESSION_GRACE_S))
        state.remove(paths.root)
        say(f"removed {what}")
        return 0
    finally:
        lock.release()


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise Problem(f"this would remove {what}; say --yes if that is meant")
    try:
        answer = input(f"armillary: remove {what}? Type yes: ")
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer.strip().lower() != "yes":
        say("nothing was removed")
        return False
    return True


def _fail(text: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        print(f"armillary: {text}", file=sys.stderr, flush=True)
    return 1
