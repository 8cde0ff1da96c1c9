"""What the chart makes of dashboards, alerts and monitors."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import Any

import pytest
import yaml

from helm.monitoring.alerts import ALERTS
from helm.monitoring.boards import BOARDS
from hub.secret import metrics_token
from hub.settings import load
from tests.helm.chart import CHART, MINIMAL, Refused, find, render

# helm is built with the lab's Go.
pytestmark = pytest.mark.cluster


def on(**monitoring: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {part: {"enabled": True} for part in ("monitors", "dashboards", "alerts")}
    for part, more in monitoring.items():
        parts[part] = {**parts[part], **more} if isinstance(more, dict) else more
    return {**deepcopy(MINIMAL), "publicUrl": "https://hub.example.org/lab/", "monitoring": parts}


def test_nothing_of_the_operators_is_made_unless_asked_for() -> None:
    kinds = {one["kind"] for one in render(MINIMAL)}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("ServiceMonitor", "hub", "/lab/hub/metrics"),
        ("ServiceMonitor", "service", "/lab/services/armillary/metrics"),
        ("PodMonitor", "controller", "/metrics"),
    ],
)
def test_a_monitor_finds_a_port_and_carries_the_token(kind: str, name: str, path: str) -> None:
    objects = render(on(monitors={"labels": {"release": "prometheus"}, "interval": "15s"}))
    monitor = find(objects, kind, f"a-{name}")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    [target] = monitor["spec"]["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert (target["path"], target["interval"]) == (path, "15s")
    [given] = [target["authorization"]["credentials"]]
    secret = find(objects, "Secret", given["name"])
    assert len(base64.b64decode(secret["data"][given["key"]])) == 64
    assert {one["targetLabel"]: one["replacement"] for one in target["relabelings"]} == {
        "installation": "core/a",
        "component": name,
    }
    wanted = monitor["spec"]["selector"]["matchLabels"]
    if kind == "ServiceMonitor":
        [chosen] = [
            one for one in objects if one["kind"] == "Service" and wanted.items() <= one["metadata"]["labels"].items()
        ]
        assert target["port"] in {port["name"] for port in chosen["spec"]["ports"]}
    else:
        pod = find(objects, "Deployment", f"a-{name}")["spec"]["template"]
        assert wanted.items() <= pod["metadata"]["labels"].items()
        assert target["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}


def test_hub_service_and_controller_read_the_token_that_prometheus_has(tmp_path: Any) -> None:
    for values, secret in ((MINIMAL, "a-metrics"), (on(existingSecret="mine", key="word"), "mine")):
        objects = render(values)
        for part in ("hub", "service", "controller"):
            pod = find(objects, "Deployment", f"a-{part}")["spec"]["template"]["spec"]
            [volume] = [one for one in pod["volumes"] if one["name"] == "metrics"]
            assert volume["secret"]["secretName"] == secret
            [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "metrics"]
            [item] = volume["secret"]["items"]
            assert item["key"] == ("token" if secret == "a-metrics" else "word")
            (tmp_path / "armillary.yaml").write_text(find(objects, "ConfigMap", "a")["data"]["armillary.yaml"])
            settings = load(tmp_path / "armillary.yaml", {})
            assert str(settings.hub.metrics_token_file) == f"{mount['mountPath']}/{item['path']}"
            assert settings.hub.metrics_need_token
            with pytest.raises(ValueError, match="cannot be read"):
                metrics_token(settings)


def test_probes_of_the_controller_need_no_token() -> None:
    [container] = find(render(MINIMAL), "Deployment", "a-controller")["spec"]["template"]["spec"]["containers"]
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {"/health"}


def test_each_dashboard_is_a_config_map_for_the_sidecar() -> None:
    objects = render(on(dashboards={"annotations": {"grafana_folder": "Armillary"}}))
    for board in BOARDS:
        made = find(objects, "ConfigMap", f"a-dashboard-{board.key}")
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert made["metadata"]["annotations"] == {"grafana_folder": "Armillary"}
        [(name, text)] = made["data"].items()
        assert name == f"a-{board.key}.json"
        assert json.loads(text) == json.loads((CHART / "monitoring" / "dashboards" / f"{board.key}.json").read_text())


def test_alerts_are_about_this_release_and_lead_to_their_pages() -> None:
    said = {"extra": {"team": "hub"}, "after": {"ArmillaryHubDown": "7m"}, "runbooks": "https://docs.example.org/ref/"}
    made = find(render(on(alerts=said)), "PrometheusRule", "a")
    [group] = made["spec"]["groups"]
    file = yaml.safe_load((CHART / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in ALERTS]
    for rule, written, alert in zip(group["rules"], file, ALERTS, strict=True):
        assert rule["expr"] == written["expr"].replace('installation="armillary"', 'installation="core/a"')
        assert 'installation="core/a"' in rule["expr"]
        assert rule["for"] == ("7m" if alert.name == "ArmillaryHubDown" else alert.after)
        assert rule["labels"] == {"severity": alert.severity, "installation": "core/a", "team": "hub"}
        assert rule["annotations"]["runbook_url"] == f"https://docs.example.org/ref/{alert.page}.html"
        assert rule["annotations"]["summary"] == alert.summary


def test_without_an_address_of_pages_alerts_name_none() -> None:
    [group] = find(render(on()), "PrometheusRule", "a")["spec"]["groups"]
    assert all(set(rule["annotations"]) == {"summary", "description"} for rule in group["rules"])


@pytest.mark.parametrize(
    "after", [{"ArmillaryHubDwn": "5m"}, {"ArmillaryHubDown": "soon"}, {"ArmillaryHubDown": 300}], ids=str
)
def test_a_time_for_an_alert_that_there_is_not_is_refused(after: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="ArmillaryHubD"):
        render(on(alerts={"after": after}))
