"""Ports: what was asked for is checked, what is internal is chosen and kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.launch.ports import InternalPorts, is_free, need
from hub.launch.problem import Problem


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_a_taken_port_is_refused_with_one_that_would_do(taken: int) -> None:
    with pytest.raises(Problem, match=rf"port {taken} is taken .*: --port (\d+)$") as caught:
        need("127.0.0.1", taken, "--port")
    offered = int(str(caught.value).rsplit(" ", 1)[1])
    assert offered > taken
    assert is_free("127.0.0.1", offered)


def test_an_address_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(Problem, match=r"cannot listen on 192\.0\.2\.1:8000"):
        need("192.0.2.1", 8000, "--port")


def test_an_internal_port_stays_the_same_as_long_as_it_is_free(tmp_path: Path, taken: int) -> None:
    first = InternalPorts(tmp_path / "ports.json", frozenset()).pick("hub", 20_000)
    assert InternalPorts(tmp_path / "ports.json", frozenset()).pick("hub", 30_000) == first
    assert InternalPorts(tmp_path / "ports.json", frozenset({first})).pick("hub", 20_000) != first
    (tmp_path / "ports.json").write_text(f'{{"hub": {taken}}}')
    assert InternalPorts(tmp_path / "ports.json", frozenset()).pick("hub", 20_000) not in (taken, 0)


def test_two_internal_ports_are_never_the_same(tmp_path: Path) -> None:
    internal = InternalPorts(tmp_path / "ports.json", frozenset())
    assert internal.pick("hub", 20_000) != internal.pick("proxy", 20_000)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"hub": "x"}', '{"hub": 99999}'])
def test_a_spoilt_file_of_ports_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert InternalPorts(tmp_path / "ports.json", frozenset()).pick("hub", 20_000) >= 20_000
