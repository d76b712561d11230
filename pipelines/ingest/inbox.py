"""The inbox: files that are dropped in a city's folder are ingested once they are complete.

A file is complete when it was renamed into the folder, or has not changed for some seconds. It is stored
first and moved to `done/` after, or to `refused/` with the reason in a text beside. A process that dies
in between leaves the file where it is; ingested again it changes nothing, for equal slots stay as they
are. A file that was written on after it was moved, such as over a slow line, is moved back and ingested
again. No file keeps others from being ingested: problems are raised at the end.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data.city import City
from data.errors import FlowcastError, StoreError
from data.files import atomic_write, ensure_folder, exclusive_lock, sync
from data.formats.registry import check_reader, suffixes
from data.paths import inbox_folder, inbox_lock, journal_file
from data.store.ingests import Source
from data.store.store import Store
from pipelines import log
from pipelines.ingest.files import Ingested, ingest_file, refuse
from pipelines.ingest.inbox_journal import Journal, JournalEntry, fingerprint

QUIET_SECONDS = 2.0
"""Seconds without a change after which a file is complete."""
CLOCK_SET_BACK_SECONDS = 60.0
"""A change that lies further ahead shows that the clock was set back since."""
DONE, REFUSED, REASON = "done", "refused", ".reason.txt"
MAX_NAME_BYTES = 180
"""Of a name in `done/` and `refused/`; a number and the ending of the reason still fit."""
ATTEMPTS_TO_DEFER, MAX_ATTEMPTS = 3, 20
"""Processes that died while they read a file: then it is read last; then it is refused."""


def open_inbox(city: City) -> Path:
    """Returns the folder of a city, and makes it.

    Raises:
        FlowcastError: it cannot be made.
    """
    folder = inbox_folder(city.name)
    for each in (folder, folder / DONE, folder / REFUSED):
        ensure_folder(each)
    return folder


def has_files(city: City) -> bool:
    """Returns whether there is a file for a city, complete or not."""
    return inbox_folder(city.name).is_dir() and bool(waiting(city, float("inf")))


def waiting(city: City, now: float, quiet: float = QUIET_SECONDS) -> list[Path]:
    """Returns the complete files, the oldest first.

    Links, folders, names that begin with a dot and names that end otherwise than those of `READERS`
    are left alone: they are being written, or belong to somebody else.

    Args:
        city: whose inbox it is.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is complete.

    Raises:
        FlowcastError: the folder cannot be read.
    """
    found = []
    folder = open_inbox(city)
    try:
        entries = [*os.scandir(folder)]
    except OSError as error:
        raise FlowcastError(
            f"the inbox {folder} cannot be read ({error.strerror}); give this user the right to read it"
        ) from error
    for entry in entries:
        if entry.name.startswith(".") or not _can_be_ingested(entry):
            continue
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # taken back since
            continue
        # Renaming changes the inode and not the content; copying changes both. The time of writing is
        # of no use where another host's clock is ahead of ours; our own may have been set back.
        written, changed = stat.st_mtime, stat.st_ctime
        unchanged = now - changed >= quiet or changed - now > CLOCK_SET_BACK_SECONDS
        if unchanged or changed - written >= quiet:
            found.append((written, entry.name, Path(entry.path)))
    return [path for *_, path in sorted(found)]


def pending(city: City, now: float, quiet: float = QUIET_SECONDS) -> set[str]:
    """Returns the fingerprints of the files to ingest: those that wait, and those changed since.

    Its arguments and errors are those of `waiting`.
    """
    files = [*waiting(city, now, quiet), *Journal.read(journal_file(city.name)).changed()]
    return {key for path in files if (key := fingerprint(path))}


def stale(city: City, before: float) -> list[str]:
    """Returns the names of the files that lie in a city's inbox since `before`, seconds since 1970.

    Raises:
        FlowcastError: the folder cannot be read.
    """
    if not inbox_folder(city.name).is_dir():
        return []
    return [
        path.name
        for path in waiting(city, float("inf"))
        if path.stat(follow_symlinks=False).st_ctime < before
    ]


def unrecognized(city: City) -> list[str]:
    """Returns the names in a city's inbox that are never ingested: links, folders, files of other kinds.

    Names that begin with a dot are being written.
    """
    try:
        entries = [*os.scandir(inbox_folder(city.name))]
    except OSError:  # there is none yet, or `waiting` says what is wrong with it
        return []
    return sorted(
        entry.name
        for entry in entries
        if entry.name not in (DONE, REFUSED)
        and not entry.name.startswith(".")
        and not _can_be_ingested(entry)
    )


def _can_be_ingested(entry: "os.DirEntry[str]") -> bool:
    return entry.name.lower().endswith(suffixes()) and entry.is_file(follow_symlinks=False)


def ingest_pending(
    store: Store, city: City, now: float, quiet: float = QUIET_SECONDS
) -> Iterator[Ingested]:
    """Ingests the files that wait and yields what became of each; slots that differ replace stored ones.

    Args:
        store: that they go to.
        city: whose inbox it is.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is complete.

    Raises:
        StoreError: the store cannot be written; the files stay where they are.
        FlowcastError: some files cannot be read now, or moved; they stay where they are. All others
            were yielded before.
    """
    if not pending(city, now, quiet):
        return
    check_reader(city)  # a wrong TOML refuses no file
    busy = f"another process is ingesting the inbox of {city.name}"
    with exclusive_lock(inbox_lock(city.name), busy):
        journal = Journal.read(journal_file(city.name))
        _move_changed_back(journal)
        files = waiting(city, now, quiet)
        journal.keep_only(files)
        problems = []
        for path in sorted(
            files, key=lambda path: journal.entry(path).attempts >= ATTEMPTS_TO_DEFER
        ):
            try:
                yield from _ingest_and_move(store, city, path, journal)
            except StoreError:
                raise
            except FlowcastError as error:
                problems.append(str(error))
            except Exception as error:
                log.fail(repr(error), traceback=True, city=city.name, path=str(path))
                problems.append(f"{path} cannot be ingested ({error!r}); it is tried again")
    if problems:
        raise FlowcastError("; ".join(problems))


def _move_changed_back(journal: Journal) -> None:
    """Moves the files back that were written on after they had been moved."""
    for path in journal.changed():
        if journal.is_only_touched(path):
            continue
        log.warn("a file was written on after it was ingested", path=str(path))
        path.rename(_free_path(path.parent.parent, path.name))
        path.with_name(path.name + REASON).unlink(missing_ok=True)


def _ingest_and_move(store: Store, city: City, path: Path, journal: Journal) -> Iterator[Ingested]:
    """Ingests a file, yields what became of it and moves it.

    A file that was stored before and could not be moved is not ingested again: a newer one may have
    corrected its slots since.
    """
    key, entry = fingerprint(path), journal.entry(path)
    if key is None:
        return
    ingested, problem = None, None
    if entry.refusal is None:
        ingested = _ingest(store, city, path, journal, key)
        entry = JournalEntry(entry.attempts, ingested.refused)
    if (
        fingerprint(path) == key
    ):  # else somebody went on writing: it is ingested again once complete
        try:
            journal.keep_moved(_move_away(path, entry.refusal or ""), key)
        except FlowcastError as error:
            journal.keep(key, entry)
            problem = error
    if ingested is not None:
        yield ingested
    if problem is not None:
        raise problem


def _ingest(store: Store, city: City, path: Path, journal: Journal, key: str) -> Ingested:
    """Returns what became of a file; the journal counts the attempt meanwhile."""
    entry = journal.entry(path)
    if entry.attempts >= MAX_ATTEMPTS:
        reason = f"{path}: {MAX_ATTEMPTS} processes ended while they read it; get it anew"
        return refuse(store, city, Source(str(path), ""), reason)
    journal.keep(key, JournalEntry(entry.attempts + 1))
    try:
        return ingest_file(store, city, path, replace=True)
    except MemoryError:
        raise
    except Exception:  # no fault of the file
        journal.keep(key, entry)
        raise


def _move_away(path: Path, refusal: str) -> Path:
    """Moves a file to `done/` or `refused/`, the reason first, and returns its new path."""
    folder = path.parent / (REFUSED if refusal else DONE)
    target = _free_path(folder, path.name)
    try:
        if refusal:
            with atomic_write(target.with_name(target.name + REASON)) as temporary:
                temporary.write_text(refusal + "\n", encoding="utf-8", errors="backslashreplace")
        _move(path, target)
        sync(folder)
    except OSError as error:
        raise FlowcastError(
            f"{path} was ingested, but cannot be moved to {folder} ({error.strerror}); give this user "
            f"the right to, or move it yourself"
        ) from error
    return target


def _move(path: Path, target: Path) -> None:
    """Moves a file, also to another disk."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_write(target) as temporary:
            shutil.copy2(path, temporary)
        path.unlink()


def _free_path(folder: Path, name: str) -> Path:
    """Returns a path of the folder that does not exist yet, nor its reason."""
    suffix = Path(name).suffix
    stem = os.fsencode(Path(name).stem)[: MAX_NAME_BYTES - len(suffix)].decode("utf-8", "replace")
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists() or path.with_name(path.name + REASON).exists():
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    return path
