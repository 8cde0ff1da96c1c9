"""Web applications of an image beside JupyterLab: what starts one, where it listens, who may use it.

A session starts an application when it is first opened, and passes its pages and websockets on below its own address
(jupyter-server-proxy), so that the hub's login and the session's owner guard it like everything else in a session.
"""

import re
import string
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from profiles.parts import Access, Environment, Part, Text, Title
from profiles.syntax import SyntaxProblem, shown

__all__ = ["BUILT_IN_ICONS", "NO_APP", "TAKEN_PATHS", "App", "app_path"]

NO_APP = "none"
"""What stands for no application among the ways to open a session: it opens where its image says, as JupyterLab."""

BUILT_IN_ICONS = ("app", "code", "experiments")
"""Pictures that every session has; others lie in the image."""

TAKEN_PATHS = frozenset(
    {
        "absproxy", "api", "armillary", "consoles", "custom", "edit", "files", "hub", "jlab-server", "kernelspecs",
        "lab", "login", "logout", "lsp", "metrics", "nbconvert", "nbextensions", "notebooks", "oauth_callback", "proxy",
        "server-proxy", "services", "static", "terminals", "tree", "user", "view", "voila",
    }
)  # fmt: skip
"""First steps of paths below a session that are JupyterLab's, JupyterHub's or ours."""

_FIELDS = ("port", "unix_socket", "base_url")
_ICON = re.compile(r"/[^\x00-\x1f\x7f]{1,1000}\.svg")
_HEALTH = re.compile(r"/[\x21-\x7e]{0,500}")


def app_path(key: str) -> str:
    """Return where an application lies below its session's address."""
    return f"/{key}/"


def _check_icon(icon: str) -> str:
    if icon not in BUILT_IN_ICONS and not _ICON.fullmatch(icon):
        raise SyntaxProblem(
            f"{shown(icon)} is no icon: write one of {', '.join(BUILT_IN_ICONS)}, or the path of an .svg file "
            "in the image"
        )
    return icon


def _check_health(path: str) -> str:
    if not _HEALTH.fullmatch(path) or path.startswith("//"):
        raise SyntaxProblem(f"{shown(path)} is no path inside an application: write one such as /healthz")
    return path


def _check_template(text: str) -> str:
    try:
        found = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise SyntaxProblem(
            f"{shown(text)} cannot be filled in: {error}; write a brace that is meant as such twice"
        ) from None
    for field in found:
        if field not in _FIELDS:
            legal = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise SyntaxProblem(
                f"{shown(text)}: {{{field}}} means nothing here; there are {legal}, and {{{{ for a brace"
            )
    if "\0" in text:
        raise SyntaxProblem("holds a zero byte, which no argument can")
    return text


def _named(texts: Iterable[str]) -> set[str]:
    return {field for text in texts for _, field, _, _ in string.Formatter().parse(text) if field}


def _nothing() -> Mapping[str, Any]:
    return {}


_ICON_SCHEMA = {"anyOf": [{"enum": list(BUILT_IN_ICONS)}, {"type": "string", "pattern": r"^/.+\.svg$"}]}
_HEALTH_SCHEMA = {"type": "string", "maxLength": 501, "pattern": "^/"}
_PORT_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1024, "maximum": 65535}, {"type": "null"}]}


class App(Part):
    """A web application of an image: a tile of JupyterLab's launcher, and a way in which a session can open."""

    title: Title
    description: Text = ""
    command: Annotated[tuple[Annotated[str, AfterValidator(_check_template)], ...], Field(min_length=1)]
    """Program and arguments, without a shell. `{unix_socket}` or `{port}` stands for where it must listen, `{base_url}`
    for the session's own path; a brace that is meant as such is written twice."""
    port: Annotated[int | None, Field(strict=True, ge=1024, le=65535), WithJsonSchema(_PORT_SCHEMA)] = None
    """The port at which it always listens, of a program that cannot be told one. Absent: it is told in its command."""
    icon: Annotated[str, AfterValidator(_check_icon), WithJsonSchema(_ICON_SCHEMA)] = "app"
    """`app`, `code`, `experiments`, or the path of an SVG file in the image."""
    health: Annotated[str, AfterValidator(_check_health), WithJsonSchema(_HEALTH_SCHEMA)] = "/"
    """Path that answers with a status below 500 once the application can be used."""
    start_timeout_s: Annotated[int, Field(strict=True, ge=1, le=600)] = 60
    """Seconds that it may take until then."""
    keeps_prefix: Annotated[bool, Field(strict=True)] = False
    """Whether it wants the whole path, `{base_url}` and its key included; else it is asked as if it lay at `/`."""
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    """Environment variables of the application, literal text, beside those of its session."""
    access: Access = Field(default_factory=Access.for_everyone)

    @model_validator(mode="after")
    def _listens_somewhere(self) -> Self:
        named = _named(self.command)
        if self.port is not None and named & {"port", "unix_socket"}:
            raise SyntaxProblem(
                "has a port of its own, and its command is told where to listen: keep one of the two", "port"
            )
        if {"port", "unix_socket"} <= named:
            raise SyntaxProblem("is told a port and a socket: keep one of {port} and {unix_socket}", "command")
        if self.port is None and not named & {"port", "unix_socket"}:
            raise SyntaxProblem(
                "listens nowhere: put {unix_socket} or {port} into its command, or name its `port`", "command"
            )
        return self

    @property
    def listens_at_socket(self) -> bool:
        """Whether it listens at a socket in a folder of its own, which no other account of the machine can reach."""
        return "unix_socket" in _named(self.command)
