"""One typed settings file, `armillary.yaml`, and the `ARMILLARY_…` environment that overrides it.

`load()` is the way in; everything it returns is frozen. Knows nothing of JupyterHub: `hub.config` turns settings into
`c.*`.
"""

from hub.settings.loader import Loaded, SettingsError, load, load_with_origins
from hub.settings.login import LoginSettings
from hub.settings.model import Settings
from hub.settings.sections import (
    HubSettings,
    KubernetesSettings,
    LocalSettings,
    ProxySettings,
    ServerSettings,
)
from hub.settings.state import StatePaths

__all__ = [
    "HubSettings",
    "KubernetesSettings",
    "Loaded",
    "LocalSettings",
    "LoginSettings",
    "ProxySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StatePaths",
    "load",
    "load_with_origins",
]
