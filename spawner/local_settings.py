"""What a deployer can set for the local engine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from traitlets import Enum, Float, Instance, Int, List, TraitError, Unicode, default, validate
from traitlets.config import Configurable

from profiles.model import Catalogue
from spawner.devices.reader import Reader, this_machine
from spawner.processes.isolation import program_directories
from spawner.processes.machine import Machine, detect
from spawner.processes.spec import search_path
from spawner.protocols import UidRegistry

__all__ = ["LocalSettings"]


class LocalSettings(Configurable):
    """The settings of `LocalSpawner`, apart from what it does with them."""

    state_dir = Unicode(
        config=True,
        help="""
        Folder of the hub's own files on this machine; in a sandbox nothing of it is visible but the own home.

        Default: `.armillary` where the hub was started, as `armillary run` has it.
        Example: `c.LocalSpawner.state_dir = "/var/lib/armillary"`
        """,
    )
    homes = Unicode(
        config=True,
        help="""
        Folder of the home directories, one per person, made at the first start with mode 0700.

        Default: `homes` in `state_dir`. Example: `c.LocalSpawner.homes = "/srv/homes"`
        """,
    )
    launches = Unicode(
        config=True,
        help="""
        Folder of the launch records, which lead a restarted hub back to its sessions. On a local disk.

        Default: `launches` in `state_dir`. Example: `c.LocalSpawner.launches = "/var/lib/armillary/launches"`
        """,
    )
    logs = Unicode(
        config=True,
        help="""
        Folder of what sessions print, a file per server, readable by the hub's account only; the last start's file
        is kept beside it with `.1`.

        Default: `logs/sessions` in `state_dir`. Example: `c.LocalSpawner.logs = "/var/log/armillary"`
        """,
    )
    log_bytes = Int(
        5_000_000,
        min=10_000,
        config=True,
        help="""
        How large a session's log may grow, in bytes, before its older half is dropped; looked at each `poll_interval`.

        Default: 5 MB, days of a usual JupyterLab. Example: `c.LocalSpawner.log_bytes = 1_000_000`
        """,
    )
    isolation = Enum(
        ["auto", "uid", "namespace", "shared"],
        "auto",
        config=True,
        help="""
        How people are kept apart: a Unix uid each (`uid`, needs root), user namespaces (`namespace`, needs
        bubblewrap), or not at all (`shared`).

        Default: `auto`, the first of these that works. Anything else is taken literally, and an error where it does
        not work. Example: `c.LocalSpawner.isolation = "uid"`
        """,
    )
    uid_registry = Instance(  # type: ignore[call-overload]  # a Protocol that can be checked at run time is a class too
        UidRegistry,
        allow_none=True,
        config=True,
        help="""
        Which uid belongs to whom; needed with `isolation` `uid`.

        Default: none; `hub.config` sets one that keeps its table in Armillary's database.
        Example: `c.LocalSpawner.uid_registry = SqlUidRegistry(connect("sqlite:////srv/armillary.sqlite"))`
        """,
    )
    grace_s = Float(
        10.0,
        min=0,
        config=True,
        help="""
        How long a server may take to end by itself, in seconds, before every process of it is killed.

        Default: 10, because JupyterLab ends its kernels one after the other. Example: `c.LocalSpawner.grace_s = 30`
        """,
    )
    first_port = Int(
        0,
        min=0,
        max=65535,
        config=True,
        help="""
        The lowest port of 127.0.0.1 that sessions listen on; 0 lets the kernel choose any free one.

        Default: 0. Example, for a firewall that knows a range: `c.LocalSpawner.first_port = 30000`
        """,
    )
    last_port = Int(
        65535,
        min=1,
        max=65535,
        config=True,
        help="""
        The highest port that sessions listen on; only with `first_port`.

        Default: 65535. Example: `c.LocalSpawner.last_port = 30999`
        """,
    )
    visible = List(
        Unicode(),
        config=True,
        help="""
        Directories that sessions' programs need although they lie where other accounts may not go (such as /root) or
        in what a sandbox hides; they are shown to sessions in a mount namespace.

        Default: those of the Python that runs the hub, and of the catalogue's applications. Add the environments that
        the catalogue's images name.
        Example: `c.LocalSpawner.visible.append("/root/envs/torch")`
        """,
    )
    hidden = List(
        Unicode(),
        config=True,
        help="""
        Directories and files of which a sandbox (`isolation` `namespace`) shows nothing, beside `state_dir`, the homes
        of the others and the home of the hub's account.

        Default: none; `hub.config` puts the files with secrets here that the settings name, so add to them.
        Example: `c.LocalSpawner.hidden.append("/srv/secrets")`
        """,
    )
    shell = Unicode(
        "/bin/bash",
        config=True,
        help="""
        The shell of JupyterLab's terminals.

        Default: /bin/bash. Example: `c.LocalSpawner.shell = "/usr/bin/zsh"`
        """,
    )
    reader = Instance(Reader, help="The way to this machine's cards. Default: NVIDIA's library, asked when needed.")
    machine = Instance(Machine, help="What this machine allows. Default: found out by trying, once per process.")

    @default("state_dir")
    def _state_dir_default(self) -> str:
        return str(Path.cwd() / ".armillary")

    @default("homes")
    def _homes_default(self) -> str:
        return str(Path(self.state_dir) / "homes")

    @default("launches")
    def _launches_default(self) -> str:
        return str(Path(self.state_dir) / "launches")

    @default("logs")
    def _logs_default(self) -> str:
        return str(Path(self.state_dir) / "logs" / "sessions")

    @default("visible")
    def _visible_default(self) -> list[str]:
        return [str(path) for path in (*program_directories(), *self._directories_of_apps())]

    def _directories_of_apps(self) -> Iterator[Path]:
        """Where the programs of applications lie, and what they lead to: `make vscode` installs beside the hub."""
        catalogue = getattr(self, "catalogue", None)
        if not isinstance(catalogue, Catalogue):
            return
        for image in catalogue.images.values():
            for name in image.apps if image.local else ():
                assert image.local
                found = shutil.which(catalogue.apps[name].command[0], path=search_path(image.local))
                if found is None or (program := Path(found).resolve()).is_relative_to("/usr"):
                    continue
                environment = program.parent.parent  # shown as a whole only where it is one of Python's
                yield environment if (environment / "pyvenv.cfg").is_file() else program.parent

    @default("machine")
    def _machine_default(self) -> Machine:
        return detect(self.isolation)

    @default("reader")
    def _reader_default(self) -> Reader:
        return this_machine()

    @default("cmd")
    def _cmd_default(self) -> list[str]:
        # -P: a file json.py in the person's home must not take the place of the standard library's.
        return [sys.executable, "-P", "-m", "jupyterhub.singleuser"]

    @default("env_keep")
    def _env_keep_default(self) -> list[str]:
        return []  # the environment is built from nothing; PATH and LANG are set by `processes.spec`

    @validate("state_dir", "homes", "launches", "logs")
    def _absolute(self, proposal: dict[str, object]) -> str:
        return str(Path(str(proposal["value"])).absolute())

    @validate("last_port")
    def _in_order(self, proposal: dict[str, int]) -> int:
        if proposal["value"] < self.first_port:
            raise TraitError(f"last_port {proposal['value']} is below first_port {self.first_port}")
        return proposal["value"]
