"""The chart as helm renders it: it fits together, is safe, and says what it cannot be."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.settings import load
from profiles.loader import loads
from tests.docs.blocks import blocks
from tests.helm.chart import CHART, MINIMAL, Refused, containers, find, helm, pods, render

# helm is built with the lab's Go.
pytestmark = pytest.mark.cluster

FULL = yaml.safe_load((CHART.parent / "examples" / "full.yaml").read_text())
BUNDLED_SECRETS = ("cookie_secret", "auth_state_keys", "proxy_password", "service_token")


def odd() -> dict[str, Any]:
    """Everything that is unusual: nothing optional, an address with a port and a path, text that YAML might mistake."""
    values = deepcopy(MINIMAL)
    values["publicUrl"] = "http://hub.example.org:8443/a/b"
    values["login"] = {"clientSecret": "{{ not: a template }} 'quoted' \"text\" ünd"}
    values["ingress"] = {"enabled": False}
    values["priority"] = {"enabled": False}
    values["networkPolicies"] = {"enabled": False}
    values["users"] = {"networkPolicy": {"enabled": False}, "namespace": {"create": False, "name": "there"}}
    values["rbac"] = {"dynamicResourceAllocation": False}
    values["backup"] = {"schedule": "", "beforeUpgrade": False}
    values.setdefault("database", {})["migrateBeforeUpgrade"] = False
    values["hub"] = {
        "extraConfig": {"00": "x = '''{{ .Values }}\n  yes: no'''", "zz": "y = 1"},
        "disruption": {"enabled": True},
    }
    values["settings"]["hub"] = {"headers": {"X-Yes": "no", "X-Number": "007"}}
    values["quotas"] = {"default": {"servers": 3}, "group:cms": {"hours:week": 1000}}
    return values


SORTS = {"minimal": MINIMAL, "full": FULL, "odd": odd()}


@pytest.fixture(params=SORTS, scope="module")
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SORTS[request.param]


@pytest.fixture(scope="module")
def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    return render(values)


def test_helm_finds_no_fault(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    said = helm("lint", CHART, "--strict", "--values", tmp_path / "values.yaml")
    assert "0 chart(s) failed" in said


def test_objects_have_names_of_their_own_and_labels(objects: list[dict[str, Any]]) -> None:
    names = Counter((one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects)
    assert [name for name, number in names.items() if number > 1] == []
    for one in objects:
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "a", one["metadata"]["name"]


def test_what_chooses_pods_finds_some(objects: list[dict[str, Any]]) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(objects)]

    def chosen(selector: dict[str, str]) -> bool:
        return any(selector.items() <= one.items() for one in labels)

    for one in objects:
        if one["kind"] == "Service":
            assert chosen(one["spec"]["selector"]), one["metadata"]["name"]
            ports = {
                port["name"] for _, pod in pods(objects) for part in containers(pod) for port in part.get("ports", [])
            }
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            selector = one["spec"]["selector"]["matchLabels"]
            assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
        if one["kind"] == "PodDisruptionBudget" or (one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"]):
            assert chosen(one["spec"].get("selector", one["spec"].get("podSelector"))["matchLabels"]), one["metadata"][
                "name"
            ]


def test_every_pod_could_run_under_pod_security_restricted(objects: list[dict[str, Any]]) -> None:
    for name, pod in pods(objects):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], name
        for part in containers(pod):
            own = part["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name


def test_only_hub_and_controller_have_a_token_of_the_cluster(
    objects: list[dict[str, Any]], values: dict[str, Any]
) -> None:
    hook = values.get("users", {}).get("prePuller", {}).get("hook", False)
    with_token = {name for name, pod in pods(objects) if pod["spec"].get("automountServiceAccountToken") is not False}
    # and, before an upgrade, what waits for images
    assert with_token == {"Deployment/a-hub", "Deployment/a-controller"} | ({"Job/a-pull-first"} if hook else set())
    for name, pod in pods(objects):
        if name in with_token:
            assert pod["spec"]["serviceAccountName"] == name.partition("/")[2]


def test_what_is_mounted_is_there(objects: list[dict[str, Any]]) -> None:
    made = {(one["kind"], one["metadata"]["name"]) for one in objects}
    given = {"armillary-login", "armillary-mail", "armillary-keys", "armillary-databases", "armillary-metrics"}
    for name, pod in pods(objects):
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for part in containers(pod):
            for mount in part.get("volumeMounts", []):
                assert mount["name"] in volumes or name.startswith("StatefulSet"), f"{name}: {mount}"
        for volume in volumes.values():
            secret = volume.get("secret", {}).get("secretName")
            assert secret is None or secret in given or ("Secret", secret) in made, f"{name}: {secret}"
            config = volume.get("configMap", {}).get("name")
            assert config is None or ("ConfigMap", config) in made, f"{name}: {config}"
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or ("PersistentVolumeClaim", claim) in made, f"{name}: {claim}"


def test_the_settings_can_be_read_by_hub_service_and_controller(
    objects: list[dict[str, Any]], values: dict[str, Any], tmp_path: Path
) -> None:
    said = find(objects, "ConfigMap", "a")["data"]
    for name, text in said.items():
        (tmp_path / name).write_text(text)
    settings = load(tmp_path / "armillary.yaml", {})
    assert settings.engine == "kubernetes"
    assert settings.public_url == values["publicUrl"]
    assert settings.kubernetes.namespace == values.get("users", {}).get("namespace", {}).get("name", "a-users")
    assert settings.proxy.kind == "configurable-http-proxy"
    assert settings.login.issuer == values["settings"]["login"]["issuer"]
    assert (settings.catalogue is not None) == bool(values.get("catalogue"))
    if "catalogue.yaml" in said:
        loads(said["catalogue.yaml"])
    for name, text in said.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
    extras = values.get("hub", {}).get("extraConfig", {})
    assert {name for name in said if name.startswith("extra-")} == {f"extra-{key}.py" for key in extras}
    for key, text in extras.items():
        assert said[f"extra-{key}.py"].strip() == text.strip()
    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    for address in (settings.hub.connect_url, settings.service.connect_url, settings.proxy.api_url):
        found = re.fullmatch(r"http://([a-z-]+)\.core\.svc:(\d+)/?", address or "")
        assert found is not None, address
        assert [port["port"] for port in services[found[1]]["spec"]["ports"]] == [int(found[2])]


def test_no_secret_is_outside_of_a_secret(objects: list[dict[str, Any]], values: dict[str, Any]) -> None:
    known = [value for one in objects if one["kind"] == "Secret" for value in one["data"].values()]
    plain = {base64.b64decode(value).decode() for value in known}
    others = json.dumps([one for one in objects if one["kind"] != "Secret"], ensure_ascii=False)
    assert not [secret for secret in (*known, *plain) if secret in others]
    if "clientSecret" in values["login"]:
        assert (
            base64.b64decode(find(objects, "Secret", "a-login")["data"]["client-secret"]).decode()
            == values["login"]["clientSecret"]
        )


def test_secrets_are_made_where_none_is_named_and_stay_when_the_chart_goes(
    objects: list[dict[str, Any]], values: dict[str, Any]
) -> None:
    made = [one for one in objects if one["kind"] == "Secret" and one["metadata"]["name"] == "a"]
    assert bool(made) is not bool(values.get("secrets", {}).get("existingSecret"))
    for one in made:
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        for key in BUNDLED_SECRETS:
            assert re.fullmatch(r"[0-9a-f]{64}", base64.b64decode(one["data"][key]).decode())
        password = base64.b64decode(one["data"]["postgres-password"]).decode()
        url = base64.b64decode(one["data"]["armillary-url"]).decode()
        assert url == f"postgresql+psycopg://armillary:{password}@a-postgres.core.svc:5432/armillary"


def test_the_proxy_is_not_restarted_by_what_does_not_concern_it() -> None:
    before = find(render(MINIMAL), "Deployment", "a-proxy")["spec"]["template"]
    changed = deepcopy(MINIMAL)
    changed["settings"]["login"]["allowed_groups"] = ["others"]
    changed["hub"] = {"extraConfig": {"x": "pass"}}
    changed["images"] = {"hub": {"repository": "elsewhere/hub", "tag": "9"}}
    assert find(render(changed), "Deployment", "a-proxy")["spec"]["template"] == before
    hub = find(render(MINIMAL), "Deployment", "a-hub")["spec"]["template"]
    assert find(render(changed), "Deployment", "a-hub")["spec"]["template"] != hub


def test_there_is_one_hub_at_most() -> None:
    for values in SORTS.values():
        spec = find(render(values), "Deployment", "a-hub")["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_two_releases_share_nothing() -> None:
    def names(release: str, namespace: str) -> set[tuple[str, str, str]]:
        found = render(MINIMAL, release=release, namespace=namespace)
        return {
            (
                one["kind"],
                ""
                if one["kind"] in ("ClusterRole", "ClusterRoleBinding", "Namespace", "PriorityClass")
                else one["metadata"].get("namespace", namespace),
                one["metadata"]["name"],
            )
            for one in found
        }

    assert not names("one", "x") & names("two", "x")
    assert not names("one", "x") & names("two", "y")


def test_an_upgrade_begins_with_a_copy_and_then_the_tables() -> None:
    assert not [one for one in render(MINIMAL) if one["metadata"]["name"] == "a-before-upgrade"]
    job = find(render(MINIMAL, upgrade=True), "Job", "a-before-upgrade")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert [one["args"][:3] for one in pod["initContainers"]] == [["armillary", "backup", "create"]]
    assert [one["args"] for one in pod["containers"]] == [["armillary", "db", "upgrade"]]
    # A Secret that this version of the chart is the first to make is not there yet.
    first_needed = {one["name"] for one in pod["volumes"] if "secret" in one and not one["secret"].get("optional")}
    assert first_needed == {"secrets", "databases"}
    hub = find(render(MINIMAL, upgrade=True), "Deployment", "a-hub")["spec"]["template"]["spec"]
    assert not [one for one in hub["volumes"] if one.get("secret", {}).get("optional")]
    assert not [
        one for one in render(odd(), upgrade=True) if one["kind"] in ("Job", "CronJob", "PersistentVolumeClaim")
    ]


@pytest.mark.parametrize(("copy", "migrate"), [(True, False), (False, True)], ids=["copy", "migrate"])
def test_copy_and_tables_before_an_upgrade_can_each_be_turned_off(copy: bool, migrate: bool) -> None:
    values = deepcopy(MINIMAL)
    values["backup"] = {"beforeUpgrade": copy, "schedule": ""}
    values["database"] = {"migrateBeforeUpgrade": migrate}
    objects = render(values, upgrade=True)
    pod = find(objects, "Job", "a-before-upgrade")["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert [one["name"] for one in pod["containers"]] == ["backup" if copy else "migrate"]
    claims = [one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"]
    mounted = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert claims == mounted == (["a-backups"] if copy else [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"publicUrl": ""}, "publicUrl"),
        ({"puplicUrl": "x"}, "puplicUrl"),
        ({"settings": {"login": {}}}, "settings.login.issuer: name your OpenID Connect provider"),
        ({"settings": {"login": {"issuer": "https://x"}, "engine": "local"}}, "engine"),
        ({"login": {}}, "login.existingSecret"),
        ({"login": {"clientSecret": "one", "existingSecret": "other"}}, "there is one secret"),
        ({"database": {"bundled": {"enabled": False}}}, "database.existingSecret"),
        ({"database": {"existingSecret": "x"}}, "there is one database"),
        ({"gateway": {"enabled": True}}, "gateway.parentRefs"),
        ({"publicUrl": "https://192.0.2.7:8443/", "wildcard": True}, "wildcard: names of hosts"),
        ({"publicUrl": "http://localhost/", "wildcard": True}, "wildcard: names of hosts"),
        ({"service": {"autoscaling": {"minReplicas": 9}}}, "minReplicas is above maxReplicas"),
        ({"users": {"namespace": {"name": "core"}}}, "a namespace of their own"),
        ({"hub": {"replicas": 2}}, "replicas"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=re.escape(says)):
        render({**deepcopy(MINIMAL), **change})


def test_images_can_come_before_an_upgrade_goes_on() -> None:
    values = deepcopy(FULL)
    values["users"]["prePuller"].update(hook=False)
    assert not [one for one in render(values) if one["metadata"]["name"] == "a-pull-first"]
    values["users"]["prePuller"].update(hook=True, hookSeconds=90)
    objects = render(values)
    made = {one["kind"]: one for one in objects if one["metadata"]["name"] == "a-pull-first"}
    assert set(made) == {"DaemonSet", "ServiceAccount", "Role", "RoleBinding", "Job"}
    for kind, one in made.items():
        said = one["metadata"]["annotations"]
        assert said["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert said["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        assert said["helm.sh/hook-weight"] == ("-9" if kind == "Job" else "-10"), "what it waits for is there before it"
    pulled = find(objects, "DaemonSet", "a-pre-puller")["spec"]["template"]["spec"]
    first = made["DaemonSet"]["spec"]["template"]["spec"]
    assert first["initContainers"] == pulled["initContainers"]
    assert first["tolerations"] == pulled["tolerations"]
    assert "priorityClassName" not in first, "the chart's are not there before the first installation"
    assert made["Role"]["rules"] == [
        {"apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": ["a-pull-first"], "verbs": ["get"]}
    ]
    job = made["Job"]["spec"]
    assert job["activeDeadlineSeconds"] > 90
    assert job["template"]["spec"]["serviceAccountName"] == "a-pull-first"
    assert job["template"]["spec"]["containers"][0]["args"] == (
        ["python", "-m", "hub.pulled", "core", "a-pull-first", "--within", "90"]
    )
    selector = made["DaemonSet"]["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= job["template"]["metadata"]["labels"].items(), "the Job's pod is none of the others"


def test_one_value_gives_sessions_names_of_hosts_of_their_own(tmp_path: Path) -> None:
    def told(values: dict[str, Any]) -> tuple[list[str], list[str], list[str], bool, bool]:
        objects = render(values)
        [ingress] = [one["spec"] for one in objects if one["kind"] == "Ingress"]
        [route] = [one["spec"] for one in objects if one["kind"] == "HTTPRoute"]
        assert len({json.dumps(rule["http"]) for rule in ingress["rules"]}) == 1, "each leads to the same place"
        [proxy] = find(objects, "Deployment", "a-proxy")["spec"]["template"]["spec"]["containers"]
        (tmp_path / "armillary.yaml").write_text(find(objects, "ConfigMap", "a")["data"]["armillary.yaml"])
        return (
            [rule["host"] for rule in ingress["rules"]],
            ingress["tls"][0]["hosts"],
            route["hostnames"],
            "--host-routing" in proxy["args"],
            load(tmp_path / "armillary.yaml", {}).user_subdomains,
        )

    own = ["hub.example.org"]
    every = [*own, "*.hub.example.org"]
    assert told({**deepcopy(FULL), "wildcard": True}) == (every, every, every, True, True)
    assert told({**deepcopy(FULL), "wildcard": False}) == (own, own, own, False, False)


def test_sessions_reach_no_private_address_and_no_cloud_metadata() -> None:
    policy = find(render(MINIMAL), "NetworkPolicy", "a-sessions")["spec"]
    assert policy["podSelector"] == {}
    internet = [rule for rule in policy["egress"] if "ports" not in rule]
    [four, six] = [peer["ipBlock"] for rule in internet for peer in rule["to"]]
    private = {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "172.16.0.0/12", "168.63.129.16/32"}
    assert private <= set(four["except"])
    assert set(six["except"]) == {"fc00::/7", "fe80::/10"}


def test_names_are_asked_for_in_the_cluster_and_not_of_clouds_metadata() -> None:
    objects = render(MINIMAL)
    for name in ("a-sessions", "a-proxy"):
        policy = find(objects, "NetworkPolicy", name)["spec"]
        [dns] = [rule for rule in policy["egress"] if {port["port"] for port in rule.get("ports", [])} == {53, 5353}]
        blocks = {peer["ipBlock"]["cidr"]: peer["ipBlock"].get("except") for peer in dns["to"] if "ipBlock" in peer}
        assert blocks["169.254.0.0/16"] == ["169.254.169.254/32"]
        assert "0.0.0.0/0" not in blocks
        assert all("to" in rule for rule in policy["egress"])


def test_proxy_and_database_go_nowhere_else() -> None:
    objects = render(MINIMAL)
    assert find(objects, "NetworkPolicy", "a-postgres")["spec"]["egress"] == []
    assert find(objects, "NetworkPolicy", "a-controller")["spec"]["ingress"] == []
    proxy = find(objects, "NetworkPolicy", "a-proxy")["spec"]
    assert proxy["policyTypes"] == ["Ingress", "Egress"]
    [hub, service, sessions] = [rule["to"] for rule in proxy["egress"][1:]]
    assert [to[0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for to in (hub, service)] == [
        "hub",
        "service",
    ]
    assert sessions == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a-users"}}}]


def test_who_has_to_reach_whom_may() -> None:
    """Both policies say so where there are two: who leaves, and who is let in."""
    objects = render(MINIMAL)

    def lets_in(component: str, caller: str, port: int) -> bool:
        found = find(objects, "NetworkPolicy", f"a-{component}")["spec"]["ingress"]
        for rule in found:
            if port not in [one["port"] for one in rule["ports"]]:
                continue
            for peer in rule.get("from", [{}]):
                pod = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
                space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
                if not peer or pod == caller or (caller == "sessions" and space == "a-users" and pod is None):
                    return True
        return False

    for component, callers, port in (
        ("hub", ("proxy", "service", "controller", "sessions"), 8081),
        ("service", ("proxy", "sessions"), 8003),
        ("proxy", ("hub",), 8001),
        ("proxy", ("anybody", "sessions"), 8000),
        ("postgres", ("hub", "service", "controller", "backup"), 5432),
    ):
        for caller in callers:
            assert lets_in(component, caller, port), f"{caller} to {component}"
    assert not lets_in("postgres", "sessions", 5432)
    assert not lets_in("proxy", "sessions", 8001)
    sessions = find(objects, "NetworkPolicy", "a-sessions")["spec"]
    leaves = {
        (peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"], rule["ports"][0]["port"])
        for rule in sessions["egress"]
        for peer in rule.get("to", [])
        if "podSelector" in peer
    }
    assert leaves == {("hub", 8081), ("proxy", 8000), ("service", 8003)}


def test_without_the_internet_every_image_is_of_the_registry_that_the_values_name() -> None:
    [block] = [one for one in blocks("mine.yaml") if one.page == "docs/how-to/air-gapped.md"]
    values = yaml.safe_load(block.text)
    for upgrade in (False, True):
        made = {
            f"{name} {container['name']}": container["image"]
            for name, pod in pods(render(values, upgrade=upgrade))
            for container in containers(pod)
        }
        assert {kind.partition("/")[0] for kind in made} >= {"DaemonSet", "Deployment", "Job", "StatefulSet"}
        assert {name: image for name, image in made.items() if not image.startswith("registry.example.org/")} == {}
