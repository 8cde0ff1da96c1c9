"""Dashboards as the JSON that Grafana reads (grafanalib)."""

from __future__ import annotations

import json
from typing import Any

from grafanalib import core as grafana
from grafanalib._gen import DashboardEncoder

from helm.monitoring.model import Board, Panel

__all__ = ["MATCHER", "dashboard"]

MATCHER = 'installation=~"$installation"'
"""What stands for the installation: the one that is picked at the top of the page."""

_WINDOW = "$__rate_interval"
_SOURCE = "${source}"
_COLUMNS = 24
_WIDTH, _HEIGHT = 12, 8
_SMALL_WIDTH, _SMALL_HEIGHT = 6, 4


def dashboard(board: Board) -> str:
    """Return the JSON of a dashboard; the same for the same board."""
    made = grafana.Dashboard(
        title=board.title,
        description=board.text,
        uid=f"armillary-{board.key}",
        tags=["armillary"],
        timezone="browser",
        refresh="1m",
        editable=False,
        schemaVersion=39,
        sharedCrosshair=True,
        time=grafana.Time("now-6h", "now"),
        templating=grafana.Templating(
            [
                grafana.Template(name="source", label="Source", type="datasource", query="prometheus"),
                grafana.Template(
                    name="installation",
                    label="Installation",
                    query="label_values(armillary_service_live_pages_limit, installation)",
                    dataSource=_SOURCE,
                    refresh=2,
                    includeAll=True,
                    allValue=".+",
                ),
            ]
        ),
        links=[grafana.DashboardLink(title="Armillary", tags=["armillary"], asDropdown=True, keepTime=True)],
        panels=_placed(board.panels),
    )
    made = made.auto_panel_ids()
    return json.dumps(made.to_json_data(), cls=DashboardEncoder, indent=1, sort_keys=True) + "\n"


def _placed(panels: tuple[Panel, ...]) -> list[Any]:
    """Numbers first, in rows of four, then pictures in rows of two."""
    found = []
    x = y = 0
    below = 0
    for panel in sorted(panels, key=lambda one: not one.single):
        width, height = (_SMALL_WIDTH, _SMALL_HEIGHT) if panel.single else (_WIDTH, _HEIGHT)
        if x + width > _COLUMNS or height > below > 0:
            x, y = 0, y + below
        below = height
        found.append(_panel(panel, grafana.GridPos(h=height, w=width, x=x, y=y)))
        x += width
    return found


def _panel(panel: Panel, place: Any) -> Any:
    common = {
        "title": panel.title,
        "description": panel.text or None,
        "dataSource": _SOURCE,
        "gridPos": place,
        "targets": [
            grafana.Target(
                expr=query.shown(MATCHER, _WINDOW),
                legendFormat=query.legend,
                refId=chr(ord("A") + number),
                datasource=_SOURCE,
            )
            for number, query in enumerate(panel.queries)
        ],
    }
    if panel.single:
        return grafana.Stat(**common, format=panel.unit, reduceCalc="lastNotNull", colorMode="none")
    stacking = {"mode": "normal", "group": "A"} if panel.stacked else {}
    filled = 30 if panel.stacked else 0
    return grafana.TimeSeries(
        **common,
        unit=panel.unit,
        stacking=stacking,
        fillOpacity=filled,
        showPoints="never",
        tooltipMode="multi",
        valueMin=0,
    )
