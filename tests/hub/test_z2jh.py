"""Values of Zero to JupyterHub become ours: all of them are told of, what comes out is legal, homes are found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from helm.values import Values, schema
from hub.z2jh.claims import Claim, homes
from hub.z2jh.rules import RULES, Unusable
from hub.z2jh.values import turn
from profiles.loader import loads

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Draft202012Validator(schema())

THEIRS: dict[str, Any] = yaml.safe_load("""
fullnameOverride: ""
proxy:
  secretToken: abcdef
  service:
    type: NodePort
    nodePorts: {http: 30080}
  chp:
    resources: {requests: {cpu: 200m, memory: 512Mi}}
    networkPolicy: {enabled: true}
  https: {enabled: true, hosts: [other.example.org], letsencrypt: {contactEmail: a@example.org}}
ingress:
  enabled: true
  ingressClassName: nginx
  hosts: [hub.example.org]
  tls: [{secretName: hub-tls, hosts: [hub.example.org]}]
hub:
  baseUrl: /jupyter
  config:
    JupyterHub: {authenticator_class: generic-oauth, admin_access: true}
    GenericOAuthenticator:
      client_id: z2jh
      client_secret: geheim
      oauth_callback_url: https://hub.example.org/hub/oauth_callback
      authorize_url: https://login.example.org/auth
      scope: openid profile groups
      username_claim: preferred_username
      allowed_groups: [users]
      admin_groups: [admins]
    Authenticator: {admin_users: [ann]}
    KubeSpawner: {k8s_api_request_timeout: 9}
  extraConfig:
    "10 mine": |
      c.Spawner.http_timeout = 99
  extraEnv: {A: b, FROM: {valueFrom: {secretKeyRef: {name: x, key: y}}}}
  concurrentSpawnLimit: 32
  namedServerLimitPerUser: 2
  allowNamedServers: true
  db: {type: postgres, url: "postgresql://x"}
  nodeSelector: {core: "yes"}
  resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}
singleuser:
  image: {name: registry.example.org/lab, tag: "5"}
  cpu: {guarantee: 0.5, limit: 2}
  memory: {guarantee: 1G, limit: 2G}
  storage:
    type: dynamic
    capacity: 20Gi
    dynamic: {storageClass: fast, storageAccessModes: [ReadWriteMany]}
  extraEnv: {EDITOR: vim}
  startTimeout: 900
  defaultUrl: /lab
  networkPolicy: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
  cloudMetadata: {blockWithIptables: true}
  lifecycleHooks: {postStart: {exec: {command: [ls]}}}
  profileList:
    - display_name: Small
      default: true
    - display_name: GPU
      kubespawner_override: {extra_resource_limits: {nvidia.com/gpu: "1"}, mem_limit: 8G}
scheduling:
  userScheduler: {enabled: true}
  userPlaceholder: {enabled: true, replicas: 3}
  podPriority: {enabled: true}
