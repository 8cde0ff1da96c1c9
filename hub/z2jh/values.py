"""Turn values of Zero to JupyterHub into values of our chart, and say of each what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hub.z2jh.login import login
from hub.z2jh.rules import RULES, Rule, Unusable

__all__ = ["Line", "Turned", "turn"]

_EXTRA = "hub.extraConfig.z2jh"


@dataclass(frozen=True)
class Line:
    """What became of one value: it is `there` (under `to`), is `done` by itself, or has no counterpart (`missing`)."""

    name: str
    kind: Literal["there", "done", "missing"]
    to: str = ""
    why: str = ""


@dataclass
class Turned:
    """Our values, and a line for each of theirs."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


def turn(theirs: Mapping[str, Any]) -> Turned:
    """Return our values for theirs.

    Raises
    ------
    Unusable
        It is no mapping at all.
    """
    if not isinstance(theirs, Mapping):
        raise Unusable("the values of a chart are a mapping")
    found = Turned()
    rest = _address(theirs, found)
    rest = _sessions(rest, found)
    rest = _names(rest, found)
    for name, value in _leaves(rest):
        _by_rule(name, value, found)
    return found


def _by_rule(name: str, value: Any, found: Turned) -> None:
    if value is None or value in ({}, []):
        return
    rule = _rule(name)
    if rule is None:
        found.lines.append(Line(name, "missing", why="no such value of the chart is known; see hub.extraConfig"))
    elif not rule.to:
        found.lines.append(Line(name, "done" if rule.done else "missing", why=rule.why))
    else:
        try:
            _set(found, name, rule.to, rule.change(value), rule.why)
        except Unusable as error:
            found.lines.append(Line(name, "missing", why=f"{error}: see {rule.to}"))


def _rule(name: str) -> Rule | None:
    parts = name.split(".")
    return next((RULES[one] for end in range(len(parts), 0, -1) if (one := ".".join(parts[:end])) in RULES), None)


