"""Our hub's image in the chart of Zero to JupyterHub 4, with the values and rights that the documentation gives.

The chart's part is a stand-in (`tests.helm.z2jh`); everything else is real: image, proxy, provider, cluster, session.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from tests.docs.blocks import blocks
from tests.helm.provider import Served, served
from tests.helm.z2jh.chart import merged, objects
from tests.hub.forms import submit
from tests.hub.site import wait_for
from tests.lab import kubernetes
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_PORTS = range(30_100, 32_700)
_PERSON = "researcher-1"


@dataclass(frozen=True)
class Site:
    """What runs."""

    cluster: Cluster
    namespace: str
    url: str
    token: str
    provider: Served

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Call JupyterHub's REST API as the service that `hub.services` names."""
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, **more)

    def server(self) -> dict[str, Any]:
        """The person's server, as the hub tells it; empty if there is none."""
        found: dict[str, Any] = self.api("GET", f"/users/{_PERSON}").json().get("servers", {}).get("", {})
        return found

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object of the namespace."""
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", kind, name, "-n", self.namespace, "-o", "json"))
        return found

    def says(self) -> str:
        """What is there and what went wrong, for the message of a failure."""
        here = ("-n", self.namespace)
        said = [self._quietly("get", "pods,pvc", *here), self._quietly("get", "events", *here)[-3000:]]
        for container in ("armillary-database", "armillary-service", "hub"):
            said.append(f"--- {container}\n" + self._quietly("logs", "deployment/hub", *here, "-c", container)[-5000:])
        return "\n".join(said)

    def _quietly(self, *words: str) -> str:
        try:
            return self.cluster.kubectl(*words)
        except LabError as error:
            return str(error)


def documented(caption: str, replaced: dict[str, str]) -> list[dict[str, Any]]:
    """The page's block with this site's names instead of the page's."""
    (block,) = blocks(caption)
    text = block.text
    for old, new in replaced.items():
        assert old in text, f"{caption} does not say {old}"
        text = text.replace(old, new)
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    port, token = secrets.choice(_PORTS), secrets.token_hex(16)
    with ExitStack() as stack:
        cluster = stack.enter_context(kubernetes.in_use())
        url = f"http://{cluster.bridge_address}:{port}"
        folder = tmp_path_factory.mktemp("z2jh") / "provider"
        provider = stack.enter_context(served(cluster.bridge_address, url, folder))
        namespace = stack.enter_context(cluster.namespace("z2jh"))
        site = Site(cluster, namespace, url, token, provider)
        addresses = {"hub.jupyter.svc": f"hub.{namespace}.svc", "namespace: jupyter": f"namespace: {namespace}"}
        hub, proxy = cluster.image("hub"), cluster.image("proxy")
        [values] = documented(
            "z2jh values.yaml",
            {
                **addresses,
                "proxy-api.jupyter.svc": f"proxy-api.{namespace}.svc",
                "registry.example.org/armillary/hub:0.2.0": hub,
                "registry.example.org/armillary/base:0.2.0": cluster.image("base"),
                "https://hub.example.org/": f"{url}/",
                "https://login.example.org/realms/lab": provider.issuer,
            },
        )
        rights = documented(
            "z2jh rights.yaml",
            {"namespace: jupyter": f"namespace: {namespace}", "name: jupyter-": f"name: {namespace}-"},
        )
        storage = cluster.storage_class
        own = {
            "hub": {
                "image": dict(zip(("name", "tag"), hub.rsplit(":", 1), strict=True)),
                "db": {"pvc": {"storageClassName": storage}},
                "extraFiles": {
                    "settings": {
                        "data": {
                            "login": {"client_id": provider.client_id, "ca_file": "/etc/armillary/ca.crt"},
                            "kubernetes": {"storage_class": storage, "home_size": "1Gi"},
                        }
                    },
                    "ca": {"mountPath": "/etc/armillary/ca.crt", "stringData": provider.authority},
                },
                # What a site of theirs has, and keeps.
                "services": {"tests": {"apiToken": token}},
                "loadRoles": {"tests": {"services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens"]}},
                "extraConfig": {"later": 'c.JupyterHub.template_vars["announcement"] = "These are our lines."'},
            },
            "proxy": {
                "chp": {"image": dict(zip(("name", "tag"), proxy.rsplit(":", 1), strict=True))},
                "service": {"type": "NodePort", "nodePorts": {"http": port}},
            },
        }
        login = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "armillary-login", "namespace": namespace},
            "stringData": {"client-secret": provider.client_secret},
        }
        cluster.apply(login, *rights, *objects(merged(values, own), "jhub", namespace))
        for kind in ("clusterrole", "clusterrolebinding"):
            stack.callback(cluster.kubectl, "delete", kind, f"{namespace}-armillary")
        try:
            cluster.kubectl("rollout", "status", "deployment/hub", "-n", namespace, "--timeout=150s")
            wait_for(lambda: _healthy(url), "the hub behind its proxy")
        except (LabError, AssertionError) as error:
            raise AssertionError(f"{error}\n{site.says()}") from None
        yield site


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/hub/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_people_log_in_at_the_provider_and_see_our_pages(site: Site) -> None:
    with httpx.Client(base_url=site.url, timeout=60, follow_redirects=True, verify=False) as browser:
        page = browser.get("/hub/oauth_login", params={"next": "/hub/home"})
        page = submit(browser, page, login=_PERSON)
        page = submit(browser, page, password=site.provider.accounts[_PERSON])
        assert page.status_code == 200, f"{page.text[:2000]}\n{site.says()}"
        assert "<title>Home · Armillary</title>" in page.text
        assert "These are our lines." in page.text, "the site's own lines in hub.extraConfig come after ours"
        form = browser.get("/hub/spawn")
        assert "<title>Start a session · Armillary</title>" in form.text


