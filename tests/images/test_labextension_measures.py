"""What the extension measures, on a /proc, control groups and a driver that the test makes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.images.lab_world import EXTENSION

sys.path.insert(0, str(EXTENSION))

from armillary_lab import state
from armillary_lab.activity import Connections, Requests, Signs, kernels_of
from armillary_lab.devices import Cards
from armillary_lab.processes import SPAWN_ID, Meter

MARK = "5" * 32


class Proc:
    """A /proc of some processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put_groups("0::/\n")

    def put(self, pid: int, *, ticks: int, parent: int = 1, session: int = 1, mark: str = "", pages: int = 100) -> None:
        place = self.folder / str(pid)
        place.mkdir(exist_ok=True)
        words = ["S", parent, pid, session, *[0] * 7, ticks, 0, *[0] * 6, 1000 + pid]
        (place / "stat").write_text(f"{pid} (a (b) c) {' '.join(map(str, words))}\n")
        (place / "statm").write_text(f"{10 * pages} {pages} {pages // 2} 0 0 0 0\n")
        (place / "environ").write_bytes(f"A=1\0{SPAWN_ID}={mark}\0".encode())

    def put_groups(self, text: str) -> None:
        (self.folder / "self").mkdir(exist_ok=True)
        (self.folder / "self" / "cgroup").write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "proc").mkdir()
    return Proc(tmp_path / "proc")


def meter(proc: Proc, environ: dict[str, str], groups: Path | None = None) -> Meter:
    return Meter(environ, proc.folder, groups or proc.folder / "none")


def test_only_the_sessions_own_processes_count(proc: Proc) -> None:
    proc.put(10, ticks=100, mark=MARK)
    proc.put(11, ticks=100, mark="6" * 32)
    proc.put(12, ticks=100)
    made = meter(proc, {SPAWN_ID: MARK})
    assert made.measure(100.0).cpu is None
    for pid in (10, 11, 12):
        proc.put(pid, ticks=400, mark={10: MARK, 11: "6" * 32}.get(pid, ""))
    used = made.measure(110.0)
    assert used.cpu == pytest.approx(0.3)
    page = 4096
    assert used.memory == 50 * page + 50 * page


def test_a_terminals_commands_are_told_by_its_session(proc: Proc) -> None:
    proc.put(10, ticks=0, mark=MARK, session=10)
    proc.put(20, ticks=0, mark=MARK, session=20)
    made = meter(proc, {SPAWN_ID: MARK})
    made.measure(100.0, [10, 20])
    proc.put(21, ticks=500, mark=MARK, parent=1, session=20)  # in the background, its shell's child no more
    assert made.measure(110.0, [10, 20]).terminals == {10: 0.0, 20: pytest.approx(0.5)}


