"""Kills a process of a site at a named step of our own code, in whatever process of Python comes by there.

    order = KillOrder(folder, STEPS)
    site = Site(environ=order.environ)
    order.give("before", "hub.admission.hub_api:HubServers.start", "service")

A module `sitecustomize`, which Python imports first of all, wraps the functions that are steps when their modules are
loaded; so nothing in the code under test knows of it. Who comes by first takes the order, and dies once.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["ME", "KillOrder"]

ME = 0
"""Instead of a pid: whoever comes by."""

_HOOK = '''
"""Wraps steps of the code under test; see tests/faults/killing.py."""

import functools, importlib.machinery, inspect, os, signal, sys

STEPS = {}
for _step in os.environ.get("KILL_STEPS", "").split(","):
    _module, _, _name = _step.partition(":")
    STEPS.setdefault(_module, []).append((_step, _name))


def role():
    words = getattr(sys, "argv", [""])
    return "service" if "service" in words[1:] else "hub" if "jupyterhub" in words[0] else "other"


def die(when):
    order = os.environ["KILL_ORDER"]
    try:
        with open(order) as file:
            wanted, who, pid = file.read().split("\\n")
        if (wanted, who) != (when, role()):
            return
        os.rename(order, order + ".taken")
    except (FileNotFoundError, ValueError):
        return
    os.kill(int(pid) or os.getpid(), signal.SIGKILL)


def wrapped(inner, step):
    if inspect.iscoroutinefunction(inner):
        @functools.wraps(inner)
        async def outer(*args, **kwargs):
            die("before " + step)
            result = await inner(*args, **kwargs)
            die("after " + step)
            return result
    else:
        @functools.wraps(inner)
        def outer(*args, **kwargs):
            die("before " + step)
            result = inner(*args, **kwargs)
            die("after " + step)
            return result
    return outer


class Loader:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        self.inner.exec_module(module)
        for step, name in STEPS[module.__name__]:
            owner, _, last = name.rpartition(".")
            where = getattr(module, owner) if owner else module
            setattr(where, last, wrapped(getattr(where, last), step))


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in STEPS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader)
        return spec


sys.meta_path.insert(0, Finder)
'''


class KillOrder:
    """Orders to die, for the processes of one site.

    Parameters
    ----------
    folder
        Of its own.
    steps
        `module:function` or `module:Class.method`, all that an order may name.
    """

    def __init__(self, folder: Path, steps: Collection[str]) -> None:
        self.file = folder / "order"
        self.steps = frozenset(steps)
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(_HOOK)
        folder.chmod(0o755)
        self.environ = {
            "PYTHONPATH": str(hook),
            "KILL_ORDER": str(self.file),
            "KILL_STEPS": ",".join(sorted(self.steps)),
        }

    def give(self, when: str, step: str, who: str, pid: int = ME) -> None:
        """Let `who` (`hub`, `service`) die before or after this step, or kill another process there."""
        assert step in self.steps, step
        assert when in ("before", "after")
        taken = Path(f"{self.file}.taken")
        taken.unlink(missing_ok=True)
        draft = self.file.with_suffix(".draft")
        draft.write_text(f"{when} {step}\n{who}\n{pid}")
        os.replace(draft, self.file)

    @property
    def taken(self) -> bool:
        """Whether somebody came by and died, or killed."""
        return Path(f"{self.file}.taken").exists()

    def withdraw(self) -> None:
        """Let nobody die any more."""
        self.file.unlink(missing_ok=True)
