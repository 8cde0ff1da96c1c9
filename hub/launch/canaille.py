"""What Canaille, the demonstration's OpenID provider, is told: its configuration and whom it should know.

Written as one private JSON file that `hub.launch.provider`, the process, reads. Settings that bit others are
explained here; facts are of Canaille 0.3.6.
"""

import base64
import ipaddress
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.launch.accounts import ACCOUNTS, ADMIN_GROUP
from hub.launch.secrets import private_folder, write_private

CLIENT_ID = "armillary"
NAME = "the Armillary demonstration"
LOGO = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke="#b4540a" stroke-width="2">\
<circle cx="16" cy="16" r="14"/><ellipse cx="16" cy="16" rx="14" ry="5"/>\
<ellipse cx="16" cy="16" rx="14" ry="5" transform="rotate(60 16 16)"/>\
<ellipse cx="16" cy="16" rx="14" ry="5" transform="rotate(120 16 16)"/></g>\
<circle cx="16" cy="16" r="2.5" fill="#b4540a"/></svg>"""


@dataclass(frozen=True)
class Provider:
    """Everything that differs between installations."""

    folder: Path
    host: str
    port: int
    site_url: str
    callback_url: str
    post_logout_url: str
    client_secret: str
    secret_key: str
    signing_key: str
    passwords: dict[str, str]

    @property
    def issuer(self) -> str:
        """The issuer URL, as in its discovery document: without a path and without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def file(self) -> Path:
        """Where `write` puts what the process reads."""
        return self.folder / "provider.json"

    def write(self) -> None:
        """Write the process's file: private, because it holds every secret of the provider."""
        private_folder(self.folder)
        private_folder(self.folder / "sessions")
        write_private(self.file, json.dumps({"settings": self.settings(), "seed": self.seed()}, indent=1))

    def settings(self) -> dict[str, Any]:
        """Canaille's own configuration."""
        return {
            "SECRET_KEY": self.secret_key,
            "SERVER_NAME": f"{self.host}:{self.port}",
            "PREFERRED_URL_SCHEME": "http",
            # On the server: with sessions kept in cookies, the default, a copied cookie outlives log-out.
            "SESSION_TYPE": "filesystem",
            "SESSION_FILE_DIR": str(self.folder / "sessions"),
            "CANAILLE": {
                "NAME": NAME,
                "LOGO": "data:image/svg+xml;base64," + base64.b64encode(LOGO.encode()).decode(),
                "LOGIN_ATTRIBUTES": ["user_name"],
                "DATABASE": "sql",
                "ENABLE_REGISTRATION": False,
                "ENABLE_PASSWORD_RECOVERY": False,
                "ENABLE_INTRUDER_LOCKOUT": True,
                "SMTP": None,
                "ACL": {
                    # Without managing one's own groups, a default permission: groups grant rights here. Nor may
                    # passwords be changed, since every start prints them.
                    "DEFAULT": {
                        "PERMISSIONS": ["edit_self", "use_oidc"],
                        "READ": ["user_name", "groups"],
                        "WRITE": ["display_name", "preferred_language"],
                    },
                    "ADMIN": {
                        "FILTER": [{"groups": ADMIN_GROUP}],
                        "PERMISSIONS": ["manage_users", "manage_all_groups"],
                        "READ": ["user_name", "groups", "lock_date"],
                        "WRITE": ["groups", "lock_date"],
                    },
                },
            },
            "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{self.folder / 'canaille.sqlite'}"},
            "CANAILLE_OIDC": {
                "REQUIRE_NONCE": True,
                # No consent page for our own hub, whose address this is.
                "TRUSTED_DOMAINS": [str(urlsplit(self.site_url).hostname)],
                "ACTIVE_JWKS": [json.loads(self.signing_key)],
            },
        }

    def seed(self) -> dict[str, Any]:
        """Whom and which hub the provider should know."""
        people = [
            {
                "user_name": account.name,
                "formatted_name": account.title,
                "given_name": account.title.split()[0],
                "family_name": account.title.split()[-1],
                "emails": [f"{account.name}@armillary.example"],
                "password": self.passwords[account.name],
                "groups": list(account.groups),
            }
            for account in ACCOUNTS
        ]
        client = {
            "client_id": CLIENT_ID,
            "client_secret": self.client_secret,
            "client_name": "Armillary",
            "client_uri": self.site_url,
            "redirect_uris": [self.callback_url],
            "post_logout_redirect_uris": [self.post_logout_url],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": ["openid", "profile", "email", "groups"],
            "token_endpoint_auth_method": "client_secret_basic",
            "id_token_signed_response_alg": "RS256",  # else RS512, the library's choice for a key of this size
        }
        return {"people": people, "client": client, "listen": self.listen()}

    def former_issuers(self) -> list[str]:
        """Remember this issuer, and return those of earlier starts: the same people, on another port or host name."""
        file = self.folder / "issuers.json"
        try:
            known = [str(issuer) for issuer in json.loads(file.read_text(encoding="utf-8"))]
        except (FileNotFoundError, ValueError):
            known = []
        former = [issuer for issuer in known if issuer != self.issuer]
        if self.issuer not in known:
            write_private(file, json.dumps([*former, self.issuer]))
        return former

    def listen(self) -> list[str]:
        """Every loopback address that the host name stands for."""
        return [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in addresses(self.host)]


def signing_key() -> str:
    """Make a private RSA key, as a JSON Web Key."""
    from joserfc.jwk import RSAKey

    return json.dumps(RSAKey.generate_key(2048, auto_kid=True).as_dict(private=True))


def addresses(host: str) -> list[str]:
    """Resolve a name to the loopback addresses where we can listen; empty if it means any other machine too."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return []
    if not all(ipaddress.ip_address(address).is_loopback for address in found):
        return []
    return sorted(address for address in found if _usable(address))


def provider_host(site_host: str) -> str:
    """Pick the provider's host name: not the site's, so that no page of the site gets the provider's cookies.

    Cookies know hosts but no ports (RFC 6265 section 8.5): on the same host a user's server would be sent the
    session at the provider of everybody who visits it.
    """
    for host in ("localhost", "127.0.0.1"):
        if host != site_host and addresses(host):
            return host
    return "127.0.0.1"


def _usable(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
