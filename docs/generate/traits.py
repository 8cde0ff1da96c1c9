"""The reference of what our spawners and authenticators offer to a deployer's own `c.*` lines."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

from traitlets import TraitType
from traitlets.traitlets import DefaultHandler

from docs.generate.markdown import code, prose, sentence, table

__all__ = ["classes", "leaves", "other_defaults", "own_traits", "page"]

_ROOT = Path(__file__).resolve().parents[2]
_GROUPS = ("jupyterhub.spawners", "jupyterhub.authenticators")
_OURS = ("hub.", "spawner.", "profiles.")
_RETURN = re.compile(r"^\s*return (?P<value>[^#\n]+?)(?:\s+# (?P<reason>.+))?$", re.MULTILINE)
_FUNCTION = re.compile(r"(?:self|[A-Z]\w+)\.\w+|_\w+")
_DEFAULTS = "Inherited traits whose default differs from upstream's.\n"
_INTRODUCTION = """\
# Traits

What our spawners and authenticator add to those of JupyterHub, KubeSpawner and oauthenticator, for lines such as
`c.RequestSpawner.form_notices = […]` after `apply(c, settings)` in `jupyterhub_config.py`. Whatever has a setting
is better set there: [](settings.md). Traits that are inherited are described by
[JupyterHub](https://jupyterhub.readthedocs.io/en/stable/reference/api/index.html),
[KubeSpawner](https://jupyterhub-kubespawner.readthedocs.io/en/latest/spawner.html) and
[oauthenticator](https://oauthenticator.readthedocs.io/en/latest/reference/index.html).
"""


def leaves() -> list[type[Any]]:
    """Our spawners and authenticators, as pyproject.toml names them."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = [target.partition(":") for group in _GROUPS for target in project["entry-points"][group].values()]
    return [getattr(importlib.import_module(module), name) for module, _, name in targets]


def ours(kind: type[Any]) -> list[type[Any]]:
    """The class and those of its bases that are ours, innermost first."""
    return [base for base in reversed(kind.__mro__) if base.__module__.startswith(_OURS)]


def classes() -> list[tuple[type[Any], list[type[Any]]]]:
    """What the page describes: each class that a deployer configures, with the classes that declare its traits.

    What several of them have in common comes first, once, under the name of the base that has it all.
    """
    every = leaves()
    shared = [base for base in ours(every[0]) if sum(base in leaf.__mro__ for leaf in every) > 1]
    own = [(leaf, [base for base in ours(leaf) if base not in shared]) for leaf in every]
    return [*([(shared[-1], shared)] if shared else []), *own]


def own_traits(declaring: list[type[Any]]) -> dict[str, TraitType[Any, Any]]:
    """The configurable traits that these classes declare; not those that only get another default."""
    found: dict[str, TraitType[Any, Any]] = {}
    for kind in declaring:
        declared = kind.class_own_traits(config=True) if hasattr(kind, "class_own_traits") else {}
        found |= {name: trait for name, trait in declared.items() if not _inherited(kind, name, trait)}
    return dict(sorted(found.items()))


def _inherited(kind: type[Any], name: str, trait: TraitType[Any, Any]) -> bool:
    """Whether a base already has the trait with the same meaning."""
    bases = [getattr(base, name, None) for base in kind.__mro__[1:]]
    return any(isinstance(base, TraitType) and base.help == trait.help for base in bases)


def other_defaults(declaring: list[type[Any]]) -> list[tuple[str, str, str]]:
    """Inherited traits that get another default: name, default as written, and the reason beside it."""
    own = own_traits(declaring)
    found: dict[str, tuple[str, str, str]] = {}
    for kind in declaring:
        for handler in vars(kind).values():
            name = getattr(handler, "trait_name", "")
            if isinstance(handler, DefaultHandler) and name not in own and kind.class_traits(config=True).get(name):
                match = _RETURN.search(inspect.getsource(handler.func))
                if match:
                    found[name] = (name, match["value"], match["reason"] or "")
        declared = kind.class_own_traits(config=True) if hasattr(kind, "class_own_traits") else {}
        found |= {
            name: (name, repr(trait.default()), "")
            for name, trait in declared.items()
            if _inherited(kind, name, trait) and name not in found
        }
    return sorted(found.values())


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for kind, declaring in classes():
        parts.append(f"## {kind.__name__}\n\n{code(f'{kind.__module__}.{kind.__name__}')}: {sentence(kind.__doc__)}\n")
        parts += [_entry(kind, name, trait) for name, trait in own_traits(declaring).items()]
        if defaults := other_defaults(declaring):
            rows = [(code(name), _value(value), reason) for name, value, reason in defaults]
            parts += [f"### {kind.__name__}: other defaults\n", _DEFAULTS, table(("Trait", "Default", "Why"), rows)]
    return "\n".join(parts)


def _value(written: str) -> str:
    """A default as it is written, but for functions, of which the name says nothing here."""
    return "a function of ours" if _FUNCTION.fullmatch(written) else code(written)


def _entry(kind: type[Any], name: str, trait: TraitType[Any, Any]) -> str:
    return "\n\n".join([f"### {kind.__name__}.{name}", prose(trait.help), f"Type: {code(type(trait).__name__)}"]) + "\n"