prePuller: {hook: {enabled: false}, continuous: {enabled: true}}
cull: {enabled: true, timeout: 7200, every: 300, maxAge: 86400}
imagePullSecrets: [{name: registry}]
debug: {enabled: true}
nonsense: {of: ours}
""")


def test_what_means_the_same_here_is_carried_over() -> None:
    ours = turn(THEIRS).values
    assert ours["publicUrl"] == "https://hub.example.org/jupyter/"
    assert ours["settings"]["login"] == {
        "client_id": "z2jh",
        "scopes": ["openid", "profile", "groups"],
        "username_claim": "preferred_username",
        "allowed_groups": ["users"],
        "admin_groups": ["admins"],
    }
    assert ours["login"] == {"clientSecret": "geheim"}
    assert ours["settings"]["kubernetes"] == {
        "home_size": "20Gi",
        "storage_class": "fast",
        "home_access_mode": "ReadWriteMany",
    }
    assert ours["settings"]["servers"] == {"start_timeout_s": 900, "default_url": "/lab", "named_limit": 2}
    assert ours["settings"]["idle"] == {"cpu_hours": 2.0, "gpu_hours": 2.0, "session_hours": 24.0}
    assert ours["settings"]["hub"] == {"concurrent_starts": 32, "log_level": "DEBUG"}
    assert ours["hub"]["extraEnv"] == [
        {"name": "A", "value": "b"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}},
    ]
    assert ours["hub"]["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert ours["users"]["placeholders"] == {"replicas": 3}
    assert ours["users"]["prePuller"] == {"hook": False, "continuous": True}
    assert ours["ingress"] == {"enabled": True, "className": "nginx", "tls": {"secretName": "hub-tls"}}
    assert ours["imagePullSecrets"] == ["registry"]
    extra = ours["hub"]["extraConfig"]
    assert extra["10-mine"] == "c.Spawner.http_timeout = 99\n"
    assert set(extra["z2jh"].splitlines()) == {
        "c.JupyterHub.admin_access = True",
        "c.KubeSpawner.k8s_api_request_timeout = 9",
        "c.Spawner.environment.update({'EDITOR': 'vim'})",
        "c.KubeSpawner.lifecycle_hooks = {'postStart': {'exec': {'command': ['ls']}}}",
    }
    for name, text in extra.items():
        compile(text, name, "exec")


def test_the_list_of_profiles_becomes_a_catalogue_that_can_be_read() -> None:
    said = turn(THEIRS).values["catalogue"]
    assert said["profiles"][0]["kubespawner_override"] == {
        "cpu_guarantee": 0.5,
        "cpu_limit": 2,
        "mem_guarantee": "1G",
        "mem_limit": "2G",
        "image": "registry.example.org/lab:5",
    }
    assert said["profiles"][1]["kubespawner_override"]["mem_limit"] == "8G", "a profile's own wins"
    assert [*loads(yaml.safe_dump(said)).profiles] == ["small", "gpu"]


def test_every_value_is_told_of() -> None:
    told = {line.name for line in turn(THEIRS).lines}
    # what only makes another value together with its neighbours
    told |= {"proxy.https.enabled", "proxy.https.hosts", "hub.baseUrl", "hub.allowNamedServers", "cull.enabled"}
    told |= {"scheduling.userPlaceholder.enabled", "singleuser.storage.type", "fullnameOverride"}

    def look(values: Any, name: str) -> None:
        if any(name == one or name.startswith(f"{one}.") for one in told):
            return
        assert isinstance(values, dict), f"{name} is lost"
        for key, value in values.items():
            look(value, f"{name}.{key}" if name else key)

    look(THEIRS, "")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hub.db", "database.existingSecret"),
        ("hub.config.Authenticator.admin_users", "settings.login.admin_groups"),
        ("hub.config.GenericOAuthenticator.authorize_url", "settings.login.issuer"),
        ("proxy.https", "ingress.tls"),
        ("scheduling.userScheduler", "scheduler"),
        ("nonsense.of", "no such value"),
    ],
)
def test_what_has_no_counterpart_is_named_with_what_to_do(name: str, why: str) -> None:
    [line] = [line for line in turn(THEIRS).lines if line.name == name]
    assert line.kind == "missing"
    assert why in line.why


@pytest.mark.parametrize(
    "authenticator", ["github", "dummy", "ldapauthenticator.LDAPAuthenticator", "tmpauthenticator"]
)
def test_other_logins_need_a_provider(authenticator: str) -> None:
    lines = turn({"hub": {"config": {"JupyterHub": {"authenticator_class": authenticator}}}}).lines
    assert any("OpenID Connect" in line.why for line in lines if line.kind == "missing")


def problems(values: dict[str, Any]) -> list[str]:
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in SCHEMA.iter_errors(values)]


def test_what_comes_out_is_legal() -> None:
    ours = turn(THEIRS).values
    assert problems(ours) == []
    Values.model_validate(ours)


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.to))
def test_each_rule_leads_to_a_value_that_there_is(name: str) -> None:
    """With a value of each simple kind one is legal, or the rule says what is wrong with all of them."""
    rule = RULES[name]
    tried = []
    for value in (
        True,
        3,
        "text",
        "5Gi",
        "ReadWriteOnce",
        ["x"],
        ["ReadWriteOnce"],
        [{"name": "x"}],
        [],
        {},
        {"a": "b"},
        "NodePort",
        {"requests": {"cpu": "1"}},
    ):
        try:
            changed = rule.change(value)
        except (Unusable, TypeError, KeyError, AttributeError):
            continue
        said: Any = changed
        for part in reversed(rule.to.split(".")):
            said = {part: said}
        found = problems({"publicUrl": "https://x.org/", **said})
        if not found:
            return
        tried.append((value, found))
    raise AssertionError(tried)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**6), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["enabled", "a", "name", "x.y"]), inner, max_size=3),
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(RULES)), VALUES, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])  # that values are made slowly is a busy machine's affair
def test_nothing_that_somebody_wrote_ends_it(said: dict[str, Any]) -> None:
    theirs: dict[str, Any] = {}
    for name, value in said.items():
        *sections, last = name.split(".")
        into = theirs
        for section in sections:
            if not isinstance(into.get(section), dict):
                into[section] = {}
            into = into[section]
        into[last] = value
    turned = turn(theirs)
    yaml.safe_dump(turned.values)
    assert all(line.why or line.to for line in turned.lines if line.kind == "missing")


# --- homes -------------------------------------------------------------------------------------------------------


def test_homes_are_found_by_either_kind_of_name() -> None:
    person = "hub.jupyter.org/username"
    claims = [
        Claim("claim-ann", {person: "ann"}),
        Claim("claim-ben-40example-2eorg", {person: "ben@example.org"}),
        Claim("claim-carla-40example-2eorg"),
        Claim("claim-ann--second", {person: "ann"}),
        Claim("hub-db-dir"),
        Claim("claim-Broken-zz"),
    ]
    found = {home.claim: (home.user, home.scheme) for home in homes(claims, "claim-{username}")}
    assert found == {
        "claim-ann": ("ann", "safe"),
        "claim-ben-40example-2eorg": ("ben@example.org", "escape"),
        "claim-carla-40example-2eorg": ("carla@example.org", "escape"),
        "claim-ann--second": ("ann", ""),
        "claim-Broken-zz": ("", ""),
    }


# --- the command -------------------------------------------------------------------------------------------------


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "import", "z2jh", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_values_go_to_standard_output_or_a_file_and_the_report_beside(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(json.dumps(THEIRS))
    done = run(tmp_path, "theirs.yaml")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout) == turn(THEIRS).values
    assert "hub.concurrentSpawnLimit → settings.hub.concurrent_starts" in done.stderr
    assert "No counterpart: look at these:" in done.stderr
    again = run(tmp_path, "theirs.yaml", "--output", "ours.yaml")
    assert (again.returncode, again.stdout) == (0, "")
    assert yaml.safe_load((tmp_path / "ours.yaml").read_text()) == turn(THEIRS).values


@pytest.mark.parametrize(("text", "says"), [("a: [", "theirs.yaml cannot be used"), ("- a\n- b", "are a mapping")])
def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "theirs.yaml").write_text(text)
    done = run(tmp_path, "theirs.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_without_a_cluster_the_homes_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("{}")
    done = run(tmp_path, "theirs.yaml", "--namespace", "jupyter")
    assert done.returncode == 1
    assert "The homes cannot be looked at" in done.stderr
    assert run(tmp_path, "theirs.yaml", "--namespace", "../x").returncode == 2
