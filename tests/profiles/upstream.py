"""A real KubeSpawner that talks to no cluster, to compare with."""

from typing import Any

import pytest
from kubespawner import KubeSpawner
from traitlets.config import Config


def kubespawner(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> KubeSpawner:
    """A KubeSpawner configured with these settings, for a made-up user, without a connection."""
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda _: None)
    return KubeSpawner(_mock=True, config=Config(KubeSpawner=settings))


def settings_of(spawner: KubeSpawner) -> dict[str, Any]:
    """Every configurable setting with its value, but for those that cannot be compared or say what was offered."""
    left_out = {"profile_list", "options_form", "options_from_form", "apply_user_options"}
    return {name: getattr(spawner, name) for name in spawner.traits(config=True) if name not in left_out}
