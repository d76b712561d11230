"""Visits: what is known of files of an inbox that are not put away yet, beside it in a JSON file.

A file of which somebody died while he read it, or that was taken in and could not be moved, is still
there at the next look. It is known by name, inode, size and time: one that is written anew is another.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.files import write_whole


@dataclass(frozen=True)
class Visit:
    """What is known of a file.

    Attributes:
        begun: how often its reading was begun and not ended.
        refused: why it was refused, "" where it was taken in; None where neither is known.
    """

    begun: int = 0
    refused: str | None = None


@dataclass
class Visits:
    """The visits of an inbox.

    Attributes:
        path: where they are kept.
        known: by the marks of files.
    """

    path: Path
    known: dict[str, Visit] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, files: Iterable[Path]) -> "Visits":
        """Returns what is known of `files`; a file of visits that cannot be read tells nothing."""
        there = {mark(file) for file in files}
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            known = {key: Visit(**visit) for key, visit in table.items() if key in there}
        except (OSError, ValueError, TypeError, AttributeError):
            known = {}
        return cls(path, known)

    def of(self, file: Path) -> Visit:
        """Returns what is known of a file."""
        return self.known.get(mark(file) or "", Visit())

    def keep(self, key: str, visit: Visit) -> None:
        """Keeps what is known now of the file with this mark.

        Raises:
            FlowcastError: it cannot be written.
        """
        self.known[key] = visit
        with write_whole(self.path) as temporary:
            table = {key: asdict(visit) for key, visit in self.known.items()}
            temporary.write_text(json.dumps(table), encoding="utf-8")


def mark(file: Path) -> str | None:
    """Returns what tells a file from all others, None where it is gone."""
    try:
        told = file.stat(follow_symlinks=False)
    except OSError:
        return None
    return f"{os.fspath(file.name)!r} {told.st_ino} {told.st_size} {told.st_mtime_ns}"
