"""The file of quotas: limits that are kept with the site's configuration and not set by hand.

    default:
      servers: 3
      hours:week: 40
    member:cms: {accelerators: 2}
    group:cms: {hours:month: 2000, accelerators:a100: 8}
    user:ann: {servers: unlimited}

Reads a file, so nothing of an event loop calls it. Knows no database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from hub.quotas.amounts import parse_amount
from hub.quotas.model import QuotaProblem, QuotaRow, Quotas, parse_field
from hub.quotas.subjects import check_subject
from profiles.document import Mark, Path, Unreadable, read
from profiles.loader import Problem

__all__ = ["QuotaFileError", "actor_of", "read_quotas", "read_text"]

_LARGEST_BYTES = 4 * 2**20


class QuotaFileError(ValueError):
    """The file cannot be used; `problems` says all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Collection[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def actor_of(file: FilePath) -> str:
    """Return who sets what the file declares, for the audit trail."""
    return f"file {file.name}"


def read_quotas(file: FilePath, kinds: Collection[str] | None = None) -> Quotas:
    """Return what a file declares; no subject at all is legal, and declares nothing.

    Parameters
    ----------
    file
        UTF-8 YAML.
    kinds
        The accelerators of the catalogue; None: any key will do.

    Raises
    ------
    QuotaFileError
        The file cannot be read, or something in it is wrong.
    """
    name = str(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise QuotaFileError([Problem(name, 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    if len(content) > _LARGEST_BYTES:
        raise QuotaFileError([Problem(name, 1, 1, "", f"is larger than {_LARGEST_BYTES} bytes: no file of quotas")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        said = f"is not UTF-8 text: the byte 0x{content[error.start]:02x} is not part of a character"
        raise QuotaFileError([Problem(name, line, column, "", said)]) from None
    return read_text(text, name, kinds)


def read_text(text: str, name: str = "quotas.yaml", kinds: Collection[str] | None = None) -> Quotas:
    """Return what a text declares; `name` stands for the file in problems. Otherwise as `read_quotas`."""
    try:
        document = read(text)
    except Unreadable as error:
        raise QuotaFileError([Problem(name, error.mark.line, error.mark.column, "", _reworded(error.text))]) from None
    rows: list[QuotaRow] = []
    problems = {
        Problem(name, mark.line, mark.column, _say(path), _reworded(said)) for path, mark, said in document.problems
    }
    for path, found in _rows(document.value, kinds):
        if isinstance(found, QuotaRow):
            rows.append(found)
        else:
            mark = document.marks.get(path, Mark(1, 1))
            problems.add(Problem(name, mark.line, mark.column, _say(path), found))
    if problems:
        raise QuotaFileError(sorted(problems, key=lambda one: (one.line, one.column, one.path, one.text)))
    return Quotas(rows)


def _rows(root: Any, kinds: Collection[str] | None) -> Iterator[tuple[Path, QuotaRow | str]]:
    """Every limit of the file, or what is wrong where it stands."""
    if root is None:
        return
    if not isinstance(root, Mapping):
        yield (), "must be a mapping of subjects (default, user:…, member:…, group:…) to their limits"
        return
    for subject, limits in root.items():
        try:
            check_subject(subject)
        except QuotaProblem as error:
            yield (subject,), str(error)
            continue
        if not isinstance(limits, Mapping) or not limits:
            yield (subject,), "must be a mapping of limits to values, such as `servers: 3`"
            continue
        for written, value in limits.items():
            path = (subject, written)
            try:
                field = parse_field(written, kinds)
                yield path, QuotaRow(subject, field, parse_amount(field, value), declared=True)
            except QuotaProblem as error:
                yield path, str(error)


def _say(path: Path) -> str:
    return " ".join(f"[{step}]" if isinstance(step, int) else step for step in path)


def _reworded(text: str) -> str:
    """The reader of YAML was written for catalogues, and says so."""
    return text.replace("a catalogue", "a file of quotas")
