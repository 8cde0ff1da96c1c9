"""SIGKILL of the hub in the middle of a start on the local engine: nothing is lost, nothing is started twice.

The whole site: launcher, proxy, hub, sessions. `tests/spawner/test_local.py` has every single step of the engine.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub.site import Site, processes_mentioning, wait_for
from tests.hub.test_launch import Visitor

pytestmark = [pytest.mark.hub, pytest.mark.timeout(240)]

# Before and after each of these the hub can be told to die; in the order in which a start comes by.
STEPS = (
    "RequestSpawner.decide",
    "spawner.local.start_session",
    "LocalSpawner._until_ready",
    "LocalSpawner.get_state",
    "Proxy.add_user",
)

CONFIG = """
import inspect, os, signal
from pathlib import Path
import jupyterhub.proxy, spawner.core, spawner.local

def _die(when):
    order = Path(os.environ["KILL_ORDER"])
    if order.exists() and order.read_text() == when:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

def _wrap(owner, name, step):
    inner = getattr(owner, name)
    if inspect.iscoroutinefunction(inner):
        async def outer(*args, **kwargs):
            _die("before " + step)
            result = await inner(*args, **kwargs)
            _die("after " + step)
            return result
    else:
        def outer(*args, **kwargs):
            _die("before " + step)
            result = inner(*args, **kwargs)
            _die("after " + step)
            return result
    setattr(owner, name, outer)

_OWNERS = {
    "RequestSpawner": spawner.core.RequestSpawner,
    "LocalSpawner": spawner.local.LocalSpawner,
    "spawner.local": spawner.local,
    "Proxy": jupyterhub.proxy.Proxy,
}
for _step in os.environ["KILL_STEPS"].split(","):
    _owner, _, _name = _step.rpartition(".")
    _wrap(_OWNERS[_owner], _name, _step)
"""


@pytest.fixture(scope="module", params=["before", "after"])
def when(request: pytest.FixtureRequest) -> str:
    """One site each: a launcher gives up a hub that dies more than six times in two minutes."""
    return str(request.param)


@pytest.fixture(scope="module")
def site(when: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    order = tmp_path_factory.mktemp("order") / "order"
    made = Site(config=CONFIG, environ={"KILL_ORDER": str(order), "KILL_STEPS": ",".join(STEPS)})
    with made.running() as running:
        running.login("researcher-1").close()
        running.login("researcher-2").close()
        running.start_server("researcher-2")
        yield running


def sessions(site: Site, name: str) -> list[str]:
    """Spawn ids of the processes that run for somebody at this site, each once."""
    ids = set()
    for line in processes_mentioning(f"HOME={site.state}/homes/{name}"):
        try:
            environment = Path("/proc", line.split(":")[0], "environ").read_text()
        except OSError:
            continue  # it ended meanwhile
        ids |= {entry for entry in environment.split("\0") if entry.startswith("ARMILLARY_SPAWN_ID=")}
    return sorted(ids)


@pytest.mark.parametrize("at", STEPS)
def test_a_hub_killed_in_a_start_loses_nothing_and_starts_nothing_twice(site: Site, when: str, at: str) -> None:
    step = f"{when} {at}"
    name, bystander = "researcher-1", "researcher-2"
    before = site.hub_pid()
    order = site.environ["KILL_ORDER"]
    with Visitor(site, bystander) as visitor:
        # JupyterHub's single-user server asks the hub about a token once, and remembers the answer for five minutes
        wait_for(lambda: visitor.answers > 3 or visitor.failures, "the first answers")
        Path(order).write_text(step)
        with contextlib.suppress(httpx.HTTPError):  # the hub dies while it answers
            site.api("POST", f"/users/{name}/server")
        wait_for(lambda: site.hub_pid() not in (0, before), f"the hub to die {step}")
        site.wait_healthy()
        wait_for(lambda: not site.server(name) or site.server(name).get("ready"), "the hub to have looked", 90)
        found = sessions(site, name)
        assert len(found) <= 1
        assert bool(site.server(name).get("ready")) == bool(found), "the hub knows what runs, and only that"
        if not found:
            site.start_server(name)
        again = sessions(site, name)
        assert len(again) == 1
        assert not found or again == found, "it is the same session"
        token = site.api("POST", f"/users/{name}/tokens", json={"note": "look"}).json()["token"]
        with site.client() as client:
            status = client.get(f"/user/{name}/api/status", headers={"Authorization": f"token {token}"})
        assert status.status_code == 200
    assert visitor.failures == [], "nobody else notices"
    site.api("DELETE", f"/users/{name}/server")
    wait_for(lambda: not site.server(name), "the session to end")
    assert sessions(site, name) == []
