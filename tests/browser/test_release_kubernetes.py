"""A release of the chart on a real Kubernetes: log in, work, upgrade under a running kernel, uninstall."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.dbutil import ALEMBIC_DIR
from playwright.sync_api import Browser, BrowserContext, Page, expect

from hub.db import steps
from tests.browser.conftest import DESKTOP, Shots
from tests.browser.steps import card, in_lab, log_in, pick, start, stop
from tests.browser.test_capacity_kubernetes import cards
from tests.helm.chart import CHART
from tests.helm.monitored_release import CARD, CARDS, WATCHED, World, ruled, seen, shown, watching
from tests.helm.release import Release, installed, merged, of_now
from tests.hub.site import wait_for
from tests.lab import crds, kubernetes, policies
from tests.lab.earlier import earlier
from tests.lab.errors import LabError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("release")
    with (
        kubernetes.in_use() as cluster,
        policies.enforced(cluster),
        crds.known(cluster),
        cards(cluster, CARDS),
        installed(cluster, folder, "lab", version=earlier()) as made,
    ):
        yield made


def now(release: Release) -> dict[str, Any]:
    """Values of what this checkout has, watched by a Prometheus."""
    return merged(of_now(release.cluster), WATCHED)


@pytest.fixture(scope="module")
def world(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The release, of this checkout from here on, and a Prometheus that watches it while the other tests run."""
    if release.chart != CHART:
        release.upgrade(now(release))
    with watching(release, tmp_path_factory.mktemp("prometheus")) as made:
        yield made


def run(page: Page, code: str) -> None:
    """Run a line in the console that is open."""
    prompt = page.locator(".jp-CodeConsole-promptCell .cm-content")
    prompt.click()
    page.keyboard.type(code)
    page.keyboard.press("Shift+Enter")


def console(page: Page) -> None:
    """Open a console of Python from the launcher, and wait for its kernel."""
    page.locator(".jp-LauncherCard[data-category=Console]").first.click()
    expect(page.locator(".jp-CodeConsole")).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-CodeConsole-banner, .jp-CodeConsole-content").first).to_contain_text(
        "Python 3", timeout=60_000
    )


