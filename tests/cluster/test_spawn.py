"""Servers as pods of a real Kubernetes, in a namespace that enforces Pod Security "restricted"."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.hub import KubeHub, running
from tests.cluster.talker import Talker
from tests.lab.cluster import Cluster


@pytest.fixture(scope="module")
def hub(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeHub]:
    """One hub for all tests of this file; each has people of its own."""
    folder: Path = tmp_path_factory.mktemp("hub")
    with cluster.namespace("spawn") as namespace, running(cluster, namespace, folder) as hub:
        yield hub


def test_a_start_by_the_rest_api_gives_a_kernel_that_computes_and_a_home_that_stays(hub: KubeHub) -> None:
    token = hub.add("ann")
    hub.start("ann")
    assert hub.compute("ann", token, "print(6 * 7)") == "42\n"
    hub.compute("ann", token, "open('kept', 'w').write('here'); print('written')")
    hub.stop("ann")
    assert hub.objects("pods", "jupyter-ann") == []
    assert hub.objects("secrets", "jupyter-ann-env") == []
    hub.start("ann")
    assert hub.compute("ann", token, "print(open('kept').read())") == "here\n"
    hub.stop("ann")


def test_the_session_is_confined_and_its_token_is_not_in_the_pod(hub: KubeHub) -> None:
    token = hub.add("bea")
    hub.start("bea")
    (pod,) = hub.objects("pods", "jupyter-bea")
    (secret,) = hub.objects("secrets", "jupyter-bea-env")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    code = (
        "import os; print(os.getuid(), os.path.exists('/var/run/secrets/kubernetes.io'), os.access('/opt', os.W_OK), "
        "os.environ['HOME'], len(os.environ['JUPYTERHUB_API_TOKEN']))"
    )
    uid, account, writable, home, length = hub.compute("bea", token, code).split()
    assert (uid, account, writable, home) == ("1000", "False", "False", "/home/user")
    assert int(length) > 20
    value = hub.compute("bea", token, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    assert value not in json.dumps(pod)
    hub.stop("bea")


def test_jupyterlab_in_a_session_has_our_extension_and_its_server_half_answers(hub: KubeHub) -> None:
    token = {"Authorization": f"token {hub.add('bert')}"}
    hub.start("bert")
    page = httpx.get(f"{hub.url}/user/bert/lab", headers=token, timeout=60, follow_redirects=True)
    assert '"armillary-lab"' in page.text
    state = httpx.get(f"{hub.url}/user/bert/armillary/state", headers=token, timeout=60)
    assert state.status_code == 200
    assert state.json()["here"]["memory_limit"] == 1 << 30
    hub.stop("bert")


def test_another_person_cannot_reach_the_server(hub: KubeHub) -> None:
    own, other = hub.add("cleo"), hub.add("dora")
    hub.start("cleo")
    address = f"{hub.url}/user/cleo/api/status"
    assert httpx.get(address, headers={"Authorization": f"token {own}"}).status_code == 200
    assert httpx.get(address, headers={"Authorization": f"token {other}"}).status_code == 403
    assert httpx.get(address).status_code == 403
    hub.stop("cleo")


def test_a_request_that_is_refused_makes_nothing(hub: KubeHub) -> None:
    hub.add("eva")
    answer = hub.request_start("eva", profile="nonsense")
    assert answer.status_code == 400
    assert "jupyterlab" in answer.json()["message"], "the legal values are named"
    assert hub.objects("pods", "jupyter-eva") == []
    assert hub.objects("persistentvolumeclaims", "claim-eva") == []


def test_a_pod_that_is_deleted_behind_the_hubs_back_can_be_started_again(hub: KubeHub, cluster: Cluster) -> None:
    token = hub.add("fay")
    hub.start("fay")
    cluster.kubectl("delete", "pod", "jupyter-fay", "-n", hub.namespace, "--grace-period=1")
    hub.until(lambda: not hub.server("fay"), "the hub notices", within_s=90)
    assert "Your server was deleted in the cluster by somebody else." in hub.tail()
    hub.start("fay")
    assert hub.compute("fay", token, "print(6 * 7)") == "42\n"
    hub.stop("fay")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_running_server_does_not_notice_a_restart_of_the_hub(hub: KubeHub, how: signal.Signals) -> None:
    user = f"gil-{how.name.lower()}"
    token = hub.add(user)
    hub.start(user)
    (before,) = hub.objects("pods", f"jupyter-{user}")
    with Talker(f"{hub.url}/user/{user}/api/status", token) as talker:
        talker.hear(20)  # the session keeps what the hub has said about a token for five minutes
        hub.end(how)
        talker.hear(20)
        hub.up()
        hub.until(lambda: hub.server(user).get("ready"), "the server is known again")
        talker.hear(20)
    assert talker.failures == []
    (after,) = hub.objects("pods", f"jupyter-{user}")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert hub.compute(user, token, "print(6 * 7)") == "42\n"
    hub.stop(user)


_STEPS = {
    "asked": lambda hub, user: hub.server(user),
    "claim-made": lambda hub, user: hub.objects("persistentvolumeclaims", f"claim-{user}"),
    "secret-made": lambda hub, user: hub.objects("secrets", f"jupyter-{user}-env"),
    "pod-made": lambda hub, user: hub.objects("pods", f"jupyter-{user}"),
    "container-runs": lambda hub, user: [
        pod for pod in hub.objects("pods", f"jupyter-{user}") if pod["status"]["phase"] == "Running"
    ],
}


@pytest.mark.parametrize("step", _STEPS)
def test_a_hub_killed_in_a_start_loses_nothing_and_starts_nothing_twice(hub: KubeHub, step: str) -> None:
    """Whatever there was is found again: the server becomes ready, or there is none and a start gives one.

    Between claim, Secret and pod lie hundredths of a second, so that a step may be over when the hub dies; the faults
    tier stops the hub between them.
    """
    user, bystander = f"hal-{step}", f"ida-{step}"
    token, other = hub.add(user), hub.add(bystander)
    hub.start(bystander)
    with Talker(f"{hub.url}/user/{bystander}/api/status", other) as talker:
        talker.hear(5)
        hub.click(user)
        hub.until(lambda: _STEPS[step](hub, user), step)
        hub.end(signal.SIGKILL)
        made = [pod["metadata"]["uid"] for pod in hub.objects("pods", f"jupyter-{user}")]
        hub.up()
        hub.until(lambda: not hub.server(user) or hub.server(user).get("ready"), "the hub has looked")
        if not hub.server(user):
            assert made == [], "a pod that was there is not dropped"
            hub.start(user)
        talker.hear(5)
    assert talker.failures == [], "nobody else notices"
    found = [pod["metadata"]["uid"] for pod in hub.objects("pods", f"jupyter-{user}")]
    assert len(found) == 1
    assert not made or found == made, "it is the same pod"
    assert hub.compute(user, token, "print(6 * 7)") == "42\n"
    for name in (user, bystander):
        hub.stop(name)
    assert hub.objects("pods", f"jupyter-{user}") == []
    hub.until(lambda: not hub.objects("secrets", f"jupyter-{user}-env"), "its Secret goes too")
