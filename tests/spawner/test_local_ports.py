"""Ports: free ones, and whose program it is that answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from spawner.processes.identity import look
from spawner.processes.ports import NoFreePort, belongs_to, free_port, listeners

LISTEN = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.bind((sys.argv[1], 0)); s.listen(); print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_free_port_is_free() -> None:
    port = free_port(0, 0)
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))
    assert free_port(0, 0, avoid=[port]) != port


def test_a_full_range_is_said() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        with pytest.raises(NoFreePort, match=f"between {port} and {port}"):
            free_port(port, port)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_listener_is_known(address: str) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", LISTEN, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        (listener,) = listeners(int(other.stdout.readline()))
        theirs, ours = look(other.pid), look(os.getpid())
        assert theirs is not None
        assert ours is not None
        assert listener.uid == os.getuid()
        assert belongs_to(listener, [ours.process, theirs.process])
        assert not belongs_to(listener, [ours.process])
    finally:
        other.communicate("")


def test_nobody_listens_on_a_port_that_is_only_bound() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        assert listeners(one.getsockname()[1]) == []
