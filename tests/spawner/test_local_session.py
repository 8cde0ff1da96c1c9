"""Real processes: started, found again, ended; nothing foreign touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from spawner.processes import records
from spawner.processes.ending import end_all, settle, wait_gone
from spawner.processes.identity import Process, boot_id, hold, is_alive, look, send
from spawner.processes.launcher import CANCELLED, NOT_SET_UP
from spawner.processes.records import Claim
from spawner.processes.session import Session, adopt, last_lines, shorten, start
from tests.spawner.local_sessions import SERVER, SLEEP, STUBBORN, Ground, daemon, ground_of, living, python, says, until


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async for ground in ground_of(tmp_path):
        yield ground


def ask(session: Session) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{session.port}/", timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


async def answers(session: Session) -> dict[str, object]:
    """Ask until the session answers."""
    while True:
        try:
            return await asyncio.to_thread(ask, session)
        except OSError:
            assert session.alive(), last_lines(session.log)
            await asyncio.sleep(0.02)


async def test_a_session_gets_exactly_the_environment_it_is_given(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HUB", "x")
    session = await ground.start(python(SERVER), environment={"JUPYTERHUB_API_TOKEN": "token-of-ann"})
    environment = (await answers(session))["environment"]
    assert isinstance(environment, dict)
    # LC_CTYPE is set by Python itself (PEP 538)
    assert set(environment) - {"LC_CTYPE"} == {
        "PATH",
        "HOME",
        "ARMILLARY_SPAWN_ID",
        "JUPYTERHUB_SERVICE_URL",
        "JUPYTERHUB_API_TOKEN",
    }


async def test_the_token_is_in_no_command_line_record_or_log(ground: Ground) -> None:
    session = await ground.start(python(SERVER), environment={"JUPYTERHUB_API_TOKEN": "token-of-ann"})
    await answers(session)
    command = Path(f"/proc/{session.process.pid}/cmdline").read_bytes()
    files = [path.read_bytes() for path in ground.folder.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [text for text in [command, *files] if b"token-of-ann" in text]


async def test_a_session_has_a_unix_session_of_its_own_and_starts_in_its_home(ground: Ground) -> None:
    code = "import os; print(os.getcwd(), oct(os.umask(0)), os.getsid(0) == os.getpid(), flush=True)"
    session = await ground.start(python(code))
    await session.gone
    assert session.log.read_text() == f"{ground.folder / 'homes' / 'ann'} 0o77 True\n"


async def test_signals_that_the_hub_ignores_are_not_ignored_by_sessions(ground: Ground) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = await ground.start(
            python("import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, flush=True)")
        )
        await session.gone
    finally:
        signal.signal(signal.SIGHUP, before)
    assert session.log.read_text() == "True\n"


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("pass", 0)]
)
async def test_the_exit_code_is_known(ground: Ground, code: str, expected: int) -> None:
    session = await ground.start(python(code))
    assert await session.gone == expected
    assert not session.alive()


async def test_a_program_that_does_not_exist_is_named_in_the_log(ground: Ground) -> None:
    session = await ground.start(("/nonexistent/program",))
    assert await session.gone == NOT_SET_UP
    assert "/nonexistent/program" in last_lines(session.log)


async def test_ending_is_polite_first(ground: Ground) -> None:
    session = await ground.start(python(SERVER))
    await answers(session)
    assert await session.end(grace_s=30) == ()
    assert session.exit_code() == 0  # its own handler ended it, not SIGKILL
    assert records.claims(ground.records) == []


async def test_a_stubborn_session_is_killed_after_the_grace(ground: Ground) -> None:
    session = await ground.start(python(STUBBORN))
    await until(says(session, "up"))
    assert await session.end(grace_s=0.1) == ()
    await session.gone
    assert session.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize("inner", [SLEEP, STUBBORN])
async def test_daemons_that_left_the_session_are_ended_too(ground: Ground, inner: str) -> None:
    session = await ground.start(python(daemon(inner)))
    await until(lambda: session.log.read_text().count("up") == 2)
    assert len(living(session)) == 2
    assert await session.end(grace_s=0.2) == ()
    assert living(session) == set()


async def test_what_a_dead_server_left_is_ended(ground: Ground) -> None:
    session = await ground.start(python(daemon(SLEEP)))
    await until(lambda: session.log.read_text().count("up") == 2)
    send(session.process, signal.SIGKILL)
    await session.gone
    assert len(living(session)) == 1
    assert await session.end(grace_s=0) == ()
    assert living(session) == set()


async def test_a_stopped_server_lives_and_can_be_ended(ground: Ground) -> None:
    session = await ground.start(python(SERVER))
    await answers(session)
    send(session.process, signal.SIGSTOP)
    await until(lambda: (stat := look(session.process.pid)) is not None and stat.state == "T")
    assert session.alive()
    assert await session.end(grace_s=30) == ()
    assert session.exit_code() == 0


async def test_two_servers_of_one_person_are_told_apart(ground: Ground) -> None:
    one = await ground.start(python(SLEEP), server="one")
    two = await ground.start(python(SLEEP), server="two")
    await until(says(two, "up"))
    await one.end(grace_s=0)
    assert two.alive()
    assert [claim.record.server for claim in records.claims(ground.records)] == ["two"]


# --- who a process is ----------------------------------------------------------------------------------------


def other_start(process: Process) -> Process:
    return replace(process, started=process.started - 1)


@pytest.mark.parametrize("wrong", [other_start, lambda process: replace(process, boot="another boot")])
async def test_a_recycled_pid_is_dead_and_never_signalled(ground: Ground, wrong: object) -> None:
    assert callable(wrong)
    bystander = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE)
    try:
        assert bystander.stdout is not None
        bystander.stdout.readline()
        stat = look(bystander.pid)
        assert stat is not None
        process = wrong(stat.process)
        assert not is_alive(process)
        assert hold(process) is None
        assert not send(process, signal.SIGKILL)
        record = replace(ground.order(python(SLEEP)).record, boot=process.boot)
        claim = records.plan(ground.records, record)
        claim.rename(ground.records / f"{record.stem}.{process.pid}-{process.started}.json")
        found = records.find(ground.records, "ann", "")
        assert [one.process for one in found] == [process]
        assert adopt(found[0], ground.records, ground.folder / "log") is None
        assert [ended.left for ended in await end_all(ground.records, grace_s=1)] == [()]
        assert records.claims(ground.records) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


async def test_a_zombie_is_dead(ground: Ground) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {})
    stat = look(pid)
    assert stat is not None
    try:
        assert await wait_gone(stat.process, 30)
        zombie = look(pid)
        assert zombie is not None
        assert zombie.state == "Z"
        assert not is_alive(stat.process)
        record = ground.order(python(SLEEP)).record
        assert adopt(Claim(record, ground.records / "x", stat.process), ground.records, ground.folder) is None
    finally:
        os.waitpid(pid, 0)


def test_neither_init_nor_the_hub_itself_is_ever_signalled() -> None:
    own = look(os.getpid())
    assert own is not None
    assert not send(own.process, signal.SIGTERM)
    first = look(1)
    assert first is not None
    assert not send(first.process, signal.SIGCONT)


# --- launch records ------------------------------------------------------------------------------------------


async def test_the_record_leads_another_hub_to_the_session(ground: Ground) -> None:
    session = await ground.start(python(SERVER))
    await answers(session)
    (claim,) = records.find(ground.records, "ann", "")
    assert claim.process == session.process
    assert claim.record == session.record
    found = adopt(claim, ground.records, session.log)
    assert found is not None
    assert found.alive()
    assert found.port == session.port
    await found.end(grace_s=30)
    await found.gone
    assert not session.alive()


async def test_a_cancelled_plan_is_never_run(ground: Ground, tmp_path: Path) -> None:
    order = ground.order(python(f"open({str(tmp_path / 'ran')!r}, 'w')"))
    path = records.plan(ground.records, order.record)
    assert records.cancel(path)
    launcher = Path(records.__file__).with_name("launcher.py")
    done = subprocess.run([sys.executable, "-I", "-S", str(launcher)], input=order.document(path), check=False)
    assert done.returncode == CANCELLED
    assert not (tmp_path / "ran").exists()
    assert not records.cancel(path)


async def test_a_plan_that_ends_early_is_not_run(ground: Ground, tmp_path: Path) -> None:
    """The hub was killed while it wrote."""
    order = ground.order(python(f"open({str(tmp_path / 'ran')!r}, 'w')"))
    path = records.plan(ground.records, order.record)
    launcher = Path(records.__file__).with_name("launcher.py")
    document = order.document(path)
    for length in (0, 1, len(document) // 2, len(document) - 1):
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(launcher)], input=document[:length], capture_output=True, check=False
        )
        assert done.returncode == CANCELLED
    assert not (tmp_path / "ran").exists()
    (claim,) = records.claims(ground.records)
    assert claim.process is None
    assert settle(ground.records, claim) is None
    assert records.claims(ground.records) == []


async def test_claim_and_cancellation_have_one_winner(ground: Ground) -> None:
    """Many races: either the session runs and its record says so, or it never runs."""
    ran = cancelled = 0
    for round_ in range(30):
        order = ground.order(python(SLEEP))
        work = asyncio.ensure_future(start(order))
        path = ground.records / f"{order.record.stem}.planned.json"
        await until(lambda path=path, work=work: path.exists() or work.done())
        await asyncio.sleep(0.002 * (round_ % 15))
        won = records.cancel(path)
        session = await work
        if won:
            assert await session.gone == CANCELLED
            assert records.claims(ground.records) == []
            cancelled += 1
        else:
            assert [claim.process for claim in records.claims(ground.records)] == [session.process]
            await session.end(grace_s=0)
            ran += 1
    assert cancelled


@pytest.mark.parametrize("pauses", [0, 1, 2, 5, 20])
async def test_a_cancelled_start_leaves_nothing(ground: Ground, pauses: int) -> None:
    order = ground.order(python(SLEEP))
    work = asyncio.ensure_future(start(order))
    for _ in range(pauses):
        await asyncio.sleep(0.002)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await work).end(grace_s=0)  # it had finished before it was cancelled
    assert records.claims(ground.records) == []
    marked = [name for name in os.listdir("/proc") if name.isdigit() and _marked(name, order.record.spawn_id)]
    assert marked == []


def _marked(pid: str, spawn_id: str) -> bool:
    try:
        stat = look(int(pid))
        return stat is not None and not stat.dead and spawn_id.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


async def test_records_that_cannot_be_read_are_left_alone(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    session = await ground.start(python(SLEEP))
    await until(says(session, "up"))
    bad = ground.records / f"{'0' * 16}-{'0' * 32}.planned.json"
    bad.write_text("{")
    (ground.records / "notes.txt").write_text("not ours")
    assert [claim.process for claim in records.claims(ground.records)] == [session.process]
    assert "is not a launch record" in caplog.text
    assert bad.exists()


def test_names_that_meet_in_the_hash_are_not_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_key", lambda user, server: "0" * 16)
    for number, (user, server) in enumerate([("ann", ""), ("ann", "x"), ("annx", "")]):
        records.plan(tmp_path, records.Record(f"{number:032x}", user, server, 1, None, False, boot_id(), "now"))
    assert [claim.record.spawn_id[-1] for claim in records.find(tmp_path, "ann", "x")] == ["1"]


async def test_end_all_ends_every_session_and_names_them(ground: Ground) -> None:
    sessions = [await ground.start(python(daemon(STUBBORN)), user=user) for user in ("ann", "ben", "ä")]
    for session in sessions:
        await until(lambda session=session: session.log.read_text().count("up") == 2)
    records.plan(ground.records, ground.order(python(SLEEP), user="eve").record)
    ended = await end_all(ground.records, grace_s=0.1)
    assert sorted((one.user, one.left) for one in ended) == [("ann", ()), ("ben", ()), ("eve", ()), ("ä", ())]
    assert [living(session) for session in sessions] == [set(), set(), set()]
    assert records.claims(ground.records) == []
    assert await end_all(ground.folder / "missing", grace_s=1) == []


# --- logs ----------------------------------------------------------------------------------------------------


async def test_a_log_is_private_and_the_last_one_is_kept(ground: Ground) -> None:
    order = ground.order(python("print('first')"))
    await (await start(order)).gone
    again = replace(ground.order(python("print('second')")), log=order.log)
    await (await start(again)).gone
    assert order.log.read_text() == "second\n"
    assert order.log.with_name(f"{order.log.name}.1").read_text() == "first\n"
    assert {path.stat().st_mode & 0o777 for path in order.log.parent.iterdir()} == {0o600}


async def test_a_log_is_cut_while_the_session_writes_on(ground: Ground) -> None:
    session = await ground.start(
        python(
            "import time\nprint('x' * 5000 + 'end', flush=True)\nwhile True:\n  time.sleep(0.01); print('later', flush=True)"
        )
    )
    await until(says(session, "later"))
    shorten(session.log, 1000)
    await until(says(session, "later"))
    assert len(session.log.read_bytes()) < 5000
    assert b"end" in session.log.with_name(f"{session.log.name}.1").read_bytes()
    assert not session.log.read_bytes().startswith(b"\0")


def test_last_lines_hold_no_control_characters(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" * 30 + b"\x1b[31mred\x07\xff\n")
    assert last_lines(log).splitlines()[-1] == " [31mred \ufffd"
    assert len(last_lines(log).splitlines()) == 20
    assert last_lines(tmp_path / "missing") == ""