def test_a_session_goes_on_through_an_upgrade_from_the_version_before(
    browser: Browser, release: Release, shots: Shots
) -> None:
    context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    log_in(page, release, "researcher-1")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    start(page)
    console(page)
    run(page, "answer = 41 + 1")
    run(page, "print('before', answer)")
    expect(page.locator(".jp-OutputArea-output", has_text="before 42")).to_be_visible()
    page.evaluate("window.same = true")
    hub = release.pod("hub")

    later = "c.JupyterHub.template_vars.update({'announcement': 'This is the newer version.'})"
    first = {"users": {"prePuller": {"hook": True}}, "hub": {"extraConfig": {"10-newer": later}}}
    release.upgrade(merged(now(release), first))

    assert release.pod("hub") != hub
    done = {"spec.initContainers{backup}", "spec.containers{migrate}"}
    wait_for(lambda: started(release, "lab-before-upgrade-") == done, "the word that both have run", 30, 0.5)
    run(page, "print('after', answer)")
    expect(page.locator(".jp-OutputArea-output", has_text="after 42")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.same") is True, "the page was loaded anew"
    page.goto(f"{release.url}/hub/home")
    expect(page.get_by_text("This is the newer version.")).to_be_visible()
    shots.take(page, "release-upgraded")

    # the images were brought to the nodes before, and nothing of that is left
    brought = [one["reason"] for one in release.get("events") if one["involvedObject"]["name"] == "lab-pull-first"]
    assert "Completed" in brought, brought
    assert release.get("daemonsets,jobs,serviceaccounts,roles", "-l", "app.kubernetes.io/component=pull-first") == []

    # it is restarted by nothing that does not concern it
    proxy = release.pod("proxy")
    release.upgrade({"users": {"prePuller": {"hook": False}}, "hub": {"extraConfig": {"20-nothing": "pass"}}})
    assert release.pod("proxy") == proxy, "the proxy was restarted"

    # the proxy is lost: routes come back, and the kernel goes on
    page.goto(f"{release.url}/user/researcher-1/lab")
    in_lab(page)
    expect(page.locator(".jp-CodeConsole")).to_be_visible(timeout=60_000)
    release.cluster.kubectl("delete", "pod", "-n", release.namespace, proxy, "--wait=true")
    wait_for(release.healthy, "the hub behind the new proxy", 60)
    began = time.monotonic()
    wait_for(lambda: _answers(page, f"{release.url}/user/researcher-1/api"), "the route", 60, 0.5)
    print(f"routes are back {time.monotonic() - began:.0f} s after the proxy", flush=True)
    page.goto(f"{release.url}/user/researcher-1/lab")
    in_lab(page)
    run(page, "print('again', answer)")
    expect(page.locator(".jp-OutputArea-output", has_text="again 42")).to_be_visible(timeout=60_000)
    stop(page, release)
    context.close()


@dataclass(frozen=True)
class Kernel:
    """Somebody's console, open in a page, with a variable in its kernel."""

    page: Page

    def goes_on(self, sign: str) -> None:
        """Assert that the same kernel answers in the same page."""
        run(self.page, f"print({sign!r}, answer)")
        expect(self.page.locator(".jp-OutputArea-output", has_text=f"{sign} 42")).to_be_visible(timeout=60_000)
        assert self.page.evaluate("window.same") is True, "the page was loaded anew"


@pytest.fixture(scope="class")
def kernel(browser: Browser, release: Release) -> Iterator[Kernel]:
    context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    log_in(page, release, "instructor")
    start(page)
    console(page)
    run(page, "answer = 41 + 1")
    page.evaluate("window.same = true")
    yield Kernel(page)
    stop(page, release)
    context.close()


@pytest.mark.usefixtures("world")
class TestWhatASessionOutlives:
    """One session, while one part after the other breaks."""

    def test_a_hub_that_is_evicted_comes_back_and_knows_the_session(self, release: Release, kernel: Kernel) -> None:
        hub, namespace = release.pod("hub"), release.namespace
        asked = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": hub, "namespace": namespace}}
        where = f"/api/v1/namespaces/{namespace}/pods/{hub}/eviction"
        release.cluster.kubectl("create", "--raw", where, "-f", "-", input=json.dumps(asked))
        kernel.goes_on("evicted")
        release.cluster.kubectl("wait", "--for=delete", f"pod/{hub}", "-n", namespace, "--timeout=60s")
        wait_for(release.healthy, "another hub", 90)
        kernel.goes_on("replaced")
        running(kernel, release)

    def test_tables_that_cannot_be_brought_up_to_date_end_an_upgrade_before_the_hub(
        self, release: Release, kernel: Kernel
    ) -> None:
        """The step from this version was done already, so it fails. The copy is made before."""
        hub, newest = release.pod("hub"), jupyterhub_version(release)
        before = steps.plan(Path(ALEMBIC_DIR)).get_revision(newest).down_revision
        jupyterhub_version(release, str(before))
        try:
            with pytest.raises(AssertionError) as refused:
                release.upgrade({})
        finally:
            jupyterhub_version(release, newest)
        assert "already exists" in str(refused.value), "what the Job has said"
        assert release.pod("hub") == hub
        kernel.goes_on("refused")
        running(kernel, release)

    @pytest.mark.parametrize("copy", [True, False], ids=["at the copy", "at the hub"])
    def test_an_upgrade_whose_image_is_not_there_is_broken_off_and_taken_back(
        self, release: Release, kernel: Kernel, tmp_path: Path, copy: bool
    ) -> None:
        """Killed before the hub was replaced, and after: then nobody can log in until it is taken back."""
        hub = release.pod("hub")
        absent = {"images": {"hub": {"tag": "not-there"}}}
        upgrade = release.broken_upgrade(absent, tmp_path, *([] if copy else ["--no-hooks"]))
        try:
            what = "job-name=lab-before-upgrade" if copy else "app.kubernetes.io/component=hub"
            wait_for(lambda: "ImagePullBackOff" in reasons(release, what), "the image to be missed", 90, 0.5)
        finally:
            upgrade.kill()
            upgrade.wait()
        assert release.healthy() is copy
        kernel.goes_on(f"broken {copy}")
        with pytest.raises(LabError, match="another operation"):
            release.cluster.helm("upgrade", release.name, str(release.chart), "-n", release.namespace, "--reuse-values")
        release.roll_back()
        assert (release.pod("hub") == hub) is copy
        kernel.goes_on(f"back {copy}")
        release.upgrade({})
        running(kernel, release)

    def test_without_its_database_nobody_starts_and_what_runs_goes_on(
        self, browser: Browser, release: Release, kernel: Kernel
    ) -> None:
        context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
        page = context.new_page()
        log_in(page, release, "researcher-1")
        expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
        namespace, database = release.namespace, f"statefulset/{release.name}-postgres"
        before = {name: release.pod(name) for name in ("hub", "proxy")}
        release.cluster.kubectl("scale", database, "--replicas=0", "-n", namespace)
        try:
            release.cluster.kubectl(
                "wait", "--for=delete", f"pod/{release.name}-postgres-0", "-n", namespace, "--timeout=30s"
            )
            # The hub may first have to learn that its connection leads nowhere.
            page.get_by_role("button", name="Start").click(no_wait_after=True)
            expect(page.get_by_text("database does not answer").first).to_be_visible(timeout=60_000)
            kernel.goes_on("alone")
            page.goto(f"{release.url}/hub/home")
            expect(page.get_by_text("The hub's database does not answer at the moment")).to_be_visible()
            page.wait_for_timeout(30_000)
            kernel.goes_on("still alone")
        finally:
            release.cluster.kubectl("scale", database, "--replicas=1", "-n", namespace)
        release.cluster.kubectl("rollout", "status", database, "-n", namespace, "--timeout=90s")
        kernel.goes_on("together")
        # kube-proxy leads to a pod a moment after that is ready
        wait_for(lambda: _answers(page, f"{release.url}/hub/spawn"), "the hub's pages", 30, 0.5)
        start(page)
        stop(page, release)
        context.close()
        assert {name: release.pod(name) for name in before} == before, "a restart would not have helped"


def running(kernel: Kernel, release: Release) -> None:
    """Assert that the hub's page of one's sessions has it."""
    page = kernel.page.context.new_page()
    page.goto(f"{release.url}/hub/home")
    expect(page.get_by_role("button", name="Stop and lose unsaved work")).to_be_visible()
    page.close()


def reasons(release: Release, selector: str) -> set[str]:
    """What the containers of these pods wait for."""
    return {
        state["state"]["waiting"]["reason"]
        for pod in release.get("pods", "-l", selector)
        for kind in ("initContainerStatuses", "containerStatuses")
        for state in pod["status"].get(kind, ())
        if "waiting" in state["state"]
    }


def started(release: Release, pods: str) -> set[str]:
    """Which containers of pods whose names begin so have been started; known also of pods that are gone."""
    found = release.get("events", "--field-selector", "involvedObject.kind=Pod,reason=Started")
    return {one["involvedObject"]["fieldPath"] for one in found if one["involvedObject"]["name"].startswith(pods)}


_VERSION = """
import sys
from sqlalchemy import create_engine, text
with create_engine(open("/run/armillary/databases/jupyterhub-url").read().strip()).begin() as connection:
    if sys.argv[1:]:
        connection.execute(text("UPDATE alembic_version SET version_num = :given"), {"given": sys.argv[1]})
    print(connection.scalar(text("SELECT version_num FROM alembic_version")))
"""


def jupyterhub_version(release: Release, *given: str) -> str:
    """Return the version that is written down for JupyterHub's tables, after writing another one if one is given."""
    where = ("exec", "-n", release.namespace, f"deployment/{release.name}-controller", "--")
    return release.cluster.kubectl(*where, "python", "-c", _VERSION, *given).strip()


@pytest.mark.parametrize("part", ["hub", "controller"])
def test_the_doctor_finds_nothing_wrong(release: Release, part: str) -> None:
    where = ("exec", "-n", release.namespace, f"deployment/{release.name}-{part}", "--")
    looked = f"armillary doctor --json --part {part}; true"  # its status says what the findings say
    said = json.loads(release.cluster.kubectl(*where, "sh", "-c", looked))
    assert [one for one in said if one["grade"] == "problem"] == []
    assert {one["text"] for one in said if one["area"] == "Rights"} == {f"the {part} may do all that it needs"}
    assert {"Cluster", "Controller", "Database", "Clocks"} <= {one["area"] for one in said}


def test_vs_code_edits_a_file_and_its_terminal_runs_python(
    browser: Browser, release: Release, world: World, shots: Shots
) -> None:
    context = browser.new_context(viewport=DESKTOP, locale="en-GB", ignore_https_errors=True)
    context.set_default_timeout(90_000)
    page = context.new_page()
    log_in(page, release, "researcher-2")
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    page.get_by_label("Open with").select_option(label="VS Code")
    expect(card(page, "Card")).to_contain_text("1 of 1 free")
    pick(page, "Card")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/user/researcher-2/vscode/**", timeout=120_000)

    # meanwhile somebody waits for the one card, and somebody may have no session
    assert world.ask("researcher-1", CARD).json()["state"] == "queued"
    assert world.ask("administrator", CARD).json()["code"] == "quota-servers"

    home = f"{release.url}/user/researcher-2/api/contents"
    proof = {"X-XSRFToken": next(one["value"] for one in context.cookies(home) if one["name"] == "_xsrf")}
    file = {"type": "file", "format": "text", "content": "print('old')\n"}
    assert context.request.put(f"{home}/answer.py", data=file, headers=proof).ok

    # edit a file
    page.get_by_role("treeitem", name="answer.py").dblclick()
    lines = page.locator(".editor-instance .view-lines")
    expect(lines).to_contain_text("old")
    lines.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("print(6 * 7)")
    page.keyboard.press("Control+s")
    wait_for(lambda: _text(context, f"{home}/answer.py") == "print(6 * 7)", "the file to be saved", 30, 1.0)

    # the terminal runs it; its text is a picture, so what it did is looked for in the home
    page.keyboard.press("Control+Backquote")
    page.get_by_role("button", name=re.compile("Trust")).last.click()
    page.locator(".terminal-wrapper.active .xterm-screen").click()

    def ran() -> bool:
        page.keyboard.type("python answer.py > said.txt 2>&1\n")  # what is typed before the shell is there is lost
        page.wait_for_timeout(3_000)
        print("the terminal:", _text(context, f"{home}/said.txt"), flush=True)
        return _text(context, f"{home}/said.txt") == "42\n"

    wait_for(ran, "the terminal to run Python", 60, 1.0)
    shots.take(page, "vscode")
    stop(page, release)
    context.close()


def _text(context: BrowserContext, address: str) -> str:
    """What a file of the home says; empty if there is none."""
    answer = context.request.get(f"{address}?content=1")
    return str(answer.json()["content"]) if answer.ok else ""


def test_dashboards_show_and_rules_know_what_was_seen_meanwhile(world: World) -> None:
    shown(world)
    ruled(world, fired={"ArmillaryHubDown"})
    seen(world)
    wait_for(lambda: world.ready("researcher-1"), "the session of the next one in line", 120, 0.5)
    world.stop("researcher-1")


def test_nothing_stays_but_what_is_to_be_kept(release: Release) -> None:
    release.uninstall()

    def left() -> list[str]:
        kinds = (
            "deployments,statefulsets,daemonsets,jobs,cronjobs,services,pods,configmaps,secrets,pvc,roles,rolebindings,"
            "serviceaccounts,servicemonitors,podmonitors,prometheusrules"
        )
        found = [
            f"{one['kind']}/{one['metadata']['name']}"
            for one in release.get(kinds)
            if one["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == release.name
        ]
        return [name for name in found if not re.match("Pod/", name)]

    kept = ["PersistentVolumeClaim/data-lab-postgres-0", "PersistentVolumeClaim/lab-backups", "Secret/lab"]
    wait_for(lambda: sorted(left()) == kept, f"{kept} alone to be left", 60, 1.0)
    everywhere = "clusterroles,clusterrolebindings,priorityclasses"
    selector = f"app.kubernetes.io/instance={release.name}"
    assert release.get(everywhere, "-l", selector) == []
    homes = [one["metadata"]["name"] for one in release.get("pvc", namespace=release.users)]
    assert homes, "the homes are gone"


def _answers(page: Page, address: str) -> bool:
    answer = page.goto(address)
    return answer is not None and answer.status == 200
