"""What queries ask for, read by a parser of PromQL, and what our processes really export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jupyterhub.metrics
import promql_parser as promql
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from helm.monitoring.alerts import ALERTS
from helm.monitoring.boards import BOARDS
from hub import metrics

__all__ = ["ASKED", "FROM_SCRAPING", "exported", "problems"]

FROM_SCRAPING = frozenset({"installation", "component"})
"""Labels that the chart's monitors, or the scrape configuration, give every series."""

ASKED: Mapping[str, str] = {
    **{
        f"{board.key}: {panel.title} {number}": query.shown('installation="x"', "5m")
        for board in BOARDS
        for panel in board.panels
        for number, query in enumerate(panel.queries)
    },
    **{alert.name: alert.query.replace("INSTALLATION", 'installation="x"') for alert in ALERTS},
}
"""Every query of every panel and alert, by what it is for."""


def exported() -> dict[str, frozenset[str]]:
    """Return the series that hub, service and controller export, with their labels."""
    found = {"up": frozenset[str]()}
    for one in metrics.table():
        found |= _series(one.name, one.kind, one.labels)
    assert jupyterhub.metrics.__name__
    for collector in list(REGISTRY._collector_to_names):
        labels = collector._labelnames if isinstance(collector, MetricWrapperBase) else ()
        for family in collector.describe() if isinstance(collector, MetricWrapperBase) else collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if family.name.startswith("process_") or isinstance(collector, MetricWrapperBase):
                found |= _series(name, family.type, labels)
    return {name: labels | FROM_SCRAPING for name, labels in found.items()}


def _series(name: str, kind: str, labels: tuple[str, ...]) -> dict[str, frozenset[str]]:
    if kind != "histogram":
        return {name: frozenset(labels)}
    plain = frozenset(labels)
    return {f"{name}_bucket": plain | {"le"}, f"{name}_count": plain, f"{name}_sum": plain}


def problems(query: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield what is wrong with a query: a name or a label that nobody exports, an installation that is not chosen."""
    said: list[str] = []
    try:
        _labels(promql.parse(query), known, said)
    except ValueError as error:
        said.append(str(error))
    yield from said


def output(query: str, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the labels of what a query answers."""
    return _labels(promql.parse(query), known, [])


def _labels(one: promql.Expr, known: Mapping[str, frozenset[str]], said: list[str]) -> frozenset[str]:
    match one:
        case promql.VectorSelector():
            return _chosen(one, known, said)
        case promql.MatrixSelector():
            return _chosen(one.vector_selector, known, said)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(one.expr, known, said)
        case promql.Call():
            beneath = frozenset[str]().union(*(_labels(part, known, said) for part in one.args))
            return (
                frozenset()
                if one.func.name == "absent"
                else beneath - {"le"}
                if "quantile" in one.func.name
                else beneath
            )
        case promql.AggregateExpr():
            beneath = _labels(one.expr, known, said)
            if one.modifier is None:
                return frozenset()
            assert one.modifier.type == promql.AggModifierType.By, "say what is kept, not what is left out"
            by = frozenset(one.modifier.labels)
            said += [f"there is no label {label!r} to sum by" for label in sorted(by - beneath)]
            return by
        case promql.BinaryExpr():
            sides = [_labels(side, known, said) for side in (one.lhs, one.rhs)]
            matching = one.modifier.matching if one.modifier else None
            if matching is not None:
                for label in matching.labels:
                    said += [f"there is no label {label!r} to match by"] if label not in sides[0] | sides[1] else []
            return sides[0] if sides[0] else sides[1]
        case _:
            return frozenset()


def _chosen(one: promql.VectorSelector, known: Mapping[str, frozenset[str]], said: list[str]) -> frozenset[str]:
    name = one.name or ""
    if name not in known:
        said.append(f"nobody exports {name!r}")
        return frozenset()
    matched = {matcher.name for matcher in one.matchers.matchers}
    said += [f"{name} has no label {label!r}" for label in sorted(matched - known[name])]
    if "installation" not in matched:
        said.append(f"{name} is asked of all installations")
    return known[name]
