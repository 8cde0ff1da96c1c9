"""Plans of another MIG layout: what the node has, who would be stopped, what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hub import cli
from hub.cluster_api import Forbidden, NotFound
from hub.mig.layout import layouts_of, offered, unread
from hub.mig.names import RECORD
from hub.mig.occupants import occupants_of
from hub.mig.plan import Plan, make_plan
from hub.mig.record import Record, me, record_of, surely_gone
from hub.mig.rights import to_change, to_drain
from hub.mig.view import look
from tests.docs.blocks import blocks
from tests.hub.mig_world import CONFIG, FakeApi, manager_pod, mig_node, pod, session

DOCS = Path(__file__).resolve().parents[2] / "docs" / "how-to"
LAYOUTS = layouts_of(CONFIG) or {}
SEVEN = {"nvidia.com/mig-1g.5gb": "7", "nvidia.com/gpu": "0"}
BALANCED = {"nvidia.com/mig-1g.5gb": "2", "nvidia.com/mig-2g.10gb": "1", "nvidia.com/mig-3g.20gb": "1"}


def plan(*pods: dict[str, Any], node: dict[str, Any] | None = None, layout: str = "all-1g.5gb", **api: Any) -> Plan:
    return make_plan(look(FakeApi(node or mig_node(), *pods, **api), "gpu-1"), layout)


@pytest.mark.parametrize(
    ("layout", "offer", "labels", "shown"),
    [
        ("all-disabled", {"nvidia.com/gpu": "1"}, {}, True),
        ("all-disabled", SEVEN, {}, False),
        ("all-disabled", {"nvidia.com/gpu": "0"}, {}, False),
        ("all-1g.5gb", SEVEN, {}, True),
        ("all-1g.5gb", {**SEVEN, "nvidia.com/gpu": "1"}, {}, False),
        ("all-1g.5gb", {"nvidia.com/mig-1g.5gb.shared": "14"}, {}, True),
        ("all-1g.5gb", {"nvidia.com/gpu": "7"}, {"mig_strategy": "single", "gpu_product": "A100-MIG-1g.5gb"}, True),
        ("all-1g.5gb", {"nvidia.com/gpu": "1"}, {"mig_strategy": "single", "gpu_product": "A100"}, False),
        ("all-1g.10gb.me", {"nvidia.com/mig-1g.10gb.me": "1"}, {}, True),
        ("all-enabled", {"nvidia.com/gpu": "0"}, {}, True),
        ("half", {**SEVEN, "nvidia.com/gpu": "1"}, {}, True),
        ("half", SEVEN, {}, False),
        ("all-balanced", BALANCED, {}, True),
        ("all-balanced", {}, {}, False),
        ("all-balanced", SEVEN | {"nvidia.com/gpu": "1"}, {}, False),
    ],
)
def test_whether_a_node_shows_a_layout(layout: str, offer: dict[str, str], labels: dict[str, str], shown: bool) -> None:
    assert LAYOUTS[layout].shown_by(mig_node(offer, **labels)) is shown


@pytest.mark.parametrize(
    ("name", "offer", "shown"),
    [
        ("all-1g.5gb", SEVEN, True),
        ("all-1g.5gb", {"nvidia.com/gpu": "1"}, False),
        ("all-disabled", {"nvidia.com/gpu": "1"}, True),
        ("all-disabled", SEVEN, False),
    ],
)
def test_a_name_alone_says_what_to_expect(name: str, offer: dict[str, str], shown: bool) -> None:
    layout = unread(name)
    assert layout is not None
    assert layout.shown_by(mig_node(offer)) is shown


def test_a_name_of_ones_own_says_nothing() -> None:
    assert unread("our-layout") is None
    assert unread("all-balanced") is None


@pytest.mark.parametrize("text", ["", "[", "a: 1", "mig-configs: 3", "- x", "x" * (10**6 + 1)])
def test_what_is_no_configuration_is_none(text: str) -> None:
    assert layouts_of(text) is None


@pytest.mark.parametrize("parts", ["[3]", "[{}]", "[{mig-enabled: true, mig-devices: 3}]", "[{mig-enabled: true}]"])
def test_odd_parts_of_a_configuration_are_borne(parts: str) -> None:
    assert set(layouts_of(f"mig-configs: {{x: {parts}, y: 3}}") or {}) == {"x"}


def test_what_is_offered_is_named_by_profile_under_both_strategies() -> None:
    assert offered(mig_node({**SEVEN, "nvidia.com/gpu": "2"})) == {"1g.5gb": 7, "": 2}
    single = mig_node({"nvidia.com/gpu": "7"}, mig_strategy="single", gpu_product="A100-SXM4-40GB-MIG-1g.5gb")
    assert offered(single) == {"1g.5gb": 7}


def test_sessions_come_first_and_what_is_over_or_has_no_card_is_none() -> None:
    over = pod("over", {"nvidia.com/gpu": "1"})
    over["status"]["phase"] = "Succeeded"
    plugin = pod("plugin", {"nvidia.com/gpu": "1"}, namespace="gpu-operator")
    plugin["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "validator", "controller": True}]
    pods = [pod("job", {"nvidia.com/mig-1g.5gb": "2"}), pod("web"), over, plugin, session("a", "alice", "a100")]
    found = occupants_of(pods, lambda _: False, "gpu-operator")
    assert [str(one) for one in found] == [
        "the session of alice (the default server, a100; pod sessions/a, since 2026-11-21T09:00:00Z)",
        "pod jobs/job, since 2026-11-21T09:00:00Z (2 nvidia.com/mig-1g.5gb)",
    ]


def test_names_of_pods_and_users_cannot_break_a_line() -> None:
    bad = session("a", "eve\nStops: nobody", "a100", server="x\ny")
    (one,) = occupants_of([bad], lambda _: False)
    assert str(one).isprintable()


def test_the_plan_says_everything_and_changes_nothing() -> None:
    api = FakeApi(mig_node(), manager_pod(), session("a", "alice", "a100", "big"), session("b", "bob"), pod("job"))
    before = str(api.node)
    lines = list(make_plan(look(api, "gpu-1"), "all-1g.5gb").lines())
    assert lines == [
        "Node gpu-1: NVIDIA-A100-SXM4-40GB, MIG strategy mixed.",
        "Now: layout all-disabled, of which the MIG manager says success; it offers 1 nvidia.com/gpu.",
        "Asked for: all-1g.5gb: 7 × 1g.5gb on each card.",
        "Would stop: the session of alice (server 'big', a100; pod sessions/a, since 2026-11-21T09:00:00Z).",
        "Goes on: the session of bob (the default server, no card; pod sessions/b, since 2026-11-21T09:00:00Z).",
    ]
    assert str(api.node) == before


def test_where_the_node_may_restart_every_session_is_stopped() -> None:
    made = plan(manager_pod(reboots=True), session("b", "bob"), pod("web"))
    assert [one.user for one in made.stops] == ["bob"]
    assert made.warnings == ("the MIG manager may restart the node; 2 other pods would be restarted with it.",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"node": mig_node(mig_capable="false")}, "its cards cannot be partitioned"),
        ({"layout": "all-1g.5g"}, "the MIG manager has no layout 'all-1g.5g' (did you mean all-1g.5gb?); those of"),
        ({"pods": ()}, "no MIG manager runs on it"),
    ],
)
def test_what_cannot_be_done_is_said(change: dict[str, Any], problem: str) -> None:
    pods = change.pop("pods", (manager_pod(),))
    assert any(problem in text for text in plan(*pods, **change).problems)


def test_a_daemon_with_a_card_is_in_the_way() -> None:
    daemon = pod("watch", {"nvidia.com/gpu": "1"})
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "watcher", "controller": True}]
    assert plan(manager_pod(), daemon).problems == (
        "DaemonSet watcher would start jobs/watch anew; keep it off the node first.",
    )


@pytest.mark.parametrize(
    ("labels", "layout", "warning"),
    [
        ({"mig_capable": ""}, "all-1g.5gb", "no label nvidia.com/mig.capable says"),
        ({"mig_strategy": "single"}, "half", "with the strategy single a node must have slices of one size"),
        ({"mig_strategy": "none"}, "all-1g.5gb", "the device plugin offers no slices with the strategy none"),
        ({"mig_config_state": "pending"}, "all-1g.5gb", "a change is under way (pending)"),
    ],
)
def test_warnings(labels: dict[str, str], layout: str, warning: str) -> None:
    made = plan(manager_pod(), node=mig_node(**labels), layout=layout)
    assert made.problems == ()
    assert any(warning in text for text in made.warnings)


def test_layouts_are_those_that_the_manager_was_given_then_its_own_then_the_default() -> None:
    own = "mig-configs: {ours: [{devices: all, mig-enabled: false}]}"
    assert set(plan(manager_pod("ours"), configs={"ours": own, "gpu-1-mig-config": CONFIG}).view.layouts or ()) == {
        "ours"
    }
    both = {"default-mig-parted-config": own, "gpu-1-mig-config": CONFIG}
    assert set(plan(manager_pod(), configs=both).view.layouts or ()) == set(LAYOUTS)
    assert plan(manager_pod(), configs={}).view.layouts is None
    assert "whether the MIG manager knows the layout cannot be seen" in plan(manager_pod(), configs={}).warnings[0]


def test_layouts_out_of_sight_are_a_warning_that_names_the_right() -> None:
    api = FakeApi(mig_node(), manager_pod())

    def refuse(method: str, path: str) -> None:
        if "configmaps" in path:
            raise Forbidden("These credentials may not get configmaps.")

    api.before = refuse
    made = make_plan(look(api, "gpu-1"), "all-1g.5gb")
    assert made.problems == ()
    assert "These credentials may not get configmaps" in made.warnings[0]


def test_the_layout_that_is_there_already_is_done() -> None:
    there = mig_node(SEVEN, mig_config="all-1g.5gb")
    assert plan(manager_pod(), node=there).done
    assert not plan(manager_pod(), node=mig_node(SEVEN, mig_config="all-1g.5gb", mig_config_state="failed")).done
    assert not plan(manager_pod(), node=mig_node({"nvidia.com/gpu": "1"}, mig_config="all-1g.5gb")).done
    begun = Record("all-1g.5gb", "all-disabled", cordoned=False, asked="all-1g.5gb").as_annotation()
    assert not plan(manager_pod(), node=mig_node(SEVEN, {RECORD: begun}, mig_config="all-1g.5gb")).done


def claiming(driver: str | None) -> tuple[FakeApi, dict[str, Any]]:
    one = pod("dra")
    one["spec"]["resourceClaims"] = [{"name": "card"}]
    one["status"]["resourceClaimStatuses"] = [{"name": "card", "resourceClaimName": "dra-card-1"}]
    api = FakeApi(mig_node(), manager_pod(), one)
    plain_ask = api.ask

    def ask(method: str, path: str, *more: Any, **options: Any) -> dict[str, Any]:
        if path.endswith("/resourceclaims/dra-card-1"):
            if driver is None:
                raise Forbidden("no")
            return {"status": {"allocation": {"devices": {"results": [{"driver": driver}]}}}}
        return plain_ask(method, path, *more, **options)

    api.ask = ask  # type: ignore[method-assign]
    return api, one


@pytest.mark.parametrize(("driver", "stops"), [("gpu.nvidia.com", 1), ("nic.example.org", 0), (None, 1)])
def test_pods_with_devices_by_dra_count_and_unreadable_claims_count_too(driver: str | None, stops: int) -> None:
    api, _ = claiming(driver)
    assert len(make_plan(look(api, "gpu-1"), "all-1g.5gb").stops) == stops


def test_a_node_that_is_not_there() -> None:
    api = FakeApi(mig_node())
    with pytest.raises(NotFound, match="no node 'gpu-2'"):
        look(api, "gpu-2")


def test_this_process_lives_and_others_are_gone_only_where_that_is_sure() -> None:
    assert not surely_gone(me())
    host, boot, namespace, pid, started = me().split()
    assert surely_gone(f"{host} {boot} {namespace} {pid} {int(started) + 1}")
    assert surely_gone(f"{host} {boot} {namespace} 4194305 5")
    assert not surely_gone(f"other {boot} {namespace} 4194305 5")
    assert not surely_gone(f"{host} other {namespace} 4194305 5")
    assert not surely_gone("something else")
    assert surely_gone("")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layout": 1}', "null"])
def test_a_record_that_cannot_be_read_is_none(text: str) -> None:
    assert record_of(mig_node(annotations={RECORD: text})) is None


@pytest.mark.parametrize(
    "words",
    [
        ("mig", "apply", "n", "--layout", "a b"),
        ("mig", "apply", "n", "--layout", ""),
        ("mig", "apply", "n"),
        ("mig", "apply", "n", "--layout", "x", "--grace", "-1"),
        ("mig", "apply", "n", "--layout", "x", "--timeout", "soon"),
        ("mig", "apply", "n", "--layout", "x", "--hub-url", "file:///etc/passwd"),
    ],
)
def test_wrong_calls_have_status_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_hub_without_its_token_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mig", "apply", "n", "--layout", "x", "--yes", "--hub-url", "https://hub.example.org/"]) == 2
    assert "belong together" in capsys.readouterr().err


def test_the_plan_in_the_documentation_is_what_is_said() -> None:
    page = (DOCS / "mig.md").read_text(encoding="utf-8")
    shown = page.split("```text\n")[1].split("```")[0].splitlines()
    lines = plan(manager_pod(), session("jupyter-alice", "alice", "a100")).lines()
    assert shown == [*lines, "Nothing was changed."]


def test_the_roles_in_the_documentation_are_the_rights_that_are_used() -> None:
    (block,) = blocks("mig-roles.yaml")
    roles = {role["metadata"]["name"]: role["rules"] for role in yaml.safe_load_all(block.text)}
    named = {
        name: {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}
        for name, rules in roles.items()
    }
    optional = {("get", "configmaps"), ("get", "resourceclaims")}
    asked = {(right.verb, right.resource) for right in [*to_change(), *to_drain({"a"}, {"b"})]}
    assert named["armillary-mig-apply"] == asked | optional
    assert named["armillary-mig-plan"] == {("get", "nodes"), ("list", "pods")} | optional
