"""Dashboards and alerts: every query can be read and asks for what there is; every alert has a page."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest
import yaml

from docs.generate import pages
from helm.monitoring.alerts import ALERTS, Alert
from helm.monitoring.boards import BOARDS
from helm.monitoring.grafana import dashboard
from helm.monitoring.model import Board
from helm.write import CHART, files
from hub.metrics import table
from tests.helm.queries import ASKED, exported, output, problems

KNOWN = exported()


@pytest.mark.parametrize("query", ASKED.values(), ids=list(ASKED))
def test_every_query_can_be_read_and_asks_for_what_is_exported(query: str) -> None:
    assert list(problems(query, KNOWN)) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ('armillary_holdz{installation="x"}', "nobody exports 'armillary_holdz'"),
        ('armillary_holds{installation="x",stat="a"}', "armillary_holds has no label 'stat'"),
        ('sum by (kind) (armillary_holds{installation="x"})', "there is no label 'kind' to sum by"),
        ('a{installation="x"} / on (b) c{installation="x"}', "there is no label 'b' to match by"),
        ("armillary_holds", "armillary_holds is asked of all installations"),
        ('rate(armillary_decision_seconds{installation="x"}[5m])', "nobody exports 'armillary_decision_seconds'"),
        ("sum(armillary_holds{", "unexpected end"),
    ],
)
def test_what_is_wrong_with_a_query_is_found(query: str, says: str) -> None:
    assert any(says in one for one in problems(query, KNOWN))


@pytest.mark.parametrize("renamed", ["armillary_holds", "armillary_queue_tickets", "jupyterhub_active_users"])
def test_a_metric_that_is_renamed_is_missed(renamed: str) -> None:
    others = {name: labels for name, labels in KNOWN.items() if name != renamed}
    assert any(list(problems(query, others)) for query in ASKED.values())


def test_every_metric_of_ours_is_in_a_dashboard_or_an_alert() -> None:
    asked = " ".join(ASKED.values())
    unused = {one.name for one in table() if not re.search(rf"\b{one.name}(_bucket|_count)?\b", asked)}
    # One replica's own view of what others show for all: for looking closer.
    assert unused == {"armillary_reservations", "armillary_controller_publish_age_seconds"}


def legends() -> Iterator[tuple[str, str, str]]:
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                yield f"{board.key}: {panel.title}", query.shown('installation="x"', "5m"), query.legend


@pytest.mark.parametrize(("where", "query", "legend"), list(legends()))
def test_series_are_called_by_labels_that_they_have(where: str, query: str, legend: str) -> None:
    assert set(re.findall(r"{{(\w+)}}", legend)) == output(query, KNOWN)


@pytest.fixture(params=BOARDS, ids=lambda board: board.key)
def board(request: pytest.FixtureRequest) -> Board:
    found: Board = request.param
    return found


def test_a_dashboard_is_one_that_grafana_can_show(board: Board) -> None:
    said = json.loads(dashboard(board))
    assert said["uid"] == f"armillary-{board.key}"
    assert [one["name"] for one in said["templating"]["list"]] == ["source", "installation"]
    ids = [panel["id"] for panel in said["panels"]]
    assert len(set(ids)) == len(ids) == len(board.panels)
    assert len({panel["title"] for panel in said["panels"]}) == len(ids)
    for panel in said["panels"]:
        assert panel["datasource"] == "${source}"
        assert panel["type"] in ("timeseries", "stat")
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit, panel["title"]
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) > 0
        for target in panel["targets"]:
            assert 'installation=~"$installation"' in target["expr"]
            assert not re.search("INSTALLATION|WINDOW", target["expr"])


def test_panels_do_not_lie_on_one_another(board: Board) -> None:
    def cells(panel: dict[str, dict[str, int]]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    for one, other in itertools.combinations(json.loads(dashboard(board))["panels"], 2):
        assert not cells(one) & cells(other), f"{one['title']} and {other['title']}"


def test_only_what_is_written_is_in_the_charts_folder() -> None:
    there = {path for path in (CHART / "monitoring").rglob("*") if path.is_file()}
    assert there == {path for path in files() if path.is_relative_to(CHART / "monitoring")}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_a_page_that_says_what_to_do(alert: Alert) -> None:
    page = pages()[alert.page]
    assert page.startswith(f"# {alert.name}\n")
    assert alert.summary in page
    assert all(step in page for step in (*alert.causes, *alert.todo))
    assert f"({alert.page}.md)" in pages()["alerts"]


def test_the_rules_are_named_apart_and_their_pages_too() -> None:
    rules = yaml.safe_load((CHART / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [alert.name for alert in ALERTS]
    assert (
        len({rule["alert"] for rule in rules}) == len({rule["annotations"]["runbook"] for rule in rules}) == len(ALERTS)
    )
