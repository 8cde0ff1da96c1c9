"""What a hub does once, so that its event loop is not held by it when people are there."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from jinja2 import Environment, TemplateError
from jupyterhub.app import JupyterHub

from hub.interpreter import few_arenas, hand_over_soon, look_through_what_is_new

__all__ = ["compile_templates", "warm_up"]

_UP_S = 10.0
"""When a hub is up, at the latest as a rule; what is made before is there to stay."""

_LOOK_S = 0.1
_TEMPLATES = (".html", ".js", ".css")
_tasks: set[asyncio.Task[None]] = set()


def warm_up() -> None:
    """Compile the pages' templates while the hub starts, in a thread, spare what stays Python's garbage collector, and
    let threads that write into the database have the interpreter soon, and no memory of their own.

    The first view of a page would compile it and all that it is made from, some ten milliseconds each; walking through
    the modules, the catalogue and Kubernetes' models holds the loop for some hundred. Where no loop runs, as where a
    configuration is only read, nothing is left to be done later.
    """
    hand_over_soon()
    few_arenas()
    gc.freeze()
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        if JupyterHub.initialized():
            loop.call_later(_UP_S, look_through_what_is_new)
            task = loop.create_task(_compile(JupyterHub.instance()), name="armillary-warm-up")
            _tasks.add(task)  # the loop alone would not keep it
            task.add_done_callback(_tasks.discard)


async def _compile(hub: JupyterHub) -> None:
    deadline = asyncio.get_running_loop().time() + _UP_S
    while "jinja2_env" not in hub.tornado_settings:
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(_LOOK_S)
    await asyncio.to_thread(compile_templates, hub.tornado_settings["jinja2_env"])


def compile_templates(environment: Environment) -> int:
    """Compile every template that pages are made from, and keep it; return how many there are.

    One that cannot be compiled, of a deployer's own perhaps, is left to whoever opens its page, which says why.
    """
    number = 0
    for name in environment.list_templates(filter_func=lambda name: name.endswith(_TEMPLATES)):
        with contextlib.suppress(TemplateError, UnicodeDecodeError):
            environment.get_template(name)
            number += 1
    return number
