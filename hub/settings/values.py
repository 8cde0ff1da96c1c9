"""Types of single settings: URLs, paths, user-facing limits. Each says in its error what is legal."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


class Section(BaseModel):
    """Base of every part of the settings: frozen, unknown keys refused, defaults checked like given values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only mean this machine (`localhost`, 127.0.0.0/8, ::1)."""
    if host is None:
        return False
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_url(value: str) -> SplitResult:
    """Split an http or https URL that has a host, a legal port and nothing behind its path; ValueError otherwise."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not parts.hostname or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("must name a host, as in https://hub.example.org")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must end with its path: no '?' and no '#'")
    if port == 0:
        raise ValueError("port must be 1 to 65535")
    return parts


def _url(value: str) -> str:
    split_url(value)
    return value


def _issuer(value: str) -> str:
    parts = split_url(value)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https:// (http:// is accepted on this machine's loopback only)")
    return value


def _resolve(value: Path, info: ValidationInfo) -> Path:
    """Make a path absolute: relative ones count from the settings file's folder (the context says which)."""
    base = (info.context or {}).get("base") or Path.cwd()
    return Path(base, value.expanduser())


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as browsers compare them: `https://hub.example.org`."""
    parts = split_url(url)
    return f"{parts.scheme}://{parts.netloc}"


def may_have_subdomains(url: str) -> bool:
    """Whether there can be names of hosts below that of a URL: it is a name with a dot in it, and no address."""
    host = split_url(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host.strip(".")
    return False


def base_path_of(url: str) -> str:
    """The path of a URL with a slash at both ends: `/` or `/hub-of-ours/`."""
    path = split_url(url).path.strip("/")
    return f"/{path}/" if path else "/"


Url = Annotated[str, AfterValidator(_url)]
Issuer = Annotated[str, AfterValidator(_issuer)]
PathSetting = Annotated[Path, AfterValidator(_resolve)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


def setting(default: Any, text: str, *, example: Any, unit: str = "") -> Any:
    """A setting: its default, what it does and why that default, an example, and its unit where it has one."""
    return Field(default, description=text, examples=[example], json_schema_extra={"unit": unit} if unit else None)
