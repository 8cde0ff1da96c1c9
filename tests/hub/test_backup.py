"""Copies of an installation: what is in one, by which programs, and the command."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from hub.backup import archive
from hub.backup.archive import manifest_of
from hub.backup.create import create, every
from hub.backup.problem import BackupError
from hub.backup.restore import plan
from hub.db.clock import Now
from hub.db.tables import audit
from hub.db.transaction import write
from hub.db.upgrade import revision_of
from hub.settings import Settings, load
from tests.databases import LazyServer
from tests.hub.backup_world import AFTER, BEFORE, Installation, cut, here, one, put_back

__all__ = ["here", "one"]

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-password-that-nobody-sees"


def test_everything_comes_back_and_what_was_there_is_kept(one: Installation) -> None:
    copy = one.copy()
    one.change()
    assert one.state_of_all() == AFTER
    said = put_back(one, copy)
    assert one.state_of_all() == BEFORE
    assert not one.settings.paths.unfinished_restore.exists()
    assert stat.S_IMODE(one.settings.paths.cookie_secret.stat().st_mode) == 0o600
    [kept] = every(one.settings.paths.backups)
    assert str(kept.file) in said[0]
    put_back(one, kept.file)
    assert one.state_of_all() == AFTER


def test_a_copy_goes_into_an_empty_place(one: Installation, tmp_path: Path, postgres_server: LazyServer) -> None:
    copy = one.copy()
    (tmp_path / "other").mkdir()
    server = postgres_server.get() if one.environ else None
    urls = [server.fresh_database() for _ in range(2)] if server else []
    other = Installation(tmp_path / "other", *urls)
    said = put_back(other, copy)
    assert other.state_of_all() == BEFORE
    assert not any("is kept as" in sentence for sentence in said)
    other.close()
    for url in urls:
        assert server is not None
        server.drop(url)


def test_a_copy_is_private_and_says_what_it_is_of(here: Installation) -> None:
    copy = here.copy()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    manifest = manifest_of(copy)
    assert (manifest.public_url, manifest.engine) == ("https://hub.example.org", "local")
    assert manifest.databases == {"armillary": "sqlite", "jupyterhub": "sqlite"}
    assert manifest.revision == revision_of(here.own)
    assert {member.path for member in manifest.files} == {
        "configuration/armillary.yaml",
        "databases/armillary.sqlite",
        "databases/jupyterhub.sqlite",
        "provider/accounts.sqlite",
        "provider/canaille.json",
        "secrets/cookie_secret",
    }
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name], "nothing else is left"


def test_secrets_that_a_cluster_mounts_are_kept_for_reference_and_not_put_back(here: Installation) -> None:
    folder = here.settings.paths.secrets
    (folder / "cookie_secret").unlink()
    (folder / "..2026_11_22").mkdir()
    (folder / "..2026_11_22" / "cookie_secret").write_text("mounted\n")
    (folder / "..data").symlink_to("..2026_11_22")
    (folder / "cookie_secret").symlink_to("..data/cookie_secret")
    copy = here.copy()
    paths = {member.path for member in manifest_of(copy).files}
    assert "configuration/mounted-secrets/cookie_secret" in paths
    assert not [path for path in paths if path.startswith("secrets/") or ".." in path]
    put_back(here, copy)
    assert (folder / "cookie_secret").is_symlink()
    assert here.settings.paths.cookie_secret.read_text() == "mounted\n"


def test_what_is_not_committed_is_not_in_it_and_nobody_is_kept_waiting(one: Installation) -> None:
    def work(connection: Any) -> Path:
        row = {"at": Now(), "actor": "user:ann", "action": "test", "subject": "not yet"}
        connection.execute(insert(audit).values(**row))
        return one.copy()

    copy = write(one.own, work)
    put_back(one, copy)
    assert one.state_of_all() == BEFORE


def test_older_ones_are_removed_only_after_a_good_one(here: Installation) -> None:
    copies = [here.copy() for _ in range(3)]
    assert len(set(copies)) == 3
    newest = here.copy(keep=2)
    left = [found.file for found in every(newest.parent)]
    assert len(left) == 2
    assert newest in left
    here.settings.paths.hub_database.write_bytes(b"x" * 4096)
    with pytest.raises(BackupError, match="cannot be copied"):
        here.copy(keep=1)
    assert [found.file for found in every(newest.parent)] == left


def test_a_copy_that_cannot_be_read_back_does_not_stay(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    first = here.copy()
    pack = archive.pack

    def spoilt(folder: Path, target: Path, manifest: archive.Manifest) -> None:
        pack(folder, target, manifest)
        cut(target)

    monkeypatch.setattr(archive, "pack", spoilt)
    with pytest.raises(BackupError, match="damaged"):
        here.copy(keep=1)
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_files_of_somebody_who_was_killed_are_swept_up(here: Installation) -> None:
    folder = here.folder / "copies"
    old, new = folder / ".making-old", folder / ".making-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    here.copy()
    assert (old.exists(), new.exists()) == (False, True)


# --- the programs of PostgreSQL, and other databases -------------------------------------------------------------


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Only these programs are found."""
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def elsewhere(folder: Path) -> Settings:
    """Settings with a PostgreSQL that nobody has."""
    url = f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/{{}}?sslmode=require"
    file = folder / "elsewhere.yaml"
    file.write_text("state_dir: elsewhere\n")
    return load(
        file,
        {"ARMILLARY_DATABASE__URL": url.format("own"), "ARMILLARY_HUB__DATABASE_URL": url.format("hub")},
    )


