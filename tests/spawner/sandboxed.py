"""Run by test_local_isolation under an account without rights: two people in sandboxes, one of them curious."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from spawner.processes.isolation import detect
from tests.spawner.local_sessions import SERVER, Ground, living, python

CURIOUS = """
import json, os, signal, sys
def tried(action):
    try:
        action()
        return "done"
    except OSError:
        return "refused"
pid, home, root = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), os.geteuid()],
    "file": tried(lambda: open(home + "/secret").read()),
    "environ": tried(lambda: open(f"/proc/{pid}/environ").read()),
    "signal": tried(lambda: os.kill(pid, signal.SIGKILL)),
    "records": tried(lambda: os.listdir(root + "/launches")),
    "elsewhere": tried(lambda: open("/usr/planted", "w")),
    "own": tried(lambda: open(os.environ["HOME"] + "/mine", "w").write("x")),
    "homes_seen": os.listdir(root + "/homes"),
    "state_seen": os.listdir(root),
    "pids": [len([name for name in os.listdir("/proc") if name.isdigit()]) < 5],
}))
"""


async def main(folder: Path) -> dict[str, object]:
    """Return what the curious one could do, and how the other one's server took its end."""
    ground = Ground(folder / "state", isolation=detect())
    (folder / "state").mkdir()
    victim = await ground.start(python(SERVER), user="ann", environment={"JUPYTERHUB_API_TOKEN": "of-ann"})
    (folder / "state" / "homes" / "ann" / "secret").write_text("of ann")
    reachable = await _answers(victim.port)
    ours = await asyncio.to_thread(victim.listens)
    # The pid to attack: the server itself, as the hub's side sees it.
    pid = max(process.pid for process in living(victim))
    home = folder / "state" / "homes" / "ann"
    curious = await ground.start((*python(CURIOUS), str(pid), str(home), str(folder / "state")), user="ben")
    if await curious.gone != 0:
        print(curious.log.read_text(), file=sys.stderr)
    found: dict[str, object] = json.loads(curious.log.read_text())
    found |= {"kind": ground.isolation.kind, "reachable": reachable, "is_ours": ours, "still_there": victim.alive()}
    found["left"] = list(await victim.end(grace_s=30))
    found["left"] = [*found["left"], *(process.pid for process in living(victim))]
    found["exit_code"] = await victim.gone
    await ground.clear()
    return found


async def _answers(port: int) -> bool:
    for _ in range(1000):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return True
    return False
