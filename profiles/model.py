"""The catalogue: accelerators, images and profiles, as frozen values.

Built by `profiles.loader` from YAML, or by `profiles.profile_list` from a KubeSpawner profile_list. What concerns one
object is checked here; what concerns several (an option that names an unknown image) in `profiles.checks`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from profiles import syntax
from profiles.accelerators import Accelerator, DraDevice, KubernetesDevice, LocalDevice, Simulated, Toleration
from profiles.apps import NO_APP, App
from profiles.choices import Choice, ChoiceOption, NamedOption, NumberOption, Options, Unlisted
from profiles.parts import (
    Access,
    DefaultUrl,
    Engine,
    Environment,
    Frozen,
    Key,
    Overrides,
    Part,
    Text,
    Title,
)
from profiles.syntax import SyntaxProblem

__all__ = [
    "NO_ACCELERATOR",
    "NO_APP",
    "Accelerator",
    "Access",
    "App",
    "Catalogue",
    "Choice",
    "ChoiceOption",
    "DraDevice",
    "Engine",
    "Image",
    "KubernetesDevice",
    "LocalDevice",
    "LocalImage",
    "NamedOption",
    "NumberOption",
    "Options",
    "Profile",
    "Simulated",
    "Toleration",
    "Unlisted",
]

NO_ACCELERATOR = "none"
"""What stands for no accelerator among an option's choices; no accelerator may have this key."""


def _nothing() -> Mapping[str, Any]:
    return {}


class LocalImage(Part):
    """What an image means where sessions are processes on one machine."""

    command: tuple[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], ...] = ()
    """Program and arguments that start the single-user server; empty: the hub's own environment."""
    environment: Environment = Field(default_factory=_nothing, validate_default=True)


class Image(Part):
    """The software of a session."""

    title: Title
    description: Text = ""
    reference: Annotated[str, AfterValidator(syntax.check_image_reference)] | None = None
    """Container image for Kubernetes; absent: not offered there."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    local: LocalImage | None = None
    """How it starts on one machine; absent: not offered there. `{}` is the hub's own environment."""
    default_url: DefaultUrl | None = None
    """Where a session opens, such as /lab."""
    apps: tuple[Key, ...] = ()
    """Keys of the applications that it has beside JupyterLab. On one machine those count whose program is there."""
    access: Access = Field(default_factory=Access.for_everyone)

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.reference is None and self.local is None:
            raise SyntaxProblem("can start nowhere: write `reference` (Kubernetes), `local: {}` (one machine) or both")
        return self


class Profile(Part):
    """What a person can start."""

    title: Title
    description: Text = ""
    default: Annotated[bool, Field(strict=True)] = False
    """Whether it is picked already when the form opens; the first profile where none says so."""
    access: Access = Field(default_factory=Access.for_everyone)
    options: Options = Field(default_factory=Options)
    environment: Environment = Field(default_factory=_nothing, validate_default=True)
    kubespawner_override: Overrides = Field(default_factory=_nothing, validate_default=True)
    """Settings of KubeSpawner that this profile changes."""
    start_timeout_s: Annotated[int, Field(strict=True, ge=10, le=86_400)] | None = None
    """Seconds that a start may take; the engine's own limit where absent."""


class Catalogue(Part):
    """Everything that can be asked for, in the order of the file."""

    accelerators: Frozen[Key, Accelerator] = Field(default_factory=_nothing, validate_default=True)
    apps: Frozen[Key, App] = Field(default_factory=_nothing, validate_default=True)
    images: Frozen[Key, Image] = Field(default_factory=_nothing, validate_default=True)
    profiles: Frozen[Key, Profile]

    @model_validator(mode="after")
    def _some_profile(self) -> Self:
        if not self.profiles:
            raise SyntaxProblem("a catalogue needs at least one profile", "profiles")
        return self

    @property
    def default_profile(self) -> str:
        """Key of the profile that is started when none is named."""
        marked = (key for key, profile in self.profiles.items() if profile.default)
        return next(marked, next(iter(self.profiles)))
