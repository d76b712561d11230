"""Files: atomic writes, locks, hashes."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import FlowcastError, NotNowError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside `path`, which replaces `path` once it is written and synced.

    Raises:
        FlowcastError: the disk is full or the folder may not be written; `path` is as it was.
    """
    temporary: Path | None = None
    try:
        ensure_folder(path.parent)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise FlowcastError(
            f"{path} cannot be written ({error.strerror or error}); it is as it was before; "
            f"make room or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8 as `atomic_write` does."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON at once, null in place of numbers that are not finite."""
    write_text(path, json.dumps(json_safe(value), indent=1))


def json_safe(value: Any) -> Any:
    """Returns a value for JSON: None in place of floats that are not finite, lists of tuples."""
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def exclusive_lock(lock: Path, busy: str) -> Iterator[None]:
    """Holds a lock that no other process holds; it ends with the process at the latest.

    Raises:
        NotNowError: another one holds `lock`, and the sentence begins with `busy`.
        FlowcastError: it may not be written.
    """
    import filelock  # it loads more than all else that a forecast needs of this module

    ensure_folder(lock.parent)
    file_lock = filelock.FileLock(lock)
    try:
        file_lock.acquire(timeout=0)
    except filelock.Timeout:
        raise NotNowError(f"{busy}; wait for it, or end it first") from None
    except OSError as error:
        raise FlowcastError(
            f"the lock {lock} cannot be taken ({error.strerror}); give this user the right to write it"
        ) from error
    try:
        yield
    finally:
        file_lock.release()


def ensure_folder(folder: Path) -> None:
    """Makes the folder and those above it where they are missing.

    Raises:
        FlowcastError: it may not be made, or something else is in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowcastError(
            f"the folder {folder} cannot be made ({error.strerror}); name another, for the files of "
            f"flowcast itself by FLOWCAST_HOME"
        ) from error


def sync(path: Path) -> None:
    """Waits until the file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
