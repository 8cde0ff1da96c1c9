"""Changes to KubeSpawner's settings (`kubespawner_override`), as values: merged, filled in, judged. Nothing here
changes its input.

Upstream applies the override of a profile and then those of the choices to the spawner, one by one and in place
(`KubeSpawner._apply_overrides`, 7.1). Here the same is two pure steps: `compose` makes one override of several,
`apply` says what a setting becomes.
"""

from collections.abc import Mapping
from typing import Any

from profiles.kubespawner_settings import EXPANDED
from profiles.security import weaker_security

__all__ = [
    "LOCAL_KEYS",
    "Whole",
    "apply",
    "compose",
    "fill_in",
    "kubernetes_only",
    "merge",
    "substitute",
    "weaker_security",
]

LOCAL_KEYS: frozenset[str] = frozenset(
    {
        "args",
        "cpu_guarantee",
        "cpu_limit",
        "debug",
        "default_url",
        "disable_user_config",
        "environment",
        "http_timeout",
        "mem_guarantee",
        "mem_limit",
        "start_timeout",
    }
)
"""What an override may hold on the local engine too: settings of every JupyterHub spawner, none about containers."""


def kubernetes_only(override: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings in an override that mean something on Kubernetes only, in its order."""
    return tuple(key for key, value in override.items() if key not in LOCAL_KEYS or _refers_to_cluster(key, value))


def _refers_to_cluster(key: str, value: object) -> bool:
    """Whether an environment takes values from Secrets, ConfigMaps or fields of the pod (`valueFrom`)."""
    if key != "environment" or not isinstance(value, Mapping):
        return False
    return any(isinstance(variable, Mapping | list) for variable in value.values())


class Whole(dict[str, Any]):
    """A mapping that takes the place of what was there instead of being merged into it.

    `compose` needs it where one override replaced or deleted a thing and a later one gives a mapping for it.
    """


def _copy(value: Any) -> Any:
    """A deep copy in plain dicts and lists."""
    if isinstance(value, Mapping):
        inner = {key: _copy(item) for key, item in value.items()}
        return Whole(inner) if isinstance(value, Whole) else inner
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def _without_marks(value: Any) -> Any:
    """A deep copy in plain dicts and lists without Whole."""
    if isinstance(value, Mapping):
        return {key: _without_marks(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_marks(item) for item in value]
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping `base` changed by `over`: mappings are merged at every depth, None deletes a key, anything else
    replaces.

    The result shares nothing mutable with the inputs. As upstream's `recursive_update`, but pure.
    """
    merged: dict[str, Any] = {key: _without_marks(value) for key, value in base.items()}
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) and not isinstance(value, Whole) else {}, value)
        else:
            merged[key] = _without_marks(value)
    return merged


def apply(current: Any, value: Any) -> Any:
    """What a setting becomes that is `current` and for which an override says `value`.

    A mapping is merged into a mapping; anything else, None too, replaces. Upstream's rule for a whole setting, which
    differs from the rule within a mapping: there None deletes.
    """
    if isinstance(value, Mapping) and not isinstance(value, Whole) and isinstance(current, Mapping):
        return merge(current, value)
    return _without_marks(value)


def compose(*overrides: Mapping[str, Any]) -> dict[str, Any]:
    """One override that does what these do one after the other.

    Deletions (None) are kept, as they also concern what the spawner was configured with. Apply the result with
    `apply`, setting by setting, or with upstream's `_apply_overrides`.
    """
    composed: dict[str, Any] = {}
    for override in overrides:
        composed = _after(composed, override, top=True)
    return composed


def _after(first: Mapping[str, Any], then: Mapping[str, Any], *, top: bool = False) -> dict[str, Any]:
    composed: dict[str, Any] = {key: _copy(value) for key, value in first.items()}
    for key, value in then.items():
        below = composed.get(key)
        if not isinstance(value, Mapping) or key not in composed:
            composed[key] = _copy(value)
        elif isinstance(below, Whole):
            composed[key] = Whole(merge(below, value))
        elif isinstance(below, dict):
            composed[key] = _after(below, value)
        else:  # the first override left no mapping there, so the second one's stands alone
            composed[key] = Whole(_without_marks(value) if top else merge({}, value))
    return composed


class _Known(dict[str, str]):
    """Fields for str.format_map that leaves unknown ones as they are, as upstream's `IgnoreMissing`."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


def substitute(override: Mapping[str, Any], value: str) -> dict[str, Any]:
    """The override of an unlisted choice with what the user typed in place of `{value}`, keys included, as upstream.

    KubeSpawner runs `str.format` over some settings later (`EXPANDED`), and braces that a user typed would be read
    there as fields: in those they are doubled, so that the text arrives as typed.

    Raises:
        ValueError: a template in the override is malformed (`fill_in` says how); the loader refuses such a catalogue.
    """
    doubled = value.replace("{", "{{").replace("}", "}}")
    return {key: _fill(inner, doubled if key in EXPANDED else value) for key, inner in override.items()}


def _fill(template: Any, value: str) -> Any:
    if isinstance(template, str):
        return fill_in(template, value)
    if isinstance(template, Mapping):
        return {_fill(key, value): _fill(item, value) for key, item in template.items()}
    if isinstance(template, list | tuple):
        return [_fill(item, value) for item in template]
    return template


def fill_in(template: str, value: str) -> str:
    """The template with `{value}` replaced; other fields stay for KubeSpawner to fill.

    Raises:
        ValueError: a lone brace, or a field that is no plain name.
    """
    try:
        return template.format_map(_Known(value=value))
    except (ValueError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{template!r} cannot be filled in: {error}; write a brace that is meant as such twice"
        ) from None
