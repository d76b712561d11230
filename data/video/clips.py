"""Clips: films that lie end to end in one array, and their cache, which never holds half a film.

The cache of a set of clips is a folder, `kth-train-0123456789abcdef`, with `frames.npy` and
`clips.json`. The number is a hash of the settings and of the names, sizes and times of the files
that the clips come from, so that a changed folder is read again. Such a folder may be deleted at any
time.
"""

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple

import filelock
import numpy as np

from data.errors import FlowcastError
from data.files import ensure_folder, sync

LAYOUT = 1  # of the cache's folder; another number reads everything again
FRAMES = "frames.npy"
NOTES = "clips.json"
PART = 2**20  # bytes read at a time


@dataclass(frozen=True)
class Clips:
    """Films of one size, end to end.

    Attributes:
        frames: uint8, dims `(frame, channel, y, x)`; mapped from a cache, writing to it changes
            the memory only, never the file.
        bounds: first frame of each clip and the frame after its last.
        names: of each clip.
        skipped: a sentence on each clip, or part of one, that is not here: its name and why.
    """

    frames: np.ndarray
    bounds: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()


class Clip(NamedTuple):
    """One film: its name and its frames, uint8 `(frame, channel, y, x)`, at least one."""

    name: str
    frames: np.ndarray


def starts(clips: Clips, length: int, every: int = 1) -> np.ndarray:
    """Returns where windows of `length` frames begin, `every` frames apart in each clip.

    Each lies within one clip; the first of a clip begins at its first frame.

    Raises:
        FlowcastError: `length` or `every` is below 1.
    """
    if length < 1 or every < 1:
        raise FlowcastError(
            f"windows of {length} frames, {every} apart, do not exist; choose 1 or more"
        )
    found = [np.arange(start, stop - length + 1, every) for start, stop in clips.bounds]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def fingerprint(folder: Path, files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Returns name below `folder`, bytes and time of change (ns) of each file, for a cache's key.

    Raises:
        FlowcastError: a file is no longer there or may not be looked at.
    """
    try:
        stats = [(file.relative_to(folder).as_posix(), file.stat()) for file in sorted(files)]
    except OSError as error:
        raise FlowcastError(
            f"{error.filename} cannot be read ({error.strerror}); get it anew or take it away"
        ) from error
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def cached_clips(
    place: Path, key: Mapping[str, object], read: Callable[[], Iterable[Clip | str]]
) -> Clips:
    """Returns the clips of `key` from their cache; where they are not in it, reads them into it.

    Frames go to the disk clip by clip, so that a set larger than the memory can be read. A process
    that finds another one reading the same clips waits for it.

    Args:
        place: of the cache, without the number that is appended to its name.
        key: all that decides what the clips are, in types of JSON.
        read: gives the clips one by one, all with the same channels and size, and for each that
            is missing a sentence.

    Raises:
        FlowcastError: there is no clip at all, or the cache cannot be written.
    """
    facts = json.dumps([LAYOUT, key], sort_keys=True).encode()
    digest = hashlib.sha256(facts).hexdigest()
    entry = place.with_name(f"{place.name}-{digest[:16]}")
    clips = _kept(entry, digest)
    if clips is not None:
        return clips
    ensure_folder(entry.parent)
    try:
        with filelock.FileLock(entry.with_name(f".{entry.name}.lock")):
            return _kept(entry, digest) or _keep(entry, digest, read())
    except OSError as error:
        raise FlowcastError(
            f"the cache {entry} cannot be written ({error.strerror or error}); nothing of it is "
            f"kept: make room or name another folder for it"
        ) from error


def _kept(entry: Path, digest: str) -> Clips | None:
    """Returns the clips of a cache; None where it is missing, damaged or of something else."""
    try:
        notes = json.loads((entry / NOTES).read_text(encoding="utf-8"))
        if notes["digest"] != digest or notes["checksum"] != _checksum(entry / FRAMES):
            return None
        frames = np.lib.format.open_memmap(entry / FRAMES, mode="c")
        bounds = tuple((int(start), int(stop)) for start, stop in notes["bounds"])
        clips = Clips(frames, bounds, tuple(notes["names"]), tuple(notes["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    edges = [0, *(stop for _, stop in bounds)]
    end_to_end = [start for start, _ in bounds] == edges[:-1] and edges[-1] == len(frames)
    sound = frames.dtype == np.uint8 and frames.ndim == 4 and len(bounds) == len(clips.names)
    return clips if sound and end_to_end and edges == sorted(set(edges)) else None


def _keep(entry: Path, digest: str, clips: Iterable[Clip | str]) -> Clips:
    """Writes clips to a folder that then takes the place of `entry`; the caller holds its lock."""
    for left in entry.parent.glob(f".{entry.name}.*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}.", suffix=".part"))
    try:
        temporary.chmod(0o755)
        with (temporary / FRAMES).open("wb") as file:
            notes = {"digest": digest, **_write(file, clips)}
        notes["checksum"] = _checksum(temporary / FRAMES)
        (temporary / NOTES).write_text(json.dumps(notes), encoding="utf-8")
        for path in (temporary / FRAMES, temporary / NOTES, temporary):
            sync(path)
        _clear(entry)
        temporary.rename(entry)
        sync(entry.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = _kept(entry, digest)
    if kept is None:
        raise OSError("what was written cannot be read back")
    return kept


def _clear(entry: Path) -> None:
    """Removes a damaged cache, whatever stands there."""
    shutil.rmtree(entry, ignore_errors=True)
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        entry.unlink()


def _write(file: IO[bytes], clips: Iterable[Clip | str]) -> dict[str, object]:
    """Writes the frames as `.npy` while they come; returns bounds, names and sentences."""
    edges = [0]
    names: list[str] = []
    skipped: list[str] = []
    for clip in clips:
        if isinstance(clip, str):
            skipped.append(clip)
            continue
        if not names:
            shape = clip.frames.shape[1:]
            _write_header(file, (0, *shape))
        file.write(np.ascontiguousarray(clip.frames).data)
        edges.append(edges[-1] + len(clip.frames))
        names.append(clip.name)
    if not names:
        why = f"the first of {len(skipped)}: {skipped[0]}" if skipped else "there is none"
        raise FlowcastError(f"no clip could be read; {why}")
    file.seek(0)
    _write_header(file, (edges[-1], *shape))
    return {"bounds": list(pairwise(edges)), "names": names, "skipped": skipped}


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Writes the header of a `.npy`; NumPy leaves room in it for the first number to grow."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _checksum(path: Path) -> int:
    """Returns the CRC-32 of a file, about a second a GiB."""
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(PART):
            checksum = zlib.crc32(part, checksum)
    return checksum
