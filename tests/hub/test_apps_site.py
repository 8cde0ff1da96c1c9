"""The catalogue's web applications as part of a whole site: a real code-server in real sessions, and who may use what."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.hub.code_server import code_server
from tests.hub.mlflow_server import mlflow
from tests.hub.site import ROOT, Site, wait_for

pytestmark = [pytest.mark.hub, pytest.mark.timeout(900)]

# A web application of a few lines: it says who it is, and what it was asked for.
NOTES = """\
import http.server, os, socketserver, sys

class Notes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path != "/teapot" else 418)
        self.end_headers()
        self.wfile.write(f"notes {os.environ['NOTES']} {self.path}".encode())

    def address_string(self):
        return "-"

class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

Server(sys.argv[1], Notes).serve_forever()
"""
CATALOGUE = """\
apps:
  vscode:
    title: VS Code
    command: [code-server, --auth, none, --socket, "{{unix_socket}}", --session-socket, "{{unix_socket}}.session",
              --disable-telemetry, --disable-update-check, --disable-getting-started-override, .]
    health: /healthz
    icon: code
  notes:
    title: Notes
    command: [python3, {folder}/notes.py, "{{unix_socket}}"]
    environment: {{NOTES: "of {{literal}} braces"}}
    access: {{groups: [instructors]}}
  mlflow:
    title: MLflow
    command: [mlflow, server, --backend-store-uri, sqlite:///mlflow.db, --default-artifact-root, mlflow-artifacts,
              --workers, "1", --uvicorn-opts, "--uds {{unix_socket}}"]
    health: /health
    icon: experiments
    start_timeout_s: 180
  absent:
    title: Absent
    command: [no-such-program, "{{unix_socket}}"]
images:
  lab:
    title: JupyterLab
    apps: [vscode, notes, mlflow, absent]
    local:
      environment: &there
        PATH: {vscode}:/usr/bin:/bin:{mlflow}
        PYTHONPATH: {folder}/lib
        JUPYTER_CONFIG_PATH: {folder}/config
  bare:
    title: Bare
    local: {{environment: *there}}
profiles:
  lab: {{title: Lab, options: {{image: [lab, bare]}}}}
  short: {{title: Short, options: {{image: lab}}}}
"""
IDLE = {"warn_minutes": 12 / 60, "limits": [{"profile": "short", "idle_hours": 20 / 3600}]}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    programs = {"vscode": code_server().parent, "mlflow": mlflow().parent}
    folder = Path(tempfile.mkdtemp(prefix="armillary-apps-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "images" / "labextension" / "armillary_lab", folder / "lib" / "armillary_lab")
    config = folder / "config" / "jupyter_server_config.d"
    config.mkdir(parents=True)
    shutil.copy(ROOT / "images" / "labextension" / "jupyter-config" / "armillary_lab.json", config)
    (folder / "notes.py").write_text(NOTES)
    catalogue = CATALOGUE.format(folder=folder, **programs)
    often = 'c.Spawner.environment = {"ARMILLARY_MEASURE_SECONDS": "1"}\n'
    made = Site(folder, settings={"idle": IDLE}, catalogue=catalogue, config=often)
    try:
        with made.running():
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lab(site: Site, name: str, path: str, **more: Any) -> httpx.Response:
    """Ask somebody's session, with every right."""
    headers = {"Authorization": f"token {site.admin_token}"}
    return httpx.get(f"{site.url}/user/{name}/{path}", headers=headers, timeout=90, **more)


def tiles(site: Site, name: str) -> dict[str, str]:
    """Title of each tile in somebody's launcher, by name."""
    known = lab(site, name, "server-proxy/servers-info").json()["server_processes"]
    return {one["name"]: one["launcher_entry"]["title"] for one in known}


def websocket(site: Site, name: str, headers: dict[str, str]) -> ClientConnection:
    """Begin a connection as VS Code's page does."""
    url = f"{site.url.replace('http', 'ws', 1)}/user/{name}/vscode/stable-0?reconnectionToken={uuid.uuid4()}"
    more = "&reconnection=false&skipWebSocketFrames=false"
    return connect(url + more, additional_headers=headers, proxy=None, open_timeout=60)


