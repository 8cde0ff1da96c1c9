"""The lab's network on this machine: a bridge for pods, CNI's configuration, and its complete removal."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError

BRIDGE = "cni0"
ADDRESS = "10.88.0.1"
PODS = "10.88.0.0/16"
# The machine's own address, and those that a virtual machine beside the cluster may take, are not for pods.
POD_RANGE = ("10.88.1.0", "10.88.199.255")
SERVICES = "10.96.0.0/16"
NETWORK = "armillary-lab"

_CHAIN = "ARMILLARY-LAB"
# A namespace of the kernel beside the pods, and this machine's end of its cable.
_BESIDE = "armillary-beside"
_CABLE = "armlab-beside"
# kubelet, kube-proxy and the bridge change these; they get their values back.
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
)
# CNI's library keeps what it did for each container here; no setting moves it.
_CNI_RESULTS = Path("/var/lib/cni/results")
_NAMESPACES = Path("/run/netns")
_TABLES = ("filter", "nat", "mangle", "raw")
_OURS = re.compile(rf"(KUBE-|CNI-|{_CHAIN})")


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _exists(device: str) -> bool:
    return Path("/sys/class/net", device).exists()


def _saved_sysctls() -> Path:
    return cache.run_folder() / "sysctls.json"


def _save_sysctls() -> None:
    if _saved_sysctls().exists():
        return
    values = {}
    for name in _SYSCTLS:
        with suppress(OSError):
            values[name] = Path("/proc/sys", name).read_text().strip()
    _saved_sysctls().write_text(json.dumps(values))


def _restore_sysctls() -> None:
    if not _saved_sysctls().exists():
        return
    for name, value in json.loads(_saved_sysctls().read_text()).items():
        path = Path("/proc/sys", name)
        with suppress(OSError):
            if path.read_text().strip() != value:
                path.write_text(value)


def _masquerade() -> None:
    """Lets pods reach what this machine reaches; one chain of ours, so that it can be found again."""
    rules = f"""\
*nat
:{_CHAIN} - [0:0]
-F {_CHAIN}
-A {_CHAIN} -s {PODS} ! -d {PODS} -j MASQUERADE
COMMIT
"""
    subprocess.run(["iptables-restore", "--noflush", "--wait"], input=rules, text=True, check=True)
    jump = ["-t", "nat", "POSTROUTING", "-j", _CHAIN]
    known = subprocess.run(
        ["iptables", "--wait", "-C", jump[2], *jump[:2], *jump[3:]], capture_output=True, check=False
    )
    if known.returncode:
        subprocess.run(["iptables", "--wait", "-A", jump[2], *jump[:2], *jump[3:]], check=True)


def up(cni_folder: Path) -> None:
    """Makes the bridge with its address, forwarding, and CNI's configuration in `cni_folder`."""
    _save_sysctls()
    address = f"{ADDRESS}/{ipaddress.ip_network(PODS).prefixlen}"
    if not _exists(BRIDGE):
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("address", "add", address, "dev", BRIDGE)
    elif address not in _ip("-4", "-o", "address", "show", "dev", BRIDGE):
        raise LabError(f"a bridge {BRIDGE} without the address {address} exists: another cluster's? Remove it first.")
    _ip("link", "set", BRIDGE, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _masquerade()
    ranges = [[{"subnet": PODS, "rangeStart": POD_RANGE[0], "rangeEnd": POD_RANGE[1], "gateway": ADDRESS}]]
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(cache.run_folder() / "ipam"),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    cni_folder.mkdir(parents=True, exist_ok=True)
    configuration = {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge]}
    (cni_folder / "10-lab.conflist").write_text(json.dumps(configuration, indent=1))


def _removal(table: str, saved: Iterable[str], ours: re.Pattern[str] = _OURS) -> str:
    """What iptables-restore must be told to remove our chains, and every rule that leads into them."""
    chains, jumps = [], []
    for line in saved:
        words = shlex.split(line, comments=line.startswith("#"))
        if not words:
            continue
        if words[0].startswith(":") and ours.match(words[0][1:]):
            chains.append(words[0][1:])
        elif words[0] == "-A" and not ours.match(words[1]) and any(ours.match(word) for word in words[2:]):
            jumps.append("-D " + line.removeprefix("-A "))
    if not chains:
        return ""
    lines = [f"*{table}", *jumps, *(f"-F {name}" for name in chains), *(f"-X {name}" for name in chains), "COMMIT", ""]
    return "\n".join(lines)


def _our_rules(ours: re.Pattern[str] = _OURS) -> list[tuple[str, str]]:
    """For each of iptables and ip6tables and each table that holds rules of ours: program, text that removes them."""
    found = []
    for program in ("iptables", "ip6tables"):
        if shutil.which(f"{program}-save") is None:
            continue
        for table in _TABLES:
            saved = subprocess.run([f"{program}-save", "-t", table], capture_output=True, text=True, check=False).stdout
            if text := _removal(table, saved.splitlines(), ours):
                found.append((program, text))
    return found


def remove_chains(ours: re.Pattern[str] = _OURS) -> None:
    """Removes the lab's chains of iptables whose names begin so, and every rule that leads into them."""
    for program, text in _our_rules(ours):
        done = subprocess.run(
            [f"{program}-restore", "--noflush", "--wait"], input=text, text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise LabError(f"rules of {program} could not be removed: {done.stderr.strip()}")


@contextmanager
def beside(addresses: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A machine of its own on the pods' bridge, as far as the network goes; policies hold for what comes from there.

    What this machine itself sends to its pods passes no policy, as Kubernetes wants it.

    Args:
        addresses: its addresses, from 10.88.200.0 on; the first one is that which it speaks from unless told otherwise.

    Yields:
        Words before a command that runs there. One such block at a time.
    """
    _remove_beside()  # of a run that was killed
    try:
        _ip("netns", "add", _BESIDE)
        _ip("link", "add", _CABLE, "type", "veth", "peer", "name", "eth0", "netns", _BESIDE)
        _ip("link", "set", _CABLE, "master", BRIDGE, "up")
        for address in addresses:
            _ip("-n", _BESIDE, "address", "add", f"{address}/{ipaddress.ip_network(PODS).prefixlen}", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", _BESIDE, "link", "set", device, "up")
        yield ("nsenter", f"--net={_NAMESPACES / _BESIDE}")
    finally:
        _remove_beside()


def _remove_beside() -> None:
    if _exists(_CABLE):
        _ip("link", "delete", _CABLE)
    if (_NAMESPACES / _BESIDE).exists():
        _ip("netns", "delete", _BESIDE)


def down() -> None:
    """Removes bridge, rules, CNI's records and restores the kernel's settings."""
    remove_chains()
    _remove_beside()
    if _exists(BRIDGE):
        _ip("link", "delete", BRIDGE)
    for record in _CNI_RESULTS.glob(f"{NETWORK}-*"):
        record.unlink()
    _restore_sysctls()


def leftovers() -> list[str]:
    """What of the lab's network is still there, in words; empty after `down`."""
    found = []
    if _exists(BRIDGE):
        found.append(f"bridge {BRIDGE}")
    if (_NAMESPACES / _BESIDE).exists():
        found.append(f"network namespace {_BESIDE}")
    for program, text in _our_rules():
        found.append(f"chains of {program}: " + " ".join(re.findall(r"^-X (\S+)", text, flags=re.MULTILINE)))
    found += [f"CNI record {record}" for record in _CNI_RESULTS.glob(f"{NETWORK}-*")]
    return found