def test_in_a_pod_everything_that_can_be_seen_counts(proc: Proc) -> None:
    proc.put(1, ticks=0)
    made = meter(proc, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    made.measure(0.0)
    proc.put(1, ticks=100)
    assert made.measure(1.0).cpu == pytest.approx(1.0)


def test_a_control_group_of_ones_own_knows_better(proc: Proc, tmp_path: Path) -> None:
    group = tmp_path / "groups" / "armillary" / MARK
    group.mkdir(parents=True)
    proc.put_groups(f"0::/armillary/{MARK}\n")
    (group / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 1\n")
    (group / "memory.current").write_text("5000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 2000\n")
    made = meter(proc, {SPAWN_ID: MARK}, tmp_path / "groups")
    assert made.measure(0.0).memory == 3000
    (group / "cpu.stat").write_text("usage_usec 3000000\n")
    assert made.measure(4.0).cpu == pytest.approx(0.5)
    proc.put_groups("0::/somebody.else\n")
    assert made.measure(5.0).memory is None


def test_a_group_that_may_not_be_looked_into_hides_nothing_else_and_the_whole_machine_is_not_taken_for_it(
    proc: Proc, tmp_path: Path
) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    (groups / "cpu.stat").write_text("usage_usec 900000000\n")
    (groups / "memory.stat").write_text("anon 1\n")
    (groups / "memory.current").write_text("999999999\n")
    for name in (MARK, MARK + "x" * 300):  # not there; and one of which the kernel tells an error, even to root
        proc.put_groups(f"0::/armillary/{name}\n")
        made = meter(proc, {SPAWN_ID: MARK}, groups)
        made.measure(0.0)
        (groups / "cpu.stat").write_text("usage_usec 990000000\n")
        found = made.measure(1.0)
        assert (found.cpu or 0.0) < 10
        assert (found.memory or 0) < 999999999


def test_version_one_of_control_groups_too(proc: Proc, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    proc.put_groups(f"4:memory:/armillary/{MARK}\n2:cpuacct:/armillary/{MARK}\n0::/\n")
    for controller, file, text in (
        ("memory", "memory.usage_in_bytes", "9000"),
        ("memory", "memory.stat", "inactive_file 1\ntotal_inactive_file 4000\n"),
        ("cpuacct", "cpuacct.usage", "1000000000"),
    ):
        place = groups / controller / "armillary" / MARK
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)
    made = meter(proc, {SPAWN_ID: MARK}, groups)
    assert made.measure(0.0).memory == 5000
    (groups / "cpuacct" / "armillary" / MARK / "cpuacct.usage").write_text("2000000000")
    assert made.measure(2.0).cpu == pytest.approx(0.5)


# --- cards -----------------------------------------------------------------------------------------------------------


class NvmlError(Exception):
    pass


class Nvml:
    """A driver with two cards and a slice."""

    NVMLError = NvmlError
    NVML_GPU_UTILIZATION_SAMPLES = 1

    def __init__(self) -> None:
        self.samples: list[tuple[int, int]] = []
        self.begun = 0

    def nvmlInit(self) -> None:
        self.begun += 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> str:
        return f"GPU-{number}"

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name == "GPU-gone":
            raise NvmlError("Not Found")
        return name

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return f"Card {handle}".encode()

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=5, total=10)

    def nvmlDeviceGetSamples(self, handle: str, kind: int, last: int) -> Any:
        if not self.samples:
            raise NvmlError("Not Supported")
        found = [SimpleNamespace(timeStamp=at, sampleValue=SimpleNamespace(uiVal=value)) for at, value in self.samples]
        return 3, found

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        if handle.startswith("MIG-"):
            raise NvmlError("Not Supported")
        return SimpleNamespace(gpu=70, memory=1)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["Card GPU-0", "Card GPU-1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, []),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, ["Card GPU-0", "Card GPU-1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-7"}, ["Card GPU-7"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-gone"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["Card GPU-0", "Card GPU-1"]),
    ],
)
def test_the_sessions_own_cards_are_measured(environ: dict[str, str], names: list[str]) -> None:
    assert [one.name for one in Cards(environ, Nvml()).measure()] == names


def test_use_is_the_mean_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Nvml()
    cards = Cards({"CUDA_VISIBLE_DEVICES": "GPU-7"}, driver)
    assert cards.measure()[0].utilisation == 0.7
    driver.samples = [(1, 100), (2, 0)]
    assert cards.measure()[0].utilisation == 0.5
    driver.samples += [(3, 20)]
    assert cards.measure()[0].utilisation == pytest.approx(0.2)


def test_of_a_slice_only_the_memory_is_known() -> None:
    assert Cards({"CUDA_VISIBLE_DEVICES": "MIG-1"}, Nvml()).measure() == [state.Device("Card MIG-1", None, 5, 10)]


def test_without_a_driver_there_is_nothing_to_tell() -> None:
    driver = Nvml()
    driver.nvmlInit = lambda: (_ for _ in ()).throw(NvmlError("Driver Not Loaded"))  # type: ignore[method-assign]
    cards = Cards({}, driver)
    assert cards.measure() == cards.measure() == []


