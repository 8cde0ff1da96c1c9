"""Where things lie in the state folder: one place that names every file, so that launcher, hub and docs agree."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StatePaths:
    """The files and folders below `state_dir`; nothing here creates or reads them."""

    root: Path

    @property
    def hub_database(self) -> Path:
        """JupyterHub's own SQLite database."""
        return self.root / "hub.sqlite"

    @property
    def database(self) -> Path:
        """Armillary's own SQLite database."""
        return self.root / "armillary.sqlite"

    @property
    def uids_database(self) -> Path:
        """Which Unix uid belongs to whom (local engine, started as root)."""
        return self.root / "uids.sqlite"

    @property
    def homes(self) -> Path:
        """Home directories of the local engine."""
        return self.root / "homes"

    @property
    def launches(self) -> Path:
        """Launch records of the local engine: which process belongs to which server."""
        return self.root / "launches"

    @property
    def logs(self) -> Path:
        """Logs of what the launcher starts."""
        return self.root / "logs"

    @property
    def traefik(self) -> Path:
        """The proxy's folder."""
        return self.root / "traefik"

    @property
    def traefik_static(self) -> Path:
        """The proxy's static configuration, written by the launcher."""
        return self.traefik / "traefik.toml"

    @property
    def traefik_rules(self) -> Path:
        """The proxy's routes, written by the hub; they outlive it."""
        return self.traefik / "rules.toml"

    @property
    def canaille(self) -> Path:
        """The demonstration's OpenID provider."""
        return self.root / "canaille"

    @property
    def secrets(self) -> Path:
        """Secrets, one per file, readable by the owner only (0600 in a 0700 folder)."""
        return self.root / "secrets"

    @property
    def backups(self) -> Path:
        """Copies of the installation."""
        return self.root / "backups"

    @property
    def unfinished_restore(self) -> Path:
        """There while a copy is being put back, and names it."""
        return self.root / "restore-unfinished"

    @property
    def cookie_secret(self) -> Path:
        """What JupyterHub signs cookies with: 32 bytes as 64 hexadecimal digits."""
        return self.secrets / "cookie_secret"

    @property
    def auth_state_keys(self) -> Path:
        """What the hub encrypts login state with: a line of 64 hexadecimal digits per key, the newest first."""
        return self.secrets / "auth_state_keys"

    @property
    def proxy_password(self) -> Path:
        """Password of the proxy's API."""
        return self.secrets / "proxy_password"

    @property
    def client_secret(self) -> Path:
        """Secret of the hub at the demonstration's OpenID provider."""
        return self.secrets / "client_secret"

    @property
    def metrics_token(self) -> Path:
        """Token by which Prometheus reads metrics."""
        return self.secrets / "metrics_token"

    @property
    def service_token(self) -> Path:
        """Token by which service and hub know each other."""
        return self.secrets / "service_token"
