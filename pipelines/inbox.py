"""The inbox: files that are dropped in a city's folder are taken in once they are whole.

A file is whole when it was renamed into the folder, or has not changed for some seconds. It is stored
first and moved to `done/` after, or to `refused/` with the reason in a text beside it. Who dies between
leaves it where it is; taken again it changes nothing, for equal slots stay as they are.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from data.city import City
from data.errors import FlowcastError
from data.files import make_folder, only_one, sync, write_whole
from data.home import home
from data.readers import SUFFIXES, TABLES
from data.store import Store
from pipelines.ingest import Ingested, ingest

QUIET = 2.0
"""Seconds without a change after which a file is whole."""
DONE, REFUSED, REASON = "done", "refused", ".reason.txt"


def inbox(city: City) -> Path:
    """Returns the folder of a city, and makes it.

    Raises:
        FlowcastError: it cannot be made.
    """
    folder = home() / "inbox" / city.name
    for each in (folder, folder / DONE, folder / REFUSED):
        make_folder(each)
    return folder


def waiting(city: City, now: float, quiet: float = QUIET) -> list[Path]:
    """Returns the files that are whole, the oldest first.

    Names that begin with a dot or end otherwise than files of flow and weather do are left alone:
    they are being written, or somebody else's. So are links and folders.

    Args:
        city: whose they are.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is whole.
    """
    found = []
    for entry in os.scandir(inbox(city)):
        if entry.name.startswith(".") or not entry.name.lower().endswith((*SUFFIXES, *TABLES)):
            continue
        if not entry.is_file(follow_symlinks=False):
            continue
        told = entry.stat(follow_symlinks=False)
        # Renaming changes the inode and not the content; copying changes both.
        written, moved = told.st_mtime, told.st_ctime
        if now - max(written, moved) >= quiet or moved - written >= quiet:
            found.append((written, entry.name, Path(entry.path)))
    return [path for *_, path in sorted(found)]


def take_in(store: Store, city: City, now: float, quiet: float = QUIET) -> Iterator[Ingested]:
    """Takes in what waits and yields what became of each file; slots that differ replace stored ones.

    Args:
        store: that takes them.
        city: whose inbox it is.
        now: seconds since 1970.
        quiet: seconds without a change after which a file is whole.

    Raises:
        StoreError: the store cannot be written; the files stay where they are.
        FlowcastError: a file cannot be moved; it stays where it is and is in the store.
    """
    if not waiting(city, now, quiet):
        return
    lock = home() / "inbox" / f".{city.name}.lock"
    with only_one(lock, f"another process is taking in the files of {city.name}"):
        for path in waiting(city, now, quiet):
            for taken in ingest(store, city, [path], replace=True):
                _put_away(path, taken)
                yield taken


def _put_away(path: Path, taken: Ingested) -> None:
    """Moves a file that was taken in or refused, the reason first."""
    folder = path.parent / (REFUSED if taken.refused else DONE)
    target = _free(folder, path.name)
    try:
        if taken.refused:
            with write_whole(target.with_name(target.name + REASON)) as temporary:
                temporary.write_text(taken.refused + "\n", encoding="utf-8")
        path.rename(target)
        sync(folder)
    except OSError as error:
        raise FlowcastError(
            f"{path} was taken in, but cannot be moved to {folder} ({error.strerror}); give this user "
            f"the right to, or move it yourself"
        ) from error


def _free(folder: Path, name: str) -> Path:
    """Returns a path of the folder at which nothing is yet."""
    tried, number = folder / name, 1
    stem, suffix = tried.stem, tried.suffix
    while tried.exists() or tried.with_name(tried.name + REASON).exists():
        tried = folder / f"{stem}-{number}{suffix}"
        number += 1
    return tried
