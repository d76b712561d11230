"""Values as columns hold them: times are whole seconds since 1970 UTC."""

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa


def storable(text: str) -> str:
    """Returns a text that every database takes: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


def key_of(result: sa.CursorResult[Any]) -> int:
    """Returns the key of the one row that was inserted."""
    if result.inserted_primary_key is None:
        raise AssertionError("an insert of one row has a key")
    return int(result.inserted_primary_key[0])


def as_seconds(time: np.ndarray) -> np.ndarray:
    """Returns times as the store writes them."""
    return time.astype("datetime64[s]").astype(np.int64)


def as_second(time: np.datetime64) -> int:
    """Returns one time as the store writes it."""
    return int(as_seconds(np.asarray(time)))


def as_times(stored: Any) -> np.ndarray:
    """Returns the times, `datetime64[s]`, that the store wrote as seconds."""
    return np.asarray(stored, dtype=np.int64).astype("datetime64[s]")


def now() -> int:
    """Returns the seconds of this moment."""
    return int(pd.Timestamp.now("UTC").timestamp())
