"""Secrets and accounts of one installation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hub.launch.accounts import ACCOUNTS, passwords
from hub.launch.secrets import keep, password, private_folder, token, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask-{:03o}".format)
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_only_the_owner_can_read_a_secret_under_any_umask(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "secrets")
    keep(folder / "one", token)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "one").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = keep(tmp_path / "one", token)
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    assert keep(tmp_path / "one", token) == first
    assert keep(tmp_path / "two", token) != first


def test_a_secret_that_a_full_disk_left_empty_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    assert len(keep(tmp_path / "one", token)) == 64


def test_a_secret_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("known\n")
    (tmp_path / "one").chmod(0o644)
    assert keep(tmp_path / "one", token) == "known"
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_writing_fails_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "one", "old")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_private(tmp_path / "one", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one").read_text() == "old"


def test_passwords_can_be_typed_and_differ() -> None:
    made = {password() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"([a-z]{4}-){4}[0-9]{2}", one) for one in made)


def test_every_account_has_a_password_that_stays(tmp_path: Path) -> None:
    known = passwords(tmp_path / "accounts.json")
    assert list(known) == [account.name for account in ACCOUNTS]
    assert passwords(tmp_path / "accounts.json") == known


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"researcher-1": 1})], ids=["torn", "list", "number"])
def test_spoilt_passwords_are_not_replaced_silently(tmp_path: Path, text: str) -> None:
    (tmp_path / "accounts.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        passwords(tmp_path / "accounts.json")
