"""Visits: what is known of files of an inbox that are not put away yet, beside it in a JSON file.

A file of which somebody died while he read it, or that was taken in and could not be moved, is still
there at the next look. It is known by name, inode, size and time: one that is written anew is another.
Of the newest files that were put away size and time are kept, by which is seen who was still writing.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.files import sha256, write_whole

MOST_AWAY = 200
"""Files that were put away of which size and time are kept."""


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
        away: of the newest files that were put away, by their paths: size, time, SHA-256 where it is
            known.
    """

    path: Path
    known: dict[str, Visit] = field(default_factory=dict)
    away: dict[str, list[int | str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Visits":
        """Returns what is kept; a file of visits that cannot be read tells nothing."""
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            known = {str(key): Visit(**visit) for key, visit in table["known"].items()}
            away = {str(key): [*told] for key, told in table["away"].items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            known, away = {}, {}
        return cls(path, known, away)

    def of_these(self, files: Iterable[Path]) -> "Visits":
        """Returns the visits without what is known of other files than these."""
        there = {mark(file) for file in files}
        known = {key: visit for key, visit in self.known.items() if key in there}
        return Visits(self.path, known, self.away)

    def of(self, file: Path) -> Visit:
        """Returns what is known of a file."""
        return self.known.get(mark(file) or "", Visit())

    def changed(self) -> list[Path]:
        """Returns the files of which size or time have changed since they were put away."""
        found = [
            Path(path)
            for path, told in self.away.items()
            if _told(Path(path)) not in ([], told[:2])
        ]
        return [path for path in found if path.is_file()]

    def is_touched(self, path: Path) -> bool:
        """Returns whether a file that was put away holds what it held then, and keeps its new time.

        Raises:
            FlowcastError: that cannot be written.
        """
        kept, now = self.away.get(os.fspath(path), []), _told(path)
        if len(kept) < 3 or _hash(path) != kept[2]:
            return False
        # Of a time before it was read: what somebody writes meanwhile is seen at the next look.
        self.away[os.fspath(path)] = [*now, kept[2]]
        self._write()
        return True

    def keep(self, key: str, visit: Visit) -> None:
        """Keeps what is known now of the file with this mark.

        Raises:
            FlowcastError: it cannot be written.
        """
        self.known[key] = visit
        self._write()

    def keep_away(self, path: Path, was: str) -> None:
        """Keeps that the file with the mark `was` lies at `path` now, and what it holds.

        Raises:
            FlowcastError: it cannot be written.
        """
        told = [int(one) for one in was.rsplit(" ", 2)[1:]]
        digest = _hash(path)
        # What was written since is not what was taken in.
        same = digest and _told(path) == told
        self.away[os.fspath(path)] = [*told, digest] if same else [*told]
        self.away = dict([*self.away.items()][-MOST_AWAY:])
        self._write()

    def _write(self) -> None:
        known = {key: asdict(visit) for key, visit in self.known.items()}
        with write_whole(self.path) as temporary:
            temporary.write_text(json.dumps({"known": known, "away": self.away}), encoding="utf-8")


def _hash(path: Path) -> str:
    """Returns the SHA-256 of a file, "" where it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _told(path: Path) -> list[int | str]:
    """Returns size and time of a file, nothing where it is gone."""
    try:
        told = path.stat(follow_symlinks=False)
    except OSError:
        return []
    return [told.st_size, told.st_mtime_ns]


def mark(file: Path) -> str | None:
    """Returns what tells a file from all others, None where it is gone."""
    try:
        told = file.stat(follow_symlinks=False)
    except OSError:
        return None
    return f"{os.fspath(file.name)!r} {told.st_ino} {told.st_size} {told.st_mtime_ns}"
