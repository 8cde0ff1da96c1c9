"""Armillary inside a session: measures what it does, and tells JupyterLab what it holds, for how long, at what cost.

The server half of the extension. It talks to Armillary's service with the session's own token and to nobody else.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__"]

__version__ = "0.2.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell jupyter_server what to load."""
    from armillary_lab.extension import ArmillaryExtension

    return [{"module": "armillary_lab", "app": ArmillaryExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Tell `jupyter-builder develop` where the browser half lies when it is built in the checkout."""
    return [{"src": "labextension", "dest": "armillary-lab"}]
