"""A real Prometheus watches a real site: afterwards every panel shows something, and every alert fires when it should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helm.monitoring.alerts import ALERTS
from helm.monitoring.boards import BOARDS
from hub.metrics import table
from tests.helm.monitored_site import CARD, CAUSES, World, running
from tests.helm.queries import FROM_SCRAPING
from tests.hub.site import ROOT, wait_for

# A real site and a real Prometheus; the rules are rendered by helm, which is built with the lab's Go.
pytestmark = [pytest.mark.hub, pytest.mark.timeout(600)]

INSTALLATION = 'installation="core/a"'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("monitored")) as found:
        lived(found)
        yield found


def lived(world: World) -> None:
    """A day at the site: a session starts, somebody waits, somebody is refused, one stops, the next one's turn comes."""
    wait_for(lambda: "a" in _fresh(world), "counts", 60)
    assert world.ask("researcher-1", CARD).status_code == 202
    wait_for(lambda: world.ready("researcher-1"), "a session", 120)
    assert world.ask("researcher-2", CARD).json()["state"] == "queued"
    refused = world.ask("instructor", CARD)
    assert refused.json()["code"] == "quota-servers", refused.text
    waiting = f'armillary_queue_tickets{{{INSTALLATION},state="waiting"}} > 0'
    wait_for(lambda: world.prometheus.series(waiting), "the ticket to be seen", 60)
    world.stop("researcher-1")
    wait_for(lambda: world.ready("researcher-2"), "the next one's turn", 120)
    command = [sys.executable, "-m", "hub.cli", "backup", "create", "--folder", str(world.site.folder / "copies")]
    variables = {**world.site.variables(), "ARMILLARY_STATE_DIR": str(world.site.state)}
    made = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


def _fresh(world: World) -> str:
    return "a" if world.prometheus.series(f"armillary_capacity_fresh{{{INSTALLATION}}} == 1") else ""


def panels() -> Iterator[Any]:
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                text = query.shown(INSTALLATION, "1m")
                yield pytest.param(text, id=f"{board.key}: {panel.title}: {query.legend}")


def test_hub_and_service_let_prometheus_in(world: World) -> None:
    assert [address for address in world.prometheus.problems() if "/hub/" in address or "/services/" in address] == []


@pytest.mark.parametrize("query", list(panels()))
def test_every_panel_shows_something(world: World, query: str) -> None:
    def shown() -> bool:
        return world.prometheus.shows(query, world.began)

    wait_for(shown, f"data of {query}\n{world.site.logs()[-2000:]}", 90, every_s=1.0)


def test_what_is_exported_has_the_labels_that_the_list_says(world: World) -> None:
    scraping = {*FROM_SCRAPING, "job", "instance", "__name__"}
    seen = 0
    for one in table():
        name = f"{one.name}_count" if one.kind == "histogram" else one.name
        # Prometheus keeps no label that is empty, as the code of what was admitted.
        found = [set(series["metric"]) - scraping for series in world.prometheus.series(f"{name}{{{INSTALLATION}}}")]
        assert not found or set[str]().union(*found) == set(one.labels), one.name
        seen += len(found)
    assert seen > 100


def test_nothing_fires_while_all_is_well(world: World) -> None:
    assert world.prometheus.firing() == set(), json.dumps(world.prometheus.ask("alerts"), indent=1)


def test_every_alert_has_a_cause_here() -> None:
    assert set(CAUSES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("name", CAUSES)
def test_every_alert_fires_when_what_it_is_about_happens(world: World, name: str) -> None:
    with CAUSES[name](world):
        wait_for(lambda: name in world.prometheus.firing(), f"{name} to fire", 150, every_s=0.5)


def test_the_rules_are_what_prometheus_takes_for_rules(tmp_path: Path) -> None:
    file = ROOT / "helm" / "armillary" / "monitoring" / "alerts.yaml"
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout
