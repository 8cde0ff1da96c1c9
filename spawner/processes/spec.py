"""From a request to a process: pure functions, values in and values out."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from jupyterhub.traitlets import ByteSpecification

from profiles.apps import app_path
from profiles.model import Catalogue, LocalImage
from profiles.quantities import parse_quantity
from spawner import overrides
from spawner.devices.environment import device_environment
from spawner.processes.homes import directory_name
from spawner.processes.identity import SPAWN_ID
from spawner.processes.ports import ADDRESS
from spawner.request import Request

__all__ = ["Defaults", "Place", "ProcessSpec", "process_limits", "process_spec", "program_path", "search_path"]

_PATH = "/usr/local/bin:/usr/bin:/bin"
_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Place:
    """Where a session runs and for whom."""

    spawn_id: str
    user: str
    server: str
    home: Path
    port: int
    base_url: str
    devices: tuple[str, ...] = ()
    """Uuids of the accelerators that it was given."""


@dataclass(frozen=True)
class ProcessSpec:
    """Everything about the process that a request asks for; `cpu` in cores, `memory` in bytes."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    cpu: Decimal | None
    memory: int | None


@dataclass(frozen=True)
class Defaults:
    """What the deployer has set for requests that say nothing else; `hub_environment` is `Spawner.get_env()`."""

    command: tuple[str, ...]
    hub_environment: Mapping[str, Any]
    arguments: tuple[str, ...] = ()
    cpu: float | None = None
    memory: int | None = None
    shell: str = "/bin/bash"


def process_spec(request: Request, catalogue: Catalogue, place: Place, defaults: Defaults) -> ProcessSpec:
    """Return the process that this request asks for.

    An image's own command takes the place of the deployer's; a request's limits come before those of an override
    (`cpu_limit`, `mem_limit`), and these before the deployer's.
    """
    image = catalogue.images[request.image] if request.image is not None else None
    local = image.local if image is not None else None
    override = overrides.overrides(request, catalogue)
    arguments = tuple(str(argument) for argument in override.get("args", defaults.arguments))
    argv = (*((local.command if local else ()) or defaults.command), *arguments)
    cores, size = process_limits(request, catalogue, defaults)

    fields = _fields(place)
    environment = _account(place, argv[0], defaults.shell)
    environment |= dict(local.environment) if local else {}
    environment |= _texts(defaults.hub_environment)
    accelerator = catalogue.accelerators[request.accelerator] if request.accelerator is not None else None
    environment |= accelerator.environment if accelerator is not None else {}
    hubs_own = {name for name in defaults.hub_environment if name.startswith("JUPYTERHUB_")}
    asked = overrides.environment(request, catalogue)
    asked |= {name: _expand(value, fields) for name, value in _texts(override.get("environment") or {}).items()}
    environment |= {name: value for name, value in asked.items() if name not in hubs_own}
    environment |= _limits(cores, size, environment) | _switches(override)
    default_url = override.get("default_url") or (image.default_url if image is not None else None)
    if default_url:
        environment["JUPYTERHUB_DEFAULT_URL"] = _expand(str(default_url), fields)
    if request.app is not None:
        environment["JUPYTERHUB_DEFAULT_URL"] = app_path(request.app)
    environment["JUPYTERHUB_SERVICE_URL"] = f"http://{ADDRESS}:{place.port}{place.base_url}"
    environment[SPAWN_ID] = place.spawn_id
    environment |= device_environment(request.accelerator, place.devices)
    return ProcessSpec(argv, environment, place.home, cores, size)


def process_limits(request: Request, catalogue: Catalogue, defaults: Defaults) -> tuple[Decimal | None, int | None]:
    """Return how much cpu (cores) and memory (bytes) the session gets; None: no limit."""
    override = overrides.overrides(request, catalogue)
    cores: Decimal | None = _first(request.cpu, _cores(override.get("cpu_limit")), _cores(defaults.cpu))
    size: int | None = _first(request.memory, _size(override.get("mem_limit")), defaults.memory)
    return cores, size


def _switches(override: Mapping[str, Any]) -> dict[str, str]:
    """Return variables for the other keys that mean the same on both engines (`profiles.overrides.LOCAL_KEYS`)."""
    told = {}
    if override.get("debug"):
        told["JUPYTERHUB_DEBUG"] = "1"
    if override.get("disable_user_config"):
        told["JUPYTERHUB_DISABLE_USER_CONFIG"] = "1"
    if override.get("cpu_guarantee"):
        told["CPU_GUARANTEE"] = str(override["cpu_guarantee"])
    if override.get("mem_guarantee"):
        told["MEM_GUARANTEE"] = str(_size(override["mem_guarantee"]))
    return told


def program_path(program: str) -> str:
    """Return where sessions that this program starts look for others (`PATH`): beside it first."""
    beside = str(Path(program).parent) if program.startswith("/") else ""
    return f"{beside}:{_PATH}" if beside and beside not in _PATH.split(":") else _PATH


def search_path(image: LocalImage) -> str:
    """Return where sessions of an image look for programs."""
    return image.environment.get("PATH") or program_path(image.command[0] if image.command else sys.executable)


class _Fields(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"


def _fields(place: Place) -> _Fields:
    """Return what `{username}` and the like mean, as KubeSpawner has it; braces that a user typed come doubled."""
    return _Fields(
        username=directory_name(place.user),
        unescaped_username=place.user,
        servername=directory_name(place.server),
        unescaped_servername=place.server,
        base_url=place.base_url,
    )


def _expand(text: str, fields: _Fields) -> str:
    try:
        return text.format_map(fields)
    except (ValueError, AttributeError, IndexError, KeyError):  # a lone brace is meant as it stands
        return text


def _account(place: Place, program: str, shell: str) -> dict[str, str]:
    """Return what a login would set; nothing comes from the hub's own environment."""
    return {
        "PATH": program_path(program),
        "HOME": str(place.home),
        "USER": place.user,
        "LOGNAME": place.user,
        "SHELL": shell,
        "LANG": "C.UTF-8",
    }


def _limits(cpu: Decimal | None, memory: int | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Tell programs their limits, under JupyterHub's names.

    Numerical libraries start one thread per core of the machine, not of the limit, and then hold each other up;
    they all read OMP_NUM_THREADS.
    """
    told = {}
    if cpu is not None:
        told["CPU_LIMIT"] = str(float(cpu))
        if _THREADS not in environment:
            told[_THREADS] = str(max(1, math.ceil(cpu)))
    if memory is not None:
        told["MEM_LIMIT"] = str(memory)
    return told


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items() if value is not None}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _cores(value: Any) -> Decimal | None:
    return None if value in (None, "", 0) else parse_quantity(value)


def _size(value: Any) -> int | None:
    """Read a size in JupyterHub's notation, where "2G" is 2 GiB, or in Kubernetes' ("2Gi")."""
    if value in (None, "", 0):
        return None
    if isinstance(value, str) and value.endswith("i"):
        return int(parse_quantity(value))
    return int(ByteSpecification().validate(None, value))
