"""Launch records: what leads back to a session after the hub was killed, at whatever moment.

One JSON file per start, written before anything is started. Its content never changes; its *name* says how
far the start is:

    KEY-SPAWNID.planned.json          nothing runs yet; removing it cancels the start for good
    KEY-SPAWNID.PID-STARTED.json      the launcher claimed it: this very process is, or was, the session

Both the cancelling removal and the claiming rename are atomic and only one of them can succeed. KEY is a hash of
user and server name, so that one session is found without reading all records. Nothing in a record is secret.
All functions block on the disk: call them in a thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spawner.processes.identity import Process

__all__ = ["Claim", "Record", "cancel", "claims", "find", "plan", "remove"]

_NAME = re.compile(r"(?P<stem>[0-9a-f]{16}-[0-9a-f]{32})\.(?:planned|(?P<pid>[0-9]+)-(?P<started>[0-9]+))\.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What was planned. `uid` is None where the session has no account of its own; `made_at` is in UTC, ISO 8601."""

    spawn_id: str
    user: str
    server: str
    port: int
    uid: int | None
    wrapped: bool
    boot: str
    made_at: str
    cgroups: tuple[str, ...] = ()
    memory: int | None = None
    devices: tuple[str, ...] = ()
    """Uuids of the accelerators that it was given."""

    @property
    def stem(self) -> str:
        """The beginning of the file's name, the same in all stages."""
        return f"{_key(self.user, self.server)}-{self.spawn_id}"


@dataclass(frozen=True)
class Claim:
    """A record as it lies on disk; `process` is None while it is only planned."""

    record: Record
    path: Path
    process: Process | None


def _key(user: str, server: str) -> str:
    return hashlib.sha256(f"{user}\0{server}".encode()).hexdigest()[:16]


def plan(folder: Path, record: Record) -> Path:
    """Write a record durably (file and directory) and return its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{record.stem}.planned.json"
    draft = folder / f".{record.stem}.draft"
    with open(draft, "w", encoding="utf-8", opener=_private) as file:
        json.dump(asdict(record), file, ensure_ascii=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, path)
    _sync(folder)
    return path


def cancel(path: Path) -> bool:
    """Take a planned record back: True, this start can never run any more; False, it was claimed or removed."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _sync(path.parent)
    return True


def remove(claim: Claim) -> None:
    """Remove the record of a session that has ended."""
    claim.path.unlink(missing_ok=True)


def find(folder: Path, user: str, server: str) -> list[Claim]:
    """Return the records of one server, in no order; usually none or one."""
    key = _key(user, server)
    found = _read(folder, prefix=key)
    return [claim for claim in found if claim.record.user == user and claim.record.server == server]


def claims(folder: Path) -> list[Claim]:
    """Return every record."""
    return _read(folder, prefix="")


def _read(folder: Path, prefix: str) -> list[Claim]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match and name.startswith(prefix):
            claim = _read_one(folder, folder / name, match)
            if claim is not None:
                found.append(claim)
    return found


def _read_one(folder: Path, path: Path, match: re.Match[str]) -> Claim | None:
    try:
        record = _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if match["pid"] is None:  # claimed between the listing and now
            for name in os.listdir(folder):
                again = _NAME.fullmatch(name)
                if again and again["stem"] == match["stem"] and again["pid"] is not None:
                    return _read_one(folder, folder / name, again)
        return None
    except (ValueError, TypeError, KeyError) as error:
        _log.error("%s is not a launch record (%s); it is left alone", path, error)
        return None
    process = Process(int(match["pid"]), int(match["started"]), record.boot) if match["pid"] else None
    return Claim(record, path, process)


def _parse(data: dict[str, Any]) -> Record:
    return Record(**{**data, "cgroups": tuple(data["cgroups"]), "devices": tuple(data.get("devices", ()))})


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
