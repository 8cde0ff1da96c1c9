"""The demonstration's provider over TLS at this machine's address on the bridge, for a hub that runs in pods.

python -m tests.helm.provider FILE CERTIFICATE KEY
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hub.launch.accounts import passwords
from hub.launch.canaille import Provider, signing_key
from tests.hub.site import ROOT, free_ports, wait_for
from tests.lab.cluster import authority

__all__ = ["Served", "served"]


@dataclass(frozen=True)
class Served:
    """A provider that runs."""

    issuer: str
    client_id: str
    authority: str = field(repr=False)
    """PEM of the authority that signed its certificate."""
    client_secret: str = field(repr=False)
    accounts: dict[str, str] = field(repr=False)
    """Passwords by name."""


class _Secure(Provider):
    @property
    def issuer(self) -> str:
        """As of the parent, over TLS."""
        return f"https://{self.host}:{self.port}"

    def settings(self) -> dict[str, Any]:
        """As of the parent, over TLS."""
        return {**super().settings(), "PREFERRED_URL_SCHEME": "https"}

    def listen(self) -> list[str]:
        """Where it listens: not on loopback, where pods could not reach it."""
        return [f"{self.host}:{self.port}"]


@contextmanager
def served(address: str, site_url: str, folder: Path) -> Iterator[Served]:
    """Run a provider for one site at this address of the machine, known to the accounts of the demonstration."""
    folder.mkdir(mode=0o700)
    signer = authority()
    certificate, key = signer.issue("provider", "provider", hosts=[address])
    [port] = free_ports(1, address)
    provider = _Secure(
        folder=folder,
        host=address,
        port=port,
        site_url=site_url,
        callback_url=f"{site_url}/hub/oauth_callback",
        post_logout_url=f"{site_url}/hub/logout",
        client_secret=secrets.token_hex(16),
        secret_key=secrets.token_hex(16),
        signing_key=signing_key(),
        passwords=passwords(folder / "accounts.json"),
    )
    provider.write()
    command = [sys.executable, "-m", "tests.helm.provider", str(provider.file), str(certificate), str(key)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        found = f"{provider.issuer}/.well-known/openid-configuration"

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return bool(httpx.get(found, verify=False, timeout=5).json()["issuer"] == provider.issuer)
            except (httpx.HTTPError, ValueError):
                return False

        wait_for(answers, "the provider to answer")
        pem = signer.certificate.read_text()
        yield Served(provider.issuer, "armillary", pem, provider.client_secret, dict(provider.passwords))
    finally:
        process.terminate()
        process.wait(30)


def main(file: str, certificate: str, key: str) -> None:
    """Serve until SIGTERM."""
    import canaille
    from asgiref.wsgi import WsgiToAsgi
    from canaille.backends import Backend
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from hub.launch.provider import add_missing

    said = json.loads(Path(file).read_text(encoding="utf-8"))
    app = canaille.create_app(config=said["settings"])
    with app.app_context(), Backend.instance.session():
        add_missing(said["seed"])
    config = Config()
    config.bind = said["seed"]["listen"]
    config.certfile, config.keyfile = certificate, key
    config.errorlog = "-"

    async def run() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        asgi: Any = WsgiToAsgi(app)  # type: ignore[no-untyped-call]
        await serve(asgi, config, shutdown_trigger=ended.wait)

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
