"""JupyterHub starts here: the settings say everything; lines of your own go below `apply`."""

from hub.config import apply
from hub.settings import load

c = get_config()  # noqa: F821  # given by traitlets

apply(c, load())