def _leaves(theirs: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that a rule is for: the mapping itself where a rule takes it as a whole."""
    for key, value in theirs.items():
        name = f"{above}{key}"
        whole = name in RULES and not any(other.startswith(f"{name}.") for other in RULES)
        if isinstance(value, Mapping) and not whole and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _set(found: Turned, name: str, to: str, value: Any, why: str = "") -> None:
    *sections, last = to.split(".")
    into = found.values
    for section in sections:
        into = into.setdefault(section, {})
    if to == _EXTRA:
        into[last] = f"{into[last]}\n{value}" if last in into else value
    else:
        into[last] = value
    found.lines.append(Line(name, "there", to, why))


# --- what several values make together ----------------------------------------------------------------------------


def _pop(values: Mapping[str, Any], name: str) -> tuple[Any, dict[str, Any]]:
    """Return a value, None where there is none, and the rest."""
    first, _, more = name.partition(".")
    rest = dict(values)
    if first not in rest:
        return None, rest
    if not more:
        return rest.pop(first), rest
    if not isinstance(rest[first], Mapping):
        return None, rest
    value, rest[first] = _pop(rest[first], more)
    return value, rest


def _address(theirs: Mapping[str, Any], found: Turned) -> dict[str, Any]:
    """publicUrl from the names of hosts and the base URL."""
    hosts, rest = _pop(theirs, "ingress.hosts")
    named, rest = _pop(rest, "proxy.https.hosts")
    base, rest = _pop(rest, "hub.baseUrl")
    secure, rest = _pop(rest, "proxy.https.enabled")
    tls, rest = _pop(rest, "ingress.tls")
    host = next(
        (one for some in (hosts, named) if isinstance(some, list) for one in some if isinstance(one, str)), None
    )
    path = f"/{str(base or '/').strip('/')}/".replace("//", "/")
    where = "ingress.hosts" if hosts else "proxy.https.hosts"
    if host is None:
        found.lines.append(Line("ingress.hosts", "missing", why="name the site's address in publicUrl"))
    else:
        scheme = "https" if tls or secure else "http"
        _set(found, where, "publicUrl", f"{scheme}://{host}{path}")
    if isinstance(tls, list) and tls and isinstance(tls[0], Mapping) and tls[0].get("secretName"):
        _set(found, "ingress.tls", "ingress.tls.secretName", tls[0]["secretName"])
    return rest


def _names(theirs: Mapping[str, Any], found: Turned) -> dict[str, Any]:
    """hub.config and hub.extraConfig; the number of named servers needs two values."""
    config, rest = _pop(theirs, "hub.config")
    extra, rest = _pop(rest, "hub.extraConfig")
    allowed, rest = _pop(rest, "hub.allowNamedServers")
    culls, rest = _pop(rest, "cull.enabled")
    placeholders, rest = _pop(rest, "scheduling.userPlaceholder.enabled")
    for name, to, value, say in login(config if isinstance(config, Mapping) else {}):
        if to:
            _set(found, name, to, value, say)
        else:
            found.lines.append(Line(name, "missing", why=say))
    for name, text in (extra if isinstance(extra, Mapping) else {}).items():
        key = "".join(one if one.isalnum() or one in "-_." else "-" for one in str(name))
        why = "read it: what it sets may be a setting here"
        _set(found, f"hub.extraConfig.{name}", "hub.extraConfig", {**_extra(found), key: str(text)}, why)
    if allowed is False:
        rest = _pop(rest, "hub.namedServerLimitPerUser")[1]
        _set(found, "hub.allowNamedServers", "settings.servers.named_limit", 0)
    if culls is False:
        rest = _pop(rest, "cull")[1]
        found.lines.append(Line("cull.enabled", "missing", why="sessions are stopped for idleness; see settings.idle"))
    timeout, rest = _pop(rest, "cull.timeout")
    if culls is not False and isinstance(timeout, int | float) and timeout > 0:
        for kind in ("cpu_hours", "gpu_hours"):
            _set(found, "cull.timeout", f"settings.idle.{kind}", timeout / 3600)
    if placeholders is False:
        rest = _pop(rest, "scheduling.userPlaceholder")[1]
    return rest


def _extra(found: Turned) -> dict[str, str]:
    return dict(found.values.get("hub", {}).get("extraConfig", {}))


def _sessions(theirs: Mapping[str, Any], found: Turned) -> dict[str, Any]:
    """The catalogue: from the list of profiles, the default image, cpu and memory."""
    image, rest = _pop(theirs, "singleuser.image")
    profiles, rest = _pop(rest, "singleuser.profileList")
    cpu, rest = _pop(rest, "singleuser.cpu")
    memory, rest = _pop(rest, "singleuser.memory")
    kind, rest = _pop(rest, "singleuser.storage.type")
    if kind not in (None, "dynamic"):
        why = "homes are a claim for each person; other storage is set by c.KubeSpawner.volumes in hub.extraConfig"
        found.lines.append(Line("singleuser.storage.type", "missing", why=why))
    override: dict[str, Any] = {}
    for name, part, amounts in (("cpu", "cpu", cpu), ("memory", "mem", memory)):
        for which in ("guarantee", "limit"):
            value = amounts.get(which) if isinstance(amounts, Mapping) else None
            if value is not None:
                override[f"{part}_{which}"] = value
                found.lines.append(Line(f"singleuser.{name}.{which}", "there", "catalogue.profiles"))
    reference = _reference(image)
    if reference:
        override["image"] = reference
        found.lines.append(Line("singleuser.image", "there", "catalogue.profiles"))
    if isinstance(profiles, list) and profiles:
        found.values["catalogue"] = {
            "profiles": [
                {**one, "kubespawner_override": {**override, **(one.get("kubespawner_override") or {})}}
                if isinstance(one, Mapping)
                else one
                for one in profiles
            ]
        }
        found.lines.append(Line("singleuser.profileList", "there", "catalogue.profiles"))
    elif override:
        one = {"display_name": "JupyterLab", "default": True, "kubespawner_override": override}
        found.values["catalogue"] = {"profiles": [one]}
    return rest


def _reference(image: Any) -> str:
    if not isinstance(image, Mapping) or not image.get("name"):
        return ""
    return f"{image['name']}:{image['tag']}" if image.get("tag") else str(image["name"])