# --- signs of work ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "work"),
    [
        ("PUT", "api/contents/a.ipynb", "", 200, True),
        ("POST", "api/kernels", "", 201, True),
        ("POST", "api/kernels", "", 403, False),
        ("POST", "armillary/keep", "", 200, False),
        ("PUT", "lab/api/workspaces/default", "no_track_activity=1", 204, False),
        ("GET", "api/contents/a.ipynb", "type=notebook&content=1", 200, True),
        ("GET", "api/contents/a.ipynb", "content=0", 200, False),
        ("GET", "api/contents/folder", "content=1", 200, False),
        ("GET", "files/data.csv", "", 200, True),
        ("POST", "git/repository/status", "", 200, False),
        ("PUT", "lab/api/workspaces/default", "", 204, False),
        ("GET", "api/kernels", "1700000000", 200, False),
        ("GET", "api/terminals", "", 200, False),
        ("GET", "lab", "", 200, False),
        ("POST", "mlflow/ajax-api/2.0/mlflow/runs/create", "", 200, True),
        ("GET", "mlflow/", "", 200, False),
        ("POST", "mlflowish/", "", 200, False),
    ],
)
def test_which_requests_are_work(method: str, path: str, query: str, status: int, work: bool) -> None:
    told: list[Any] = []
    requests = Requests(told.append, "/user/ann/", ["mlflow"], clock=lambda: 7.0)
    request = SimpleNamespace(method=method, path=f"/user/ann/{path}", query=query)
    handler = SimpleNamespace(request=request, get_status=lambda: status)
    requests(handler)
    assert told == [handler]
    assert requests.last == (7.0 if work else None)


def test_a_connection_counts_from_its_opening_to_its_end_once() -> None:
    connections = Connections()
    one, two = object(), object()
    for handler in (one, two, one):
        connections.opened(handler)
    assert len(connections) == 2
    for handler in (one, one):
        connections.closed(handler)
    assert len(connections) == 1


def test_ages_are_counted_by_a_clock_that_nobody_sets() -> None:
    now = [100.0]
    signs = Signs(lambda: now[0])
    assert signs.quiet_s("a") == 0
    now[0] += 30
    assert signs.quiet_s("a") == 30
    now[0] += 30
    assert signs.quiet_s("b", stamps=[datetime.now(UTC) - timedelta(seconds=10)]) == pytest.approx(10, abs=2)
    now[0] += 30
    # the machine's clock was set: what its stamps say fits nowhere, but something has changed
    assert signs.quiet_s("c", stamps=[datetime.now(UTC) - timedelta(hours=3)]) == 0
    now[0] += 30
    assert signs.quiet_s("c", request_at=now[0] - 5) == 5
    now[0] += 30
    assert signs.quiet_s("c", request_at=now[0] - 35) == 35


def test_kernels_by_what_they_do() -> None:
    models = [
        {"id": "1", "execution_state": "busy", "last_activity": "x"},
        {"id": "2", "execution_state": "idle", "last_activity": "y"},
        {"id": "3", "execution_state": "starting"},
    ]
    found = kernels_of(models)
    assert (found.number, found.busy) == (3, 1)
    assert found.last != kernels_of([{**models[0], "last_activity": "z"}, *models[1:]]).last


def test_documents_survive_what_a_newer_or_older_service_says() -> None:
    made = state.State(session=state.Session(title="T4", keep=state.Keep(True, 3)), budgets=[state.Budget(used_h=3)])
    assert state.read(state.State, state.written(made)) == made
    said = {"now": 3, "budgets": [{"used_h": "x", "limit_h": 4}], "unknown": 1, "here": None, "session": {"keep": 5}}
    found = state.read(state.State, said)
    assert found == state.State(now=3.0, budgets=[state.Budget(limit_h=4.0)])
    assert state.read(state.State, "nonsense") == state.State()