def test_a_session_opens_with_vs_code_for_its_owner_and_nobody_else(site: Site) -> None:
    with closing(site.login("researcher-1")) as ann, closing(site.login("researcher-2")) as ben:
        form = ann.get("/hub/spawn/researcher-1").text
        assert 'name="profile-option-lab--app"' in form
        assert ">VS Code</option>" in form
        assert "Absent" not in form, "its program is not on this machine"
        site.start_server("researcher-1", {"profile": "lab", "app": "vscode"})
        page = ann.get("/user/researcher-1/", timeout=90)
        assert page.status_code == 200, page.text[:500]
        assert page.url.path == "/user/researcher-1/vscode/"
        assert "code-server" in page.text
        assert lab(site, "researcher-1", "vscode/healthz").json()["status"] in ("alive", "expired")
        stranger = ben.get("/user/researcher-1/vscode/", timeout=90)
        assert stranger.status_code == 403
        assert "code-server" not in stranger.text
        nobody = httpx.get(f"{site.url}/user/researcher-1/vscode/", follow_redirects=False, timeout=30)
        assert nobody.status_code == 302
        assert "/hub/api/oauth2/authorize" in nobody.headers["location"]
        with pytest.raises(InvalidStatus) as refused:
            websocket(site, "researcher-1", {"Cookie": "; ".join(f"{one.name}={one.value}" for one in ben.cookies.jar)})
        assert refused.value.response.status_code in (302, 403)
        settings = site.state / "homes" / "researcher-1" / ".local" / "share" / "code-server"
        assert settings.is_dir(), "settings and extensions lie in the home"


def test_only_what_somebody_may_use_is_offered_to_them_and_starts(site: Site) -> None:
    assert tiles(site, "researcher-1") == {"vscode": "VS Code", "mlflow": "MLflow"}
    assert lab(site, "researcher-1", "notes/x").status_code == 404
    icon = lab(site, "researcher-1", "server-proxy/icon/vscode")
    assert icon.headers["content-type"].startswith("image/svg+xml")
    refused = site.api("POST", "/users/researcher-2/server", json={"profile": "lab", "app": "notes"})
    assert refused.status_code == 403
    assert "needs group instructors" in refused.text
    other = site.api("POST", "/users/researcher-2/server", json={"profile": "lab", "image": "bare", "app": "vscode"})
    assert other.status_code == 400
    assert "“VS Code” is not in the image “Bare”" in other.json()["message"]


def test_somebody_of_the_group_has_the_application_with_its_environment_and_any_status(site: Site) -> None:
    site.login("instructor").close()
    site.start_server("instructor", {"profile": "lab", "app": "notes"})
    assert set(tiles(site, "instructor")) == {"vscode", "notes", "mlflow"}
    answer = lab(site, "instructor", "notes/some/page?x=1")
    assert (answer.status_code, answer.text) == (200, "notes of {literal} braces /some/page?x=1")
    assert lab(site, "instructor", "notes/teapot").status_code == 418
    assert lab(site, "instructor", "absent/x").status_code == 404


def test_mlflow_runs_for_one_session_with_its_data_in_the_home(site: Site) -> None:
    site.login("administrator").close()
    site.start_server("administrator", {"profile": "lab", "app": "mlflow"})
    page = lab(site, "administrator", "mlflow/", follow_redirects=True)
    assert page.status_code == 200, page.text[:2000]
    assert "MLflow" in page.text
    headers = {"Authorization": f"token {site.admin_token}", "Origin": site.url}
    api = f"{site.url}/user/administrator/mlflow/api/2.0/mlflow/experiments"
    made = httpx.post(f"{api}/create", json={"name": "of the test"}, headers=headers, timeout=60)
    assert made.status_code == 200, made.text
    found = httpx.get(f"{api}/get-by-name", params={"experiment_name": "of the test"}, headers=headers, timeout=60)
    assert found.json()["experiment"]["experiment_id"] == made.json()["experiment_id"]
    state = lab(site, "administrator", "armillary/state").json()
    assert state["here"]["connections"] == 0
    assert (site.state / "homes" / "administrator" / "mlflow.db").stat().st_size > 0
    other = (
        f"{site.url}/user/researcher-1/mlflow/api/2.0/mlflow/experiments/get-by-name?experiment_name=of%20the%20test"
    )
    assert httpx.get(other, headers=headers, timeout=180).status_code == 404, "everybody has a server of their own"


def test_an_open_connection_of_vs_code_is_work_and_a_closed_one_is_none(site: Site) -> None:
    site.login("researcher-2").close()
    site.start_server("researcher-2", {"profile": "short"})
    assert lab(site, "researcher-2", "vscode/healthz").status_code == 200

    def session() -> dict[str, Any]:
        said: dict[str, Any] = lab(site, "researcher-2", "armillary/state").json()
        return said

    with websocket(site, "researcher-2", {"Authorization": f"token {site.admin_token}"}):
        wait_for(lambda: session()["here"]["connections"] == 1, "the connection to count", 30)
        began = session()["now"]
        wait_for(lambda: session()["now"] - began > 30, "more than the limit of idleness", 90, 1.0)
        assert session()["session"]["stop_because"] == ""
        assert session()["here"]["connections"] == 1, "it was open for the whole time"
    wait_for(lambda: session()["here"]["connections"] == 0, "its end to be noticed", 30)
    wait_for(lambda: session()["session"]["stop_because"] == "idle", "the warning", 90)
