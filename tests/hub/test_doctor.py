"""`armillary doctor`: what is wrong is found and said with what to do, what is well is not called wrong."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from hub.backup.note import MADE
from hub.cluster_api import ApiProblem, Away, ClusterApi, Forbidden, Json, NotFound
from hub.cluster_rights import RIGHTS, needed
from hub.controller.lease import Lease
from hub.db.clock import Now
from hub.db.tables import audit
from hub.db.transaction import write
from hub.doctor import parts
from hub.doctor.cluster import cluster
from hub.doctor.database import accelerators
from hub.doctor.database import database as database_of
from hub.doctor.finding import Finding, as_json, as_lines, good, problem
from hub.doctor.web import Silent, ask, expires_at, resolves
from hub.settings import Settings
from profiles.loader import loads
from tests.hub.site import free_ports
from tests.lab.pki import Authority

CATALOGUE = loads("""
accelerators:
  t4: {title: T4, kubernetes: {resource: nvidia.com/gpu}}
images:
  lab: {title: Lab, reference: registry.example.org/lab:1}
profiles:
  lab: {title: Lab, options: {image: lab, accelerator: [none, t4]}}
""")
Answers = Mapping[str, tuple[int, Any] | tuple[int, Any, Mapping[str, str]]]


@contextmanager
def answering(answers: Answers, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """A server with an answer for each path, and 404 for all others; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, *more = answers.get(self.path, (404, "nothing here"))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(content)), **(more[0] if more else {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *given: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def grades(findings: Iterator[Finding] | list[Finding]) -> list[tuple[str, str]]:
    return [(one.grade, one.text) for one in findings]


def settings(**said: Any) -> Settings:
    return Settings.model_validate(said)


# --- what is asked over HTTP -----------------------------------------------------------------------------------------


def test_an_answer_has_status_body_and_the_others_clock() -> None:
    then = datetime(2026, 5, 1, 12, tzinfo=UTC)
    with answering({"/a": (418, {"b": 1}, {"Date": format_datetime(then, usegmt=True)})}) as url:
        answer = ask(f"{url}/a")
    assert (answer.status, answer.json(), answer.date) == (418, {"b": 1}, then)


def test_a_redirect_is_not_followed() -> None:
    with answering({"/a": (302, "", {"Location": "/b"}), "/b": (200, "there")}) as url:
        assert ask(f"{url}/a").status == 302


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"'])
def test_what_is_no_object_of_json_is_said(body: bytes) -> None:
    with answering({"/a": (200, body)}) as url, pytest.raises(Silent, match=r"no.* JSON"):
        ask(f"{url}/a").json()


def test_nobody_there_and_a_name_that_is_not_known_are_said() -> None:
    [port] = free_ports(1)
    with pytest.raises(Silent, match="refused"):
        ask(f"http://127.0.0.1:{port}/")
    assert "no-such-host.invalid" in resolves("https://no-such-host.invalid/a")
    assert resolves("http://localhost:1/") == ""


def test_a_certificate_is_trusted_by_its_authority_only(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    with answering({"/": (200, {})}, ours.issue("a", "a", hosts=["127.0.0.1"])) as url:
        assert ask(f"{url}/", ca_file=ours.certificate).status == 200
        until = expires_at(url, ours.certificate)
        assert until is not None
        assert until > datetime.now(UTC)
        with pytest.raises(Silent, match="certificate is not trusted"):
            ask(f"{url}/", ca_file=others.certificate)
    assert expires_at("http://127.0.0.1/", None) is None


# --- names and parts ---------------------------------------------------------------------------------------------------


def test_names_that_have_no_address_are_named_with_their_setting() -> None:
    said = settings(public_url="https://nowhere.invalid/", login={"issuer": "https://login.nowhere.invalid"})
    assert [text.partition(":")[0] for _, text in grades(parts.names(said))] == ["public_url", "login.issuer"]
    assert grades(parts.names(settings(public_url="http://localhost:8000"))) == [
        ("good", "every name in the settings has an address")
    ]


def dns(monkeypatch: pytest.MonkeyPatch, zone: Mapping[str, tuple[str, ...]]) -> None:
    """Let names have the addresses of this zone, whose `*.` stands for one label more, and no other name any."""
    known = {**zone, "127.0.0.1": ("127.0.0.1",)}  # an address is its own

    def look_up(host: str, port: None, *_: Any, **more: Any) -> list[tuple[Any, ...]]:
        found = known.get(host) or known.get(f"*.{host.partition('.')[2]}")
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("wildcard", "grade", "words"),
    [
        (("192.0.2.8", "192.0.2.7"), "good", "*.hub.example.org leads where hub.example.org leads"),
        (None, "problem", "names of sessions below hub.example.org have no address"),
        (("192.0.2.9",), "warning", "*.hub.example.org leads to 192.0.2.9, and hub.example.org to 192.0.2.7"),
    ],
    ids=["there", "missing", "elsewhere"],
)
def test_names_of_sessions_lead_where_the_site_is(
    wildcard: tuple[str, ...] | None, grade: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"*.hub.example.org": wildcard} if wildcard else {}
    dns(monkeypatch, {"hub.example.org": ("192.0.2.7",), **more})
    [every, found] = parts.names(settings(public_url="https://hub.example.org/", user_subdomains=True))
    assert (every.grade, found.grade) == ("good", grade)
    assert words in found.text
    assert bool(found.to_do) is (grade != "good")
    assert len(list(parts.names(settings(public_url="https://hub.example.org/")))) == 1, "nobody asks for the others"


def test_names_below_a_site_without_an_address_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    dns(monkeypatch, {"*.hub.example.org": ("192.0.2.7",)})
    [found] = parts.names(settings(public_url="https://hub.example.org/", user_subdomains=True))
    assert found.grade == "problem"
    assert found.text.startswith("public_url: hub.example.org")


def three(hub: str, service: str, proxy: str, kind: str = "traefik") -> Settings:
    return settings(
        public_url="http://127.0.0.1:8000",
        hub={"bind_url": hub},
        service={"bind_url": service},
        proxy={"api_url": proxy, "kind": kind},
    )


WELL: Answers = {
    "/hub/health": (200, {}),
    "/services/armillary/health": (200, {}),
    "/api/overview": (401, ""),
    "/api/routes": (403, ""),
}


@pytest.mark.parametrize("kind", ["traefik", "configurable-http-proxy"])
def test_parts_that_are_well_are_said_to_be(kind: str) -> None:
    with answering(WELL) as url:
        assert {grade for grade, _ in grades(parts.parts(three(url, url, url, kind)))} == {"good"}


def test_each_part_that_is_away_or_not_well_is_found() -> None:
    [port] = free_ports(1)
    away = f"http://127.0.0.1:{port}"
    with answering(WELL) as url:
        for place, name in enumerate(("the hub", "the service", "the proxy's API")):
            where = [away if place == number else url for number in range(3)]
            [bad] = [one for one in parts.parts(three(*where)) if one.grade != "good"]
            assert bad.text.startswith(f"{name} does not answer at {away}")
            assert bad.to_do
    with answering({**WELL, "/services/armillary/health": (503, {})}) as url:
        [bad] = [one for one in parts.parts(three(url, url, url)) if one.grade != "good"]
        assert "not well (status 503)" in bad.text


def test_a_proxy_that_anybody_may_change_is_a_problem() -> None:
    with answering({**WELL, "/api/overview": (200, {})}) as url:
        [bad] = [one for one in parts.parts(three(url, url, url)) if one.grade == "problem"]
    assert "without a password" in bad.text


# --- the login -----------------------------------------------------------------------------------------------------------

DISCOVERY = "/.well-known/openid-configuration"


def provider(url: str, **changed: Any) -> dict[str, Any]:
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "jwks_uri": f"{url}/keys",
        **changed,
    }


def login(change: Callable[[dict[str, tuple[int, Any]], str], None] = lambda answers, url: None) -> list[Finding]:
    answers: dict[str, tuple[int, Any]] = {}
    with answering(answers) as url:
        answers |= {DISCOVERY: (200, provider(url)), "/keys": (200, {"keys": [{"kid": "a"}]})}
        change(answers, url)
        return list(parts.login(settings(login={"issuer": url})))


def test_a_provider_that_is_well() -> None:
    [said] = login()
    assert said.grade == "good"
    assert "with 1 keys" in said.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answers, url: answers.update({DISCOVERY: (500, "")}), "status 500"),
        (lambda answers, url: answers.update({DISCOVERY: (200, b"<html>")}), "no JSON"),
        (lambda answers, url: answers.update({DISCOVERY: (200, provider(url + "/"))}), "calls itself"),
        (lambda answers, url: answers.update({DISCOVERY: (200, provider(url, jwks_uri=None))}), "names no jwks_uri"),
        (lambda answers, url: answers.update({"/keys": (200, {"keys": []})}), "has no keys"),
        (lambda answers, url: answers.update({"/keys": (404, b"")}), "keys cannot be read"),
    ],
    ids=["out of order", "no provider", "another issuer", "no key address", "no keys", "keys away"],
)
def test_a_provider_that_is_not(change: Any, words: str) -> None:
    [said] = login(change)
    assert said.grade == "problem"
    assert words in said.text
    assert said.to_do


