"""CoreDNS as a process of this machine, on the bridge's address, where pods ask for names."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

from tests.lab import cache, control_plane, network, processes


def _answers() -> bool:
    """Whether a query for the API server's service gets an answer."""
    question = b"".join(bytes([len(label)]) + label for label in b"kubernetes.default.svc.cluster.local".split(b"."))
    # A header that asks for recursion, one question: type A, class IN (RFC 1035, section 4).
    query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + question + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(1)
        try:
            probe.sendto(query, (network.ADDRESS, 53))
            answer = probe.recv(512)
        except OSError:
            return False
    flags, _, answers = struct.unpack(">3H", answer[2:8])
    return bool(flags & 0xF == 0 and answers > 0)


def start(program: Path, kubeconfig: Path) -> None:
    """Starts the name server and waits until it knows the cluster's services."""
    corefile = cache.run_folder() / "Corefile"
    corefile.write_text(
        f""".:53 {{
    bind {network.ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {json.dumps(str(kubeconfig))} lab
    }}
    forward . /etc/resolv.conf
    cache 5
}}
"""
    )
    if processes.running("coredns") is None:
        control_plane.require_free_port(53, network.ADDRESS, "coredns")
    processes.start("coredns", [program, "-conf", corefile])
    processes.wait_until(_answers, "an answer of the name server", "coredns")
