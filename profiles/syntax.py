"""Syntax of names that other systems check later and explain worse: Kubernetes names and labels, images, variables,
keys."""

import re

__all__ = [
    "KEY",
    "SyntaxProblem",
    "check_default_url",
    "check_environment_name",
    "check_extended_resource",
    "check_image_reference",
    "check_key",
    "check_label_key",
    "check_label_value",
    "check_object_name",
    "check_pattern",
    "check_plain_text",
    "shown",
]

KEY = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
"""Keys of accelerators, apps, images, profiles, options and choices: they travel in addresses, form fields, labels and
paths."""

_KEY = re.compile(KEY)
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPEN_TO_DEPLOYERS = frozenset(
    {"JUPYTERHUB_ACTIVITY_INTERVAL", "JUPYTERHUB_SINGLEUSER_APP", "JUPYTERHUB_SINGLEUSER_EXTENSION"}
)
# What JupyterHub documents as a choice of whoever runs it; the others carry tokens and addresses.
_CHOOSE_DEVICES = frozenset(
    {
        "AMD_VISIBLE_DEVICES",
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "HIP_VISIBLE_DEVICES",
        "NVIDIA_MIG_CONFIG_DEVICES",
        "NVIDIA_MIG_MONITOR_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "ONEAPI_DEVICE_SELECTOR",
        "ROCR_VISIBLE_DEVICES",
        "TPU_VISIBLE_CHIPS",
        "TPU_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
    }
)
# Read by container runtimes and by the libraries of CUDA, ROCm, oneAPI and TPUs.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\ud800-\udfff]")

# The grammar of the container distribution project (reference/reference.go): [host[:port]/]path[:tag][@digest].
_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


class SyntaxProblem(ValueError):
    """A value that is written wrongly; `at` leads from where it was found to where exactly it lies."""

    def __init__(self, text: str, *at: str | int) -> None:
        super().__init__(text)
        self.at = at


def shown(value: object) -> str:
    """A value in a message: quoted, on one line, cut short."""
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_key(key: str) -> str:
    if len(key) > 63 or not _KEY.fullmatch(key):
        raise SyntaxProblem(
            f"{shown(key)} is no key: use up to 63 lower-case letters, digits, '-' and '.', "
            "first and last a letter or digit"
        )
    return key


def check_plain_text(text: str) -> str:
    """Text of one line that people read."""
    if _CONTROL.search(text):
        raise SyntaxProblem(f"{shown(text)} holds a line break or control character")
    if not text.strip():
        raise SyntaxProblem("must not be empty")
    return text


def check_environment_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise SyntaxProblem(
            f"{shown(name)} is no name of an environment variable: letters, digits and '_', not a digit first"
        )
    if name.startswith(("JUPYTERHUB_", "JPY_")) and name not in _OPEN_TO_DEPLOYERS:
        raise SyntaxProblem(f"{name} is set by the hub and must not be replaced")
    if name.startswith("ARMILLARY_"):
        raise SyntaxProblem(f"{name} is set by Armillary and must not be replaced")
    if name in _CHOOSE_DEVICES:
        raise SyntaxProblem(
            f"{name} says which devices a session sees: Armillary and the device plugins set it from the accelerator "
            "that was picked; take it out"
        )
    return name


def check_label_key(key: str) -> str:
    """A label or taint key: `name` or `domain/name` (Kubernetes, "Labels and Selectors")."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _DNS_NAME.fullmatch(prefix)):
        raise SyntaxProblem(f"{shown(key)}: the part before '/' must be a lower-case domain such as nvidia.com")
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        raise SyntaxProblem(
            f"{shown(key)} is no label key: up to 63 letters, digits, '-', '_' and '.', "
            "first and last a letter or digit"
        )
    return key


def check_label_value(value: str) -> str:
    if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
        raise SyntaxProblem(
            f"{shown(value)} is no label value: up to 63 letters, digits, '-', '_' and '.', "
            "first and last a letter or digit"
        )
    return value


def check_object_name(name: str) -> str:
    if len(name) > 253 or not _DNS_NAME.fullmatch(name):
        raise SyntaxProblem(f"{shown(name)} is no Kubernetes name: lower-case letters, digits, '-' and '.'")
    return name


def check_extended_resource(name: str) -> str:
    """The name a device plugin registers: `domain/name`, outside of kubernetes.io (Kubernetes,
    `IsExtendedResourceName`)."""
    domain, slash, rest = name.rpartition("/")
    example = "write one such as nvidia.com/gpu"
    if not slash:
        raise SyntaxProblem(f"{shown(name)} is no extended resource: it has no domain; {example}")
    if domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        raise SyntaxProblem(
            f"{shown(name)} is no extended resource: kubernetes.io is kept for Kubernetes itself; {example}"
        )
    # Quota objects prefix the name with "requests.", and that must be a legal name still.
    if len(domain) > 253 - len("requests.") or not _DNS_NAME.fullmatch(domain) or domain.startswith("requests."):
        raise SyntaxProblem(f"{shown(name)} is no extended resource: {shown(domain)} is no domain; {example}")
    if len(rest) > 63 or not _QUALIFIED.fullmatch(rest):
        raise SyntaxProblem(
            f"{shown(name)} is no extended resource: {shown(rest)} is not made of up to 63 letters, "
            f"digits, '-', '_' and '.'; {example}"
        )
    return name


def check_image_reference(reference: str) -> str:
    match = _IMAGE.fullmatch(reference) if len(reference) <= 1024 else None
    if match is None or len(match["path"]) > 255:
        raise SyntaxProblem(
            f"{shown(reference)} is no image reference: write [registry/]path[:tag][@digest], the path in lower case"
        )
    return reference


def check_default_url(url: str) -> str:
    if not url.startswith("/") or url.startswith("//") or _CONTROL.search(url) or " " in url:
        raise SyntaxProblem(f"{shown(url)} is no path inside a server: write one such as /lab")
    return url


def check_pattern(pattern: str) -> str:
    """A regular expression; the whole text that a user types must match it."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise SyntaxProblem(f"{shown(pattern)} is no regular expression: {error}") from None
    return pattern