def test_a_session_is_a_pod_of_our_spawner_in_what_their_chart_gives_it(site: Site) -> None:
    site.api("POST", f"/users/{_PERSON}")
    answer = site.api("POST", f"/users/{_PERSON}/server", json={"profile": "lab"})
    assert answer.status_code in (201, 202), f"{answer.text}\n{site.says()}"
    try:
        wait_for(lambda: site.server().get("ready"), "the session", 90)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.says()}") from None
    pod = site.get("pod", f"jupyter-{_PERSON}")
    assert pod["metadata"]["annotations"]["armillary/profile"] == "lab"
    assert pod["metadata"]["labels"]["hub.jupyter.org/network-access-hub"] == "true"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"].get("initContainers", []) == []
    [session] = pod["spec"]["containers"]
    assert [mount["name"] for mount in session["volumeMounts"] if mount["mountPath"] == "/home/user"] == [
        f"volume-{_PERSON}"
    ]
    secret = site.get("secret", f"jupyter-{_PERSON}-env")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]

    own = site.api("POST", f"/users/{_PERSON}/tokens", json={"note": "test"}).json()["token"]
    headers = {"Authorization": f"token {own}"}
    for path in (f"/user/{_PERSON}/api/status", f"/user/{_PERSON}/armillary/state"):
        assert httpx.get(f"{site.url}{path}", headers=headers, timeout=60).status_code == 200, path

    def counted() -> bool:
        answer = httpx.get(f"{site.url}/services/armillary/api/capacity", headers=headers, timeout=60)
        assert answer.status_code == 200, f"{answer.text}\n{site.says()}"
        return bool(answer.json()["fresh"])

    wait_for(counted, "the controller's counts", 30)
    assert site.api("DELETE", f"/users/{_PERSON}/server").status_code in (202, 204)
    wait_for(lambda: not site.server(), "the session to be gone", 60)


def test_both_databases_are_on_the_volume_of_their_chart(site: Site) -> None:
    here = ("exec", "-n", site.namespace, "deployment/hub", "-c", "hub", "--")
    said = site.cluster.kubectl(*here, "sh", "-c", "id -u; ls /srv/jupyterhub; ls /var/lib/armillary | wc -l").split()
    assert said[0] == "1000"
    assert {"jupyterhub.sqlite", "armillary.sqlite"} <= set(said)
    assert said[-1] == "0", "nothing is written into the pod, where it would be lost"
