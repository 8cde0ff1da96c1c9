"""Canaille by hand: an OpenID provider with people and groups, for a hub that is started from an editor.

The tests start theirs with the whole site (`tests.hub.site`), as `make run` does.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from hub.launch.accounts import ACCOUNTS, passwords
from hub.launch.canaille import CLIENT_ID, Provider, signing_key
from hub.launch.secrets import keep, token
from tests.lab import cache, kubernetes, processes

_REPOSITORY = Path(__file__).resolve().parents[2]
_NAME = "canaille"
_PORT = 8092
_SITE = "http://127.0.0.1:8000"  # where `make run` and a hub started by hand listen


def up() -> str:
    """Starts it unless it runs; returns what a hub must be told, as lines for a settings file, and the accounts."""
    if processes.running(_NAME) is None:
        kubernetes.make_run_folder()
    provider = _provider(cache.run_folder() / _NAME)
    provider.write()
    command = [sys.executable, "-m", "hub.launch.provider", str(provider.file)]
    processes.start(_NAME, command, {"PYTHONPATH": str(_REPOSITORY)})
    processes.wait_until(lambda: _answers(provider.issuer), "its first answer", _NAME)
    people = "\n".join(f"# {account.name}: {provider.passwords[account.name]}" for account in ACCOUNTS)
    secret = provider.folder / "client_secret"
    return f"login:\n  issuer: {provider.issuer}\n  client_id: {CLIENT_ID}\n  client_secret_file: {secret}\n{people}"


def _provider(folder: Path) -> Provider:
    folder.mkdir(parents=True, exist_ok=True)
    return Provider(
        folder=folder,
        host="localhost",
        port=_PORT,
        site_url=_SITE,
        callback_url=f"{_SITE}/hub/oauth_callback",
        post_logout_url=f"{_SITE}/hub/logout",
        client_secret=keep(folder / "client_secret", token),
        secret_key=keep(folder / "secret_key", token),
        signing_key=keep(folder / "signing_key.json", signing_key),
        passwords=passwords(folder / "accounts.json"),
    )


def _answers(issuer: str) -> bool:
    try:
        with urllib.request.urlopen(f"{issuer}/.well-known/openid-configuration", timeout=5) as answer:
            return bool(json.load(answer)["issuer"] == issuer)
    except (urllib.error.URLError, OSError, ValueError):
        return False
