"""Two hubs on one cluster, for two communities: neither sees the other, looked at from inside their sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import DESKTOP
from tests.browser.steps import in_lab, log_in
from tests.cluster.reach import OPEN, SILENT, Target, reached
from tests.helm.release import Release, installed
from tests.lab import kubernetes, policies

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

USER = "researcher-1"
SMALL = {"service": {"replicas": 1}, "controller": {"replicas": 1}}


@dataclass(frozen=True)
class Two:
    """Both, with a session of the same account name in each."""

    red: Release
    blue: Release


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    with (
        kubernetes.in_use() as cluster,
        policies.enforced(cluster) as settle,
        installed(cluster, folder, "red", SMALL) as red,
        installed(cluster, folder, "blue", SMALL) as blue,
    ):
        for release in (red, blue):
            context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
            context.set_default_timeout(60_000)
            page = context.new_page()
            log_in(page, release, USER)
            expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
            page.get_by_role("button", name="Start").click()
            in_lab(page)
            context.close()
        settle()
        yield Two(red, blue)


def session(release: Release) -> dict[str, Any]:
    """The one session of a release."""
    [found] = release.get("pods", "-l", "component=singleuser-server", namespace=release.users)
    return found


def inside(release: Release, code: str) -> str:
    """What Python prints in the session."""
    pod = session(release)["metadata"]["name"]
    return release.cluster.kubectl("exec", "-n", release.users, pod, "--", "python3", "-c", code).strip()


def targets(release: Release) -> dict[str, Target]:
    """Where a release's parts and its session listen."""
    found = {one["metadata"]["name"]: one["spec"]["clusterIP"] for one in release.get("services")}
    name = release.name
    return {
        "hub": (found[f"{name}-hub"], 8081),
        "service": (found[f"{name}-service"], 8003),
        "proxy": (found[f"{name}-proxy"], 80),
        "proxy's API": (found[f"{name}-proxy-api"], 8001),
        "database": (found[f"{name}-postgres"], 5432),
        "session": (session(release)["status"]["podIP"], 8888),
    }


@pytest.mark.parametrize("which", ["red", "blue"])
def test_a_session_reaches_its_own_hub_and_nothing_of_the_other(two: Two, which: str) -> None:
    mine, other = (two.red, two.blue) if which == "red" else (two.blue, two.red)
    pod = session(mine)["metadata"]["name"]
    own, foreign = targets(mine), targets(other)
    asked = [own["hub"], own["proxy"], own["service"], *foreign.values()]
    found = reached(mine.cluster, mine.users, pod, asked)
    assert {name: found[own[name]] for name in ("hub", "proxy", "service")} == dict.fromkeys(
        ("hub", "proxy", "service"), OPEN
    )
    assert {name: found[target] for name, target in foreign.items()} == dict.fromkeys(foreign, SILENT)


def test_a_token_of_one_is_nothing_at_the_other(two: Two) -> None:
    token = inside(two.red, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])")
    headers = {"Authorization": f"token {token}"}
    assert httpx.get(f"{two.red.url}/hub/api/user", headers=headers).status_code == 200
    assert httpx.get(f"{two.blue.url}/hub/api/user", headers=headers).status_code == 403


def test_homes_are_separate(two: Two) -> None:
    inside(two.red, "open('colour', 'w').write('red')")
    assert inside(two.blue, "import os; print(os.path.exists('colour'))") == "False"
    claims = [
        one["spec"]["volumeName"]
        for release in (two.red, two.blue)
        for one in release.get("pvc", namespace=release.users)
    ]
    assert len(claims) == len(set(claims)) == 2


def test_secrets_and_objects_of_the_cluster_are_separate(two: Two) -> None:
    [red], [blue] = (
        [one for one in each.get("secrets") if one["metadata"]["name"] == each.name] for each in (two.red, two.blue)
    )
    assert not set(red["data"].values()) & set(blue["data"].values())
    kinds = "clusterroles,clusterrolebindings,priorityclasses"
    named = [
        {
            (one["kind"], one["metadata"]["name"])
            for one in each.get(kinds, "-l", f"app.kubernetes.io/instance={each.name}")
        }
        for each in (two.red, two.blue)
    ]
    assert all(named)
    assert not named[0] & named[1]


def test_rights_end_at_the_other_one(two: Two) -> None:
    account = f"system:serviceaccount:{two.red.namespace}:red-hub"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": {"verb": "list", "resource": "pods"}},
    }

    def may(namespace: str) -> bool:
        review["spec"]["resourceAttributes"]["namespace"] = namespace  # type: ignore[index]
        said = two.red.cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review))
        return bool(json.loads(said)["status"]["allowed"])

    assert may(two.red.users)
    assert not may(two.blue.users)
    assert not may(two.blue.namespace)


def test_limits_of_one_do_not_hold_at_the_other(two: Two, browser: Browser) -> None:
    two.blue.upgrade({"quotas": {"default": {"servers": 7}}})
    assert limits(two.blue, browser) == {"servers": 7.0}
    assert limits(two.red, browser) == {}


def limits(release: Release, browser: Browser) -> dict[str, float]:
    """What limits somebody, as their page is told."""
    context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
    try:
        page = context.new_page()
        log_in(page, release, "researcher-2")
        expect(page.get_by_role("heading", name="Start a session")).to_be_visible(timeout=60_000)
        page.goto(f"{release.url}/services/armillary/usage")
        said = context.request.get(f"{release.url}/services/armillary/api/quotas").json()
        return {one["field"]: one["value"] for account in said["accounts"] for one in account["limits"]}
    finally:
        context.close()
