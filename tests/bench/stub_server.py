"""What every simulated session answers with: one server for all of them, which looks at whose address it was reached by.

    python -m tests.bench.stub_server ADDRESS PORT PEOPLE

Pods on simulated nodes run nothing. Both hubs are told to reach each server here instead. It answers only below
`/user/NAME/` of the people of the run, and tells the name that it was asked for, so a route that leads somebody to
another's server is seen.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from aiohttp import web

__all__ = ["TOLD", "main"]

TOLD = "this is the server of "
"""What a page begins with; the name follows."""


def application(people: int) -> web.Application:
    """Return the server; people are called `person1` and so on."""
    names = {f"person{number}" for number in range(1, people + 1)}
    headers = {"X-JupyterHub-Version": version("jupyterhub")}

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in names:
            return web.Response(status=404, text="nobody of this name is in this run")
        return web.Response(text=f"{TOLD}{name}", headers=headers)

    made = web.Application()
    made.router.add_get("/user/{name}/{rest:.*}", answer)
    return made


def main(arguments: list[str]) -> None:
    """Serve until ended."""
    address, port, people = arguments
    web.run_app(application(int(people)), host=address, port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    main(sys.argv[1:])
