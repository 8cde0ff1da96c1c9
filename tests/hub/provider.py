"""An OpenID provider on loopback that signs real tokens and refuses what a real one refuses; tests make it misbehave.

with FakeProvider() as provider:
    provider.people["ann"] = {"groups": ["researchers"]}
    provider.spoil_id_token = lambda claims: claims | {"aud": "another"}
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT_ID = "armillary"
CLIENT_SECRET = "s3cret/with+signs"
Claims = dict[str, Any]


class Key:
    """A signing key with its id."""

    def __init__(self, kid: str, algorithm: str = "RS256") -> None:
        self.kid, self.algorithm = kid, algorithm
        self.private: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm.startswith("ES")
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )

    def public(self) -> dict[str, Any]:
        kind = jwt.algorithms.ECAlgorithm if self.algorithm.startswith("ES") else jwt.algorithms.RSAAlgorithm
        return {**kind.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}

    def sign(self, claims: Claims) -> str:
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers={"kid": self.kid})


class FakeProvider:
    """The provider; everything public may be changed by a test, `reset` undoes it."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.answer(self, b"")

            def do_POST(self) -> None:
                provider.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def log_message(self, *args: Any) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.issuer = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}/realm"
        self.key = Key("first")
        self.reset()

    def reset(self) -> None:
        """Behave well again, and forget everybody."""
        self.keys = [self.key]
        self.person = "ann"
        self.people: dict[str, Claims] = {"ann": {"groups": ["researchers"]}}
        self.codes: dict[str, dict[str, str]] = {}
        self.access: dict[str, str] = {}
        self.refresh: dict[str, str] = {}
        self.requests: list[str] = []
        self.faults: dict[str, Callable[[], tuple[int, bytes]]] = {}
        self.denies: dict[str, str] = {}
        self.answers_with_issuer: str | None = None
        self.gives_refresh_token = True
        self.groups_in_id_token = False
        self.spoil_document: Callable[[Claims], Claims] = lambda document: document
        self.spoil_id_token: Callable[[Claims], Claims] = lambda claims: claims
        self.spoil_userinfo: Callable[[Claims], Claims] = lambda claims: claims
        self.sign: Callable[[Claims], str] = self.sign_with_first_key
        self.issued: list[str] = []
        self.released = threading.Event()
        self.released.set()

    def sign_with_first_key(self, claims: Claims) -> str:
        return self.keys[0].sign(claims)

    def __enter__(self) -> FakeProvider:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, path: str, status: int, body: bytes = b"") -> None:
        """Answer every request below `path` like this."""
        self.faults[path] = lambda: (status, body)

    def hang(self, path: str) -> None:
        """Keep every request below `path` waiting until `released` is set."""
        self.released.clear()

        def wait() -> tuple[int, bytes]:
            self.released.wait(60)
            return 503, b""

        self.faults[path] = wait

    def document(self) -> Claims:
        base = self.issuer
        return self.spoil_document(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize?tenant=one",
                "token_endpoint": f"{base}/token",
                "userinfo_endpoint": f"{base}/userinfo",
                "jwks_uri": f"{base}/jwks",
                "end_session_endpoint": f"{base}/logout",
            }
        )

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Route one request."""
        parts = urlsplit(handler.path)
        path = parts.path.removeprefix("/realm")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        self.requests.append(path)
        location = ""
        if path in self.faults:
            status, raw = self.faults[path]()
        elif path == "/authorize":
            status, raw, location = self.authorize(query)
        else:
            status, said = self.say(path, handler, form)
            raw = json.dumps(said).encode()
        try:
            handler.send_response(status)
            if location:
                handler.send_header("Location", location)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)
        except OSError:
            handler.close_connection = True  # the hub did not wait

    def say(self, path: str, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> tuple[int, Claims]:
        match path:
            case "/.well-known/openid-configuration":
                return 200, self.document()
            case "/jwks":
                unusable = {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}
                return 200, {"keys": [unusable, {"kty": "new"}, *(key.public() for key in self.keys)]}
            case "/token":
                return self.token(handler, form)
            case "/userinfo":
                token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
                if token not in self.access:
                    return 401, {"error": "invalid_token"}
                return 200, self.spoil_userinfo(self.claims_of(self.access[token]))
            case "/logout":
                return 200, {"signed": "out"}
        return 404, {}

    def claims_of(self, person: str) -> Claims:
        claims = {"sub": person, "preferred_username": person, **self.people[person]}
        if self.groups_in_id_token:
            claims.pop("groups", None)
        return claims

    def authorize(self, query: dict[str, str]) -> tuple[int, bytes, str]:
        """As if `person` had just typed the password."""
        needed = ("state", "nonce", "redirect_uri", "code_challenge")
        if query.get("client_id") != CLIENT_ID or any(not query.get(name) for name in needed):
            return 400, b"bad authorization request", ""
        if query["code_challenge_method"] != "S256" or "openid" not in query["scope"].split():
            return 400, b"bad authorization request", ""
        answer = {"state": query["state"], **({"iss": self.answers_with_issuer} if self.answers_with_issuer else {})}
        if self.denies:
            answer |= self.denies
        else:
            answer["code"] = secrets.token_urlsafe(24)
            self.issued += [answer["code"], query["state"]]
            self.codes[answer["code"]] = {**query, "person": self.person}
        return 302, b"", f"{query['redirect_uri']}?{urlencode(answer)}"

    def token(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> tuple[int, Claims]:
        user, _, password = (
            base64.b64decode((handler.headers.get("Authorization") or "Basic ")[6:]).decode().partition(":")
        )
        if (unquote(user), unquote(password)) != (CLIENT_ID, CLIENT_SECRET) or "client_secret" in form:
            return 401, {"error": "invalid_client"}
        nonce: dict[str, str] = {}
        if form.get("grant_type") == "refresh_token":
            person = self.refresh.pop(form.get("refresh_token", ""), "")
            if not person:
                return 400, {"error": "invalid_grant", "error_description": "used or unknown refresh token"}
        else:
            begun = self.codes.pop(form.get("code", ""), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if (
                begun is None
                or begun["redirect_uri"] != form.get("redirect_uri")
                or begun["code_challenge"] != challenge
            ):
                return 400, {"error": "invalid_grant", "error_description": "<b>used</b> code"}
            person, nonce = begun["person"], {"nonce": begun["nonce"]}
        return 200, self.tokens(person, nonce)

    def tokens(self, person: str, more: Claims) -> Claims:
        """A token answer for somebody."""
        access = secrets.token_urlsafe(24)
        self.access[access] = person
        answer: Claims = {"access_token": access, "token_type": "Bearer", "expires_in": 300, "scope": "openid groups"}
        if self.gives_refresh_token:
            answer["refresh_token"] = secrets.token_urlsafe(24)
            self.refresh[answer["refresh_token"]] = person
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": person, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **more}
        if self.groups_in_id_token and "groups" in self.people[person]:
            claims["groups"] = self.people[person]["groups"]
        answer["id_token"] = self.sign(self.spoil_id_token(claims))
        self.issued += [answer["access_token"], answer.get("refresh_token", access), str(answer["id_token"])]
        return answer
