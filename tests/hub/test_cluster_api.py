"""What the API server's connection can do to a command: go away at any moment, or not be the one that it says."""

from __future__ import annotations

import gc
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.cluster_api import ApiProblem, Away, ClusterApi, connect
from tests.lab.pki import Authority

Reaction = Callable[[socket.socket], None]
ANSWER = json.dumps({"kind": "Node"}).encode()


class Server:
    """Does with every connection what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.certificate, self.key = self.authority.issue("server", "server", hosts=["127.0.0.1"])
        self.react: Reaction = self.answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self.react(connection)
                except OSError:
                    continue  # the other side had enough

    def answer(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\nConnection: close\r\n\r\n"
            secure.sendall(head.encode() + ANSWER)

    def hang_up(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)

    def end_in_the_handshake(self, connection: socket.socket) -> None:
        connection.recv(10)

    def reset(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "pki")
    yield made
    made.close()


def api(server: Server, tmp_path: Path, authority: Path | None = None) -> ClusterApi:
    cluster = {
        "server": f"https://127.0.0.1:{server.port}",
        "certificate-authority": str(authority or server.authority.certificate),
    }
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "none"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return connect(str(file), None, {})


def test_an_answer_is_plain_json(server: Server, tmp_path: Path) -> None:
    assert api(server, tmp_path).get("/api/v1/nodes/n") == {"kind": "Node"}


# The client library leaves a socket to the garbage collector when its handshake fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["hang_up", "end_in_the_handshake", "reset"])
def test_a_connection_that_ends_is_an_api_that_is_away(server: Server, tmp_path: Path, how: str) -> None:
    server.react = getattr(server, how)
    with pytest.raises(Away, match="does not answer"):
        api(server, tmp_path).get("/api/v1/nodes/n")
    gc.collect()
    server.react = server.answer
    assert api(server, tmp_path).get("/api/v1/nodes/n") == {"kind": "Node"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_of_somebody_else_is_no_absence(server: Server, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").certificate
    with pytest.raises(ApiProblem, match="cannot be trusted") as caught:
        api(server, tmp_path, other).get("/api/v1/nodes/n")
    assert not isinstance(caught.value, Away), "waiting for it would not help"
    gc.collect()