def test_no_provider_and_one_that_is_away() -> None:
    [port] = free_ports(1)
    assert [one.grade for one in parts.login(settings())] == ["problem"]
    [said] = parts.login(settings(login={"issuer": f"http://127.0.0.1:{port}"}))
    assert said.grade == "problem"


@pytest.mark.parametrize(
    ("ahead_s", "grade"),
    [(0, "good"), (2, "good"), (10, "warning"), (-10, "warning"), (120, "problem"), (-3600, "problem")],
)
def test_the_providers_clock(ahead_s: float, grade: str) -> None:
    answers: dict[str, Any] = {}
    with answering(answers) as url:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
        answers |= {DISCOVERY: (200, provider(url), {"Date": date}), "/keys": (200, {"keys": [1]})}
        found = list(parts.login(settings(login={"issuer": url})))
    assert [one.grade for one in found if one.area == "Clocks"] == [grade]


def test_a_certificate_that_expires_soon(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    answers: dict[str, Any] = {}
    with answering(answers, authority.issue("a", "a", hosts=["127.0.0.1"])) as url:
        answers |= {DISCOVERY: (200, provider(url)), "/keys": (200, {"keys": [1]})}
        said = settings(login={"issuer": url, "ca_file": str(authority.certificate)})
        until = expires_at(url, authority.certificate)
        assert until is not None
        assert [one.grade for one in parts.login(said)] == ["good"]
        [_, late] = parts.login(said, now=until - timedelta(days=5))
    assert (late.grade, f"expires on {until:%Y-%m-%d}" in late.text) == ("warning", True)


# --- the database --------------------------------------------------------------------------------------------------------


def test_a_database_in_use(database: Engine) -> None:
    lease, over = Lease(database, "me", lease_s=5.0), threading.Event()
    assert lease.try_acquire()

    def renew() -> None:
        while not over.wait(0.1):
            lease.renew()

    made = {"at": Now(), "actor": "test", "action": MADE, "subject": "a"}
    write(database, lambda connection: connection.execute(insert(audit).values(**made)))
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        found = list(database_of(database, 3.0))
    finally:
        over.set()
        thread.join()
    assert {one.grade for one in found} == {"good"}, found
    assert "me leads" in [one.text for one in found]


def test_nobody_leads_and_no_copy(database: Engine) -> None:
    lease = Lease(database, "dead", lease_s=5.0)
    assert lease.try_acquire()
    found = {one.area: one for one in database_of(database, 0.3) if one.grade != "good"}
    assert (found["Controller"].grade, found["Controller"].text) == ("problem", "no controller leads")
    assert (found["Database"].grade, found["Database"].text) == ("warning", "no copy was ever made")


def test_an_old_copy(database: Engine) -> None:
    made = {"at": time.time() - 9 * 86_400, "actor": "test", "action": MADE, "subject": "a"}
    write(database, lambda connection: connection.execute(insert(audit).values(**made)))
    assert "the newest copy is 9 days old" in [one.text for one in database_of(database, 0.0)]


def test_counts_that_nobody_makes(database: Engine) -> None:
    [said] = accelerators(database, settings(), CATALOGUE)
    assert (said.grade, said.area) == ("problem", "Accelerators")


# --- the cluster -----------------------------------------------------------------------------------------------------------


class Cluster(ClusterApi):
    """A cluster that knows some objects and allows some things, and nothing else."""

    def __init__(
        self, objects: Mapping[str, Json | ApiProblem], denied: frozenset[tuple[str, str]] = frozenset()
    ) -> None:
        self.name = "the double"
        self.objects = {"/version": {"major": "1", "minor": "34+", "gitVersion": "v1.34.4"}, **objects}
        self.denied = denied
        self.extra: frozenset[tuple[str, str]] = frozenset()

    def ask(
        self, method: str, path: str, query: Mapping[str, Any], body: Json | None = None, kind: str = "application/json"
    ) -> Json:
        if method == "POST":
            assert path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            assert body is not None
            wanted = body["spec"]["resourceAttributes"]
            right = (wanted["verb"], wanted["resource"])
            known = {(one.verb, one.resource) for part in RIGHTS for one in needed(part, claims=False)}
            return {"status": {"allowed": right in (known | self.extra) - self.denied}}
        found = self.objects.get(path, NotFound(f"the double has no {path}."))
        if isinstance(found, ApiProblem):
            raise found
        return found


NAMESPACE = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
GOOD: dict[str, Json | ApiProblem] = {
    "/api/v1/namespaces/users": NAMESPACE,
    "/apis/storage.k8s.io/v1/storageclasses/fast": {"metadata": {"name": "fast"}},
}
KUBERNETES = {"namespace": "users", "storage_class": "fast"}


def look(api: Cluster, part: str = "hub", **changed: Any) -> list[Finding]:
    said = settings(
        engine="kubernetes",
        public_url="https://hub.example.org/",
        hub={"bind_url": "http://0.0.0.0:8081", "connect_url": "http://hub.core.svc:8081"},
        kubernetes={**KUBERNETES, **changed},
    )
    return list(cluster(api, said, CATALOGUE, part))


@pytest.mark.parametrize("part", ["hub", "controller"])
def test_a_cluster_as_it_should_be(part: str) -> None:
    assert {one.grade for one in look(Cluster(GOOD), part)} == {"good"}


@pytest.mark.parametrize(
    ("part", "verb", "resource"),
    [(part, one.verb, one.resource) for part in RIGHTS for one in needed(part, claims=False)],
)
def test_each_right_that_is_missing_is_named(part: str, verb: str, resource: str) -> None:
    [bad] = [one for one in look(Cluster(GOOD, frozenset({(verb, resource)})), part) if one.grade != "good"]
    assert bad.grade == "problem"
    assert f"{verb} {resource} in " in bad.text


def test_rights_that_nothing_needs_are_named() -> None:
    api = Cluster(GOOD)
    api.extra = frozenset({("list", "secrets")})
    [bad] = [one for one in look(api) if one.grade != "good"]
    assert (bad.grade, "may also list secrets in users" in bad.text) == ("warning", True)


@pytest.mark.parametrize(
    ("objects", "grade", "words"),
    [
        ({"/version": Away("It does not answer.")}, "problem", "does not answer"),
        ({"/version": {"major": "1", "minor": "28"}}, "warning", "Kubernetes"),
        ({"/api/v1/namespaces/users": NotFound("none")}, "problem", "there is no namespace users"),
        ({"/api/v1/namespaces/users": {"metadata": {}}}, "warning", "does not enforce"),
        ({"/api/v1/namespaces/users": Forbidden("no")}, "unseen", "Pod Security"),
        ({"/apis/storage.k8s.io/v1/storageclasses/fast": NotFound("none")}, "problem", "no StorageClass fast"),
        ({"/apis/storage.k8s.io/v1/storageclasses/fast": Forbidden("no")}, "unseen", "StorageClasses"),
    ],
    ids=["away", "old", "no namespace", "open namespace", "namespace unseen", "no class", "class unseen"],
)
def test_a_cluster_that_is_not(objects: dict[str, Json | ApiProblem], grade: str, words: str) -> None:
    [bad] = [one for one in look(Cluster(GOOD | objects)) if one.grade != "good"]
    assert bad.grade == grade
    assert words in bad.text
    assert bad.to_do or grade == "unseen"


@pytest.mark.parametrize(("default", "grade"), [("true", "good"), ("false", "problem")])
def test_the_default_storage_class(default: str, grade: str) -> None:
    annotations = {"storageclass.kubernetes.io/is-default-class": default}
    listed = {"items": [{"metadata": {"annotations": annotations}}, {"metadata": {}}]}
    found = look(Cluster(GOOD | {"/apis/storage.k8s.io/v1/storageclasses": listed}), storage_class=None)
    assert [one.grade for one in found if one.area == "Homes"] == [grade]


# --- what is said -----------------------------------------------------------------------------------------------------------


def test_what_to_do_stands_below_what_is_wrong() -> None:
    found = [good("A", "fine"), problem("A", "broken", "mend it"), good("B", "fine, too")]
    assert as_lines(found) == [
        "A",
        "  ok       fine",
        "  PROBLEM  broken",
        "           -> mend it",
        "B",
        "  ok       fine, too",
    ]
    assert as_json(found)[1] == {"area": "A", "grade": "problem", "text": "broken", "to_do": "mend it"}
