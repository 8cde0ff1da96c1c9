"""Sessions as processes of this machine: specification, launch, identity, limits, separation, end.

Knows no JupyterHub apart from the notation of sizes in `spec`; `spawner.local` is the part that does.
"""

from spawner.processes.ending import Ended, end_all

__all__ = ["Ended", "end_all"]