def test_the_password_is_in_no_argument_and_in_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        f'echo "$@" > {tmp_path}/arguments; echo "$PGPASSWORD" > {tmp_path}/password; echo no such host >&2; exit 1'
    )
    programs(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(BackupError) as told:
        create(elsewhere(tmp_path), None, tmp_path / "copies")
    assert str(told.value) == "pg_dump of the PostgreSQL database own at 127.0.0.1: no such host"
    arguments = (tmp_path / "arguments").read_text()
    assert "--dbname=user=ann host=127.0.0.1 port=1 dbname=own sslmode=require" in arguments
    assert SECRET not in arguments
    assert (tmp_path / "password").read_text().strip() == SECRET
    assert every(tmp_path / "copies") == []


def test_missing_programs_are_named_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match=r"pg_dump is missing; install .*postgresql-client"):
        create(elsewhere(tmp_path), None, tmp_path / "copies")


def test_a_kind_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    file = tmp_path / "armillary.yaml"
    file.write_text("state_dir: state\n")
    settings = load(file, {"ARMILLARY_HUB__DATABASE_URL": f"mysql+pymysql://ann:{SECRET}@db/hub"})
    with pytest.raises(BackupError) as told:
        create(settings, None, tmp_path / "copies")
    assert "hub.database_url: a database of the kind mysql cannot be copied" in str(told.value)
    assert SECRET not in str(told.value)


def test_without_tables_there_is_nothing_to_copy(tmp_path: Path) -> None:
    bare = Installation(tmp_path)
    with pytest.raises(BackupError, match="there is no database at"):
        bare.copy()
    bare.close()


def test_the_url_of_this_machines_socket_reaches_the_programs(one: Installation) -> None:
    """PostgreSQL is named by a folder in the tests, and the copies above were made by its own programs."""
    if one.environ:
        assert make_url(one.environ["ARMILLARY_DATABASE__URL"]).query["host"]
    assert manifest_of(one.copy()).databases["armillary"] == one.own.dialect.name


# --- the command -------------------------------------------------------------------------------------------------


def backup(here: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", "backup", *words],
        cwd=here.folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_makes_lists_checks_and_puts_back(here: Installation) -> None:
    assert "There is no copy in" in backup(here, "list").stdout
    made = backup(here, "create")
    assert (made.returncode, made.stderr) == (0, "")
    [copy] = every(here.settings.paths.backups)
    assert str(copy.file) in made.stdout
    assert "Not in it: the homes" in made.stdout
    listed = backup(here, "list")
    assert listed.returncode == 0
    assert "https://hub.example.org" in listed.stdout
    here.change()
    asked = backup(here, "restore", str(copy.file))
    assert (asked.returncode, asked.stderr) == (1, "")
    assert "It would replace the SQLite file" in asked.stdout
    assert "Nothing was changed" in asked.stdout
    assert here.state_of_all() == AFTER
    here.close()
    done = backup(here, "restore", str(copy.file), "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert here.state_of_all() == BEFORE
    cut(copy.file)
    bad = backup(here, "restore", str(copy.file), "--yes")
    assert bad.returncode == 1
    assert "damaged" in bad.stdout
    copy.file.write_bytes(b"")
    assert "cannot be used" in backup(here, "list").stdout


@pytest.mark.parametrize("words", [("create", "--keep", "0"), ("create", "--keep", "x"), ("restore",), ()])
def test_a_wrong_call_is_told_so(here: Installation, words: tuple[str, ...]) -> None:
    done = backup(here, *words)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_what_would_be_done_is_said_in_order(here: Installation) -> None:
    says = plan(here.copy(), here.settings, here.file).says
    assert [sentence.split()[0] for sentence in says] == ["replace", "replace", "write", "write"]
