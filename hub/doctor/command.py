"""The command `armillary doctor`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.doctor.finding import Finding
    from hub.settings import Settings

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    text = "look at a live installation, and say what is wrong and what to do; changes nothing"
    parser = commands.add_parser("doctor", help=text, description=text)
    parser.set_defaults(do=_doctor)
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
    )
    parser.add_argument(
        "--part",
        choices=("hub", "controller"),
        default="hub",
        help="in whose place to look: with the rights and from the network of the pod that it runs in (default hub)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def _doctor(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.doctor.finding import as_json, as_lines
    from hub.settings import SettingsError, load

    try:
        settings = load(arguments.file, environ)
        settings = load(arguments.file, {**environ, **_of_running_hub(settings)})
    except SettingsError as error:
        print(error)
        return 1
    findings = list(_look(settings, arguments.part, environ))
    if arguments.json:
        print(json.dumps(as_json(findings), indent=1))
    else:
        print("\n".join(as_lines(findings)))
    return 1 if any(one.grade == "problem" for one in findings) else 0


def _of_running_hub(settings: Settings) -> dict[str, str]:
    """Return the settings that `armillary run` has given its hub beside the file: ports, and the demonstration's login.

    Empty where none runs here, or only for others to see.
    """
    try:
        pid = int(json.loads((settings.paths.root / "processes" / "hub.json").read_text(encoding="utf-8"))["pid"])
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    named = (variable.partition("=") for variable in variables)
    return {name: value for name, _, value in named if name.startswith("ARMILLARY_")}


def _look(settings: Settings, part: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    from hub.catalogue import load_catalogue
    from hub.cluster_api import ApiProblem, connect
    from hub.db.address import AddressError, database_url
    from hub.db.engine import connect as open_database
    from hub.doctor import parts
    from hub.doctor.cluster import cluster
    from hub.doctor.database import accelerators, database
    from hub.doctor.finding import problem
    from profiles.loader import CatalogueError

    if part == "hub":  # a controller needs none of these, and where policies are in force reaches none
        yield from parts.names(settings)
        yield from parts.parts(settings)
        yield from parts.login(settings)
    try:
        catalogue = load_catalogue(settings)
        engine = open_database(database_url(settings))
    except CatalogueError as error:
        yield problem("Catalogue", f"it has problems: {error}", "`armillary check` says each of them.")
        return
    except AddressError as error:
        yield problem("Database", str(error), "Correct database.url_file.")
        return
    usable = True
    for one in database(engine):
        usable = usable and not (one.area == "Database" and one.grade == "problem")
        yield one
    if usable:
        yield from accelerators(engine, settings, catalogue)
    engine.dispose()
    if settings.engine == "kubernetes":
        try:
            yield from cluster(connect(None, None, environ), settings, catalogue, part)
        except ApiProblem as trouble:
            yield problem("Cluster", str(trouble), "Run this where the hub runs, with its service account.")
