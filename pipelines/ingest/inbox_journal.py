"""The journal of an inbox: how far each of its files is ingested, in a JSON file beside it.

A file whose reader died, or that is stored and could not be moved, is still there at the next look.
A file is known by name, inode, size and time; one that is rewritten is another. Of the newest files that
were moved to `done/` or `refused/` size, time and SHA-256 are kept: a later change shows that somebody
was still writing.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data.files import sha256, write_text

MAX_MOVED = 200
"""Files that were moved whose size and time are kept."""


@dataclass(frozen=True)
class JournalEntry:
    """How far a file is ingested.

    Attributes:
        attempts: processes that began to read it and did not end.
        refusal: why it was refused, "" where it was stored; None where neither is known.
    """

    attempts: int = 0
    refusal: str | None = None


@dataclass
class Journal:
    """The journal of an inbox.

    Attributes:
        path: of its file.
        entries: by the fingerprints of files.
        moved: of the newest files in `done/` and `refused/`, by path: size, time, and SHA-256 where it
            is known.
    """

    path: Path
    entries: dict[str, JournalEntry] = field(default_factory=dict)
    moved: dict[str, list[int | str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Returns the journal at `path`; an empty one where it cannot be read."""
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            entries = {
                str(key): JournalEntry(int(one["begun"]), one["refused"])
                for key, one in table["known"].items()
            }
            moved = {str(key): [*facts] for key, facts in table["away"].items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            entries, moved = {}, {}
        return cls(path, entries, moved)

    def keep_only(self, files: Iterable[Path]) -> None:
        """Drops the entries of all other files; it is written with the next entry."""
        present = {fingerprint(file) for file in files}
        self.entries = {key: entry for key, entry in self.entries.items() if key in present}

    def entry(self, file: Path) -> JournalEntry:
        """Returns the entry of a file."""
        return self.entries.get(fingerprint(file) or "", JournalEntry())

    def changed(self) -> list[Path]:
        """Returns the files whose size or time has changed since they were moved."""
        paths = [
            Path(path)
            for path, facts in self.moved.items()
            if _size_and_time(Path(path)) not in ([], facts[:2])
        ]
        return [path for path in paths if path.is_file()]

    def is_only_touched(self, path: Path) -> bool:
        """Returns whether a file that was moved still has its content; its new time is kept then.

        Raises:
            FlowcastError: the journal cannot be written.
        """
        facts, now = self.moved.get(os.fspath(path), []), _size_and_time(path)
        if len(facts) < 3 or _hash(path) != facts[2]:
            return False
        # The time was taken before the hash: a change since is seen at the next look.
        self.moved[os.fspath(path)] = [*now, facts[2]]
        self._write()
        return True

    def keep(self, key: str, entry: JournalEntry) -> None:
        """Writes the entry of the file with this fingerprint.

        Raises:
            FlowcastError: the journal cannot be written.
        """
        self.entries[key] = entry
        self._write()

    def keep_moved(self, path: Path, key: str) -> None:
        """Writes that the file with the fingerprint `key` lies at `path` now.

        Raises:
            FlowcastError: the journal cannot be written.
        """
        facts: list[int | str] = [int(one) for one in key.rsplit(" ", 2)[1:]]
        digest = _hash(path)
        unchanged = digest and _size_and_time(path) == facts  # else the hash is of other content
        self.moved[os.fspath(path)] = [*facts, digest] if unchanged else facts
        self.moved = dict([*self.moved.items()][-MAX_MOVED:])
        self._write()

    def _write(self) -> None:
        known = {
            key: {"begun": entry.attempts, "refused": entry.refusal}
            for key, entry in self.entries.items()
        }
        write_text(self.path, json.dumps({"known": known, "away": self.moved}))


def fingerprint(file: Path) -> str | None:
    """Returns name, inode, size and time of a file as a text, None where it is gone."""
    try:
        stat = file.stat(follow_symlinks=False)
    except OSError:
        return None
    return f"{os.fspath(file.name)!r} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _hash(path: Path) -> str:
    """Returns the SHA-256 of a file, "" where it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _size_and_time(path: Path) -> list[int | str]:
    """Returns size and time of a file, nothing where it is gone."""
    try:
        stat = path.stat(follow_symlinks=False)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
