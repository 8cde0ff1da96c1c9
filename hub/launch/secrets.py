"""Secrets of one installation: made once, kept in files that only the owner can read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

# Short, well known, hard to confuse with one another when read aloud or typed from a screen.
SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "bu",
    "da",
    "de",
    "di",
    "do",
    "du",
    "fa",
    "fe",
    "fi",
    "fo",
    "fu",
    "ga",
    "ge",
    "gi",
    "go",
    "gu",
    "ka",
    "ke",
    "ki",
    "ko",
    "ku",
    "la",
    "le",
    "li",
    "lo",
    "lu",
    "ma",
    "me",
    "mi",
    "mo",
    "mu",
    "na",
    "ne",
    "ni",
    "no",
    "nu",
    "pa",
    "pe",
    "pi",
    "po",
    "pu",
    "ra",
    "re",
    "ri",
    "ro",
    "ru",
    "sa",
    "se",
    "si",
    "so",
    "su",
    "ta",
    "te",
    "ti",
    "to",
    "tu",
    "va",
    "ve",
    "vi",
    "vo",
    "vu",
]


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter (0700), whatever the umask is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file by one with this text, readable by its owner only at every moment, and durable."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def keep(path: Path, make: Callable[[], str]) -> str:
    """Read a secret's file, or make the secret and write it; an empty file counts as none (a full disk left it)."""
    try:
        known = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        known = ""
    if known:
        path.chmod(0o600)
        return known
    fresh = make()
    write_private(path, fresh + "\n")
    return fresh


def token() -> str:
    """32 random bytes as 64 hexadecimal digits, the form JupyterHub wants its keys in."""
    return secrets.token_hex(32)


def password() -> str:
    """Make a password that people can read and type: four words of two syllables and a number, over 50 bits."""
    words = ["".join(secrets.choice(SYLLABLES) for _ in range(2)) for _ in range(4)]
    return "-".join([*words, str(10 + secrets.randbelow(90))])
