"""The inbox: files that are dropped in a city's folder are taken in once they are whole.

A file is whole when it was renamed into the folder, or has not changed for some seconds. It is stored
first and moved to `done/` after, or to `refused/` with the reason in a text beside. Who dies between
leaves it where it is; taken again it changes nothing, for equal slots stay as they are. One that somebody
went on writing after it was moved, such as over a slow line, is moved back and taken again. No file keeps
those after it from being taken in: what goes wrong with one is told at the end.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data.city import City
from data.errors import FlowcastError, StoreError
from data.files import make_folder, only_one, sync, write_whole
from data.formats.registry import SUFFIXES, TABLES, reader_of
from data.paths import inbox_folder, inbox_lock, journal_file
from data.store.ingests import Source
from data.store.store import Store
from pipelines import log
from pipelines.ingest.files import Ingested, ingest_file, refuse
from pipelines.ingest.inbox_journal import Visit, Visits, mark

QUIET = 2.0
"""Seconds without a change after which a file is whole."""
AHEAD = 60.0
"""Seconds by which a change must lie ahead to show that the clock was set back since."""
DONE, REFUSED, REASON = "done", "refused", ".reason.txt"
LONGEST = 180
"""Bytes of a name in `done/` and `refused/`, so that one with the reason, and a number, has room."""
LAST, MOST = 3, 20
"""Processes that died while they read a file: then it comes after the others; then it is refused."""


def inbox(city: City) -> Path:
    """Returns the folder of a city, and makes it.

    Raises:
        FlowcastError: it cannot be made.
    """
    folder = inbox_folder(city.name)
    for each in (folder, folder / DONE, folder / REFUSED):
        make_folder(each)
    return folder


def is_fed(city: City) -> bool:
    """Returns whether there is a file for a city, whole or not yet."""
    return (inbox_folder(city.name)).is_dir() and bool(waiting(city, float("inf")))


def waiting(city: City, now: float, quiet: float = QUIET) -> list[Path]:
    """Returns the files that are whole, the oldest first.

    Names that begin with a dot or end otherwise than files of flow and weather do are left alone:
    they are being written, or somebody else's. So are links and folders.

    Args:
        city: whose they are.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is whole.

    Raises:
        FlowcastError: the folder cannot be read.
    """
    found = []
    folder = inbox(city)
    try:
        entries = [*os.scandir(folder)]
    except OSError as error:
        raise FlowcastError(
            f"the inbox {folder} cannot be read ({error.strerror}); give this user the right to"
        ) from error
    for entry in entries:
        if entry.name.startswith(".") or not _is_file_of_ours(entry):
            continue
        try:
            told = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # taken back since
            continue
        # Renaming changes the inode and not the content; copying changes both. What was written last
        # by a clock that is ahead of ours tells nothing; our own clock may have been set back.
        written, moved = told.st_mtime, told.st_ctime
        unchanged = now - moved >= quiet or moved - now > AHEAD
        if unchanged or moved - written >= quiet:
            found.append((written, entry.name, Path(entry.path)))
    return [path for *_, path in sorted(found)]


def fresh(city: City, now: float, quiet: float = QUIET) -> set[str]:
    """Returns the marks of the files that are to be taken in: those that wait, and those written on since.

    Takes what `waiting` takes, and raises what it does.
    """
    files = [*waiting(city, now, quiet), *Visits.read(_visits(city)).changed()]
    return {told for path in files if (told := mark(path))}


def _visits(city: City) -> Path:
    return journal_file(city.name)


def untaken(city: City, before: float) -> list[str]:
    """Returns the names of files for a city that lie in its inbox since `before`, in seconds since 1970.

    Raises:
        FlowcastError: the folder cannot be read.
    """
    if not (inbox_folder(city.name)).is_dir():
        return []
    return [
        path.name
        for path in waiting(city, float("inf"))
        if path.stat(follow_symlinks=False).st_ctime < before
    ]


def strange(city: City) -> list[str]:
    """Returns the names in a city's inbox that are never taken in: links, folders, files of other kinds.

    Names that begin with a dot are being written.
    """
    folder = inbox_folder(city.name)
    try:
        entries = [*os.scandir(folder)]
    except OSError:  # there is none yet, or `waiting` tells what is wrong with it
        return []
    return sorted(
        entry.name
        for entry in entries
        if entry.name not in (DONE, REFUSED)
        and not entry.name.startswith(".")
        and not _is_file_of_ours(entry)
    )


def _is_file_of_ours(entry: "os.DirEntry[str]") -> bool:
    ending = entry.name.lower().endswith((*SUFFIXES, *TABLES))
    return ending and entry.is_file(follow_symlinks=False)


def take_in(store: Store, city: City, now: float, quiet: float = QUIET) -> Iterator[Ingested]:
    """Takes in what waits and yields what became of each file; slots that differ replace stored ones.

    Args:
        store: that takes them.
        city: whose inbox it is.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is whole.

    Raises:
        StoreError: the store cannot be written; the files stay where they are.
        FlowcastError: some files cannot be read now, or moved; they stay where they are. All others
            were yielded before.
    """
    kept = _visits(city)
    if not fresh(city, now, quiet):
        return
    reader_of(city)  # a wrong TOML refuses no file
    lock = inbox_lock(city.name)
    with only_one(lock, f"another process is taking in the files of {city.name}"):
        visits = Visits.read(kept)
        _fetch_back(visits)
        files = waiting(city, now, quiet)
        visits = visits.of_these(files)
        problems = []
        for path in sorted(files, key=lambda path: visits.of(path).begun >= LAST):
            try:
                yield from _visit(store, city, path, visits)
            except StoreError:
                raise
            except FlowcastError as error:
                problems.append(str(error))
            except Exception as error:
                log.fail(repr(error), traceback=True, city=city.name, path=str(path))
                problems.append(f"{path} cannot be taken in ({error!r}); it is tried again")
    if problems:
        raise FlowcastError("; ".join(problems))


def _fetch_back(visits: Visits) -> None:
    """Moves files back that were written on after they had been put away, to be taken in once more."""
    for path in visits.changed():
        if visits.is_touched(path):
            continue
        log.warn("a file was written on after it was taken in", path=str(path))
        path.rename(_free(path.parent.parent, path.name))
        path.with_name(path.name + REASON).unlink(missing_ok=True)


def _visit(store: Store, city: City, path: Path, visits: Visits) -> Iterator[Ingested]:
    """Takes in a file, yields what became of it and puts it away.

    One that was taken in before and could not be moved is not taken again: a newer one may have
    corrected its slots since.
    """
    was, known = mark(path), visits.of(path)
    if was is None:
        return
    taken, problem = None, None
    if known.refused is None:
        taken = _taken(store, city, path, visits, was)
        known = Visit(known.begun, taken.refused)
    if mark(path) == was:  # else somebody went on writing it: it is taken again once it is whole
        try:
            visits.keep_away(_put_away(path, known.refused or ""), was)
        except FlowcastError as error:
            visits.keep(was, known)
            problem = error
    if taken is not None:
        yield taken
    if problem is not None:
        raise problem


def _taken(store: Store, city: City, path: Path, visits: Visits, was: str) -> Ingested:
    """Returns what became of a file, which is known meanwhile as one whose reading was begun."""
    known = visits.of(path)
    if known.begun >= MOST:
        reason = f"{path}: {MOST} processes ended while they read it; get it anew"
        return refuse(store, city, Source(str(path), ""), reason)
    visits.keep(was, Visit(known.begun + 1))
    try:
        return ingest_file(store, city, path, replace=True)
    except MemoryError:
        raise
    except Exception:  # no fault of the file
        visits.keep(was, known)
        raise


def _put_away(path: Path, refused: str) -> Path:
    """Moves a file that was taken in or refused, the reason first, and returns where it is now."""
    folder = path.parent / (REFUSED if refused else DONE)
    target = _free(folder, path.name)
    try:
        if refused:
            with write_whole(target.with_name(target.name + REASON)) as temporary:
                temporary.write_text(refused + "\n", encoding="utf-8", errors="backslashreplace")
        _move(path, target)
        sync(folder)
    except OSError as error:
        raise FlowcastError(
            f"{path} was taken in, but cannot be moved to {folder} ({error.strerror}); give this user "
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
        with write_whole(target) as temporary:
            shutil.copy2(path, temporary)
        path.unlink()


def _free(folder: Path, name: str) -> Path:
    """Returns a path of the folder at which nothing is yet."""
    suffix = Path(name).suffix
    stem = os.fsencode(Path(name).stem)[: LONGEST - len(suffix)].decode("utf-8", "replace")
    tried, number = folder / f"{stem}{suffix}", 1
    while tried.exists() or tried.with_name(tried.name + REASON).exists():
        tried = folder / f"{stem}-{number}{suffix}"
        number += 1
    return tried
