import os
import time
from pathlib import Path

import numpy as np
import pytest

from data.city import City, load_city
from data.flow import label
from data.store import Store
from data.taxibj import write_taxibj
from pipelines import inbox
from pipelines.inbox import take_in, waiting

HOUR = np.timedelta64(3600, "s")
CITY = City("toy", "Toy", "UTC", HOUR, (2, 3))
START = np.datetime64("2026-01-01T00:00", "s")
LATER = 10.0
"""Seconds after which what was written is whole."""


@pytest.fixture
def store() -> Store:
    return Store()


def dropped(name: str, hour: int = 0, value: float = 1.0) -> Path:
    path = inbox.inbox(CITY) / name
    flow = label(np.full((1, 2, 2, 3), value), START + np.array([hour]) * HOUR, CITY)
    write_taxibj(path, flow.values, flow["time"].values, CITY)
    return path


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (inbox.inbox(CITY) / folder).iterdir())


def test_whole_files_are_taken_in_and_put_away(store: Store) -> None:
    dropped("a.h5")
    dropped("b.h5", hour=1)
    (inbox.inbox(CITY) / "c.h5").write_bytes(b"no HDF5")
    taken = list(take_in(store, CITY, time.time() + LATER))
    assert [bool(one.refused) for one in taken] == [False, False, True]
    assert store.flow(CITY).sizes["time"] == 2
    assert (names("done"), names("refused")) == (["a.h5", "b.h5"], ["c.h5", "c.h5.reason.txt"])
    reason = (inbox.inbox(CITY) / "refused" / "c.h5.reason.txt").read_text()
    assert "c.h5" in reason and reason.count("\n") == 1
    assert [*store.ingests(CITY)["outcome"]] == ["stored", "stored", "refused"]
    assert not list(take_in(store, CITY, time.time() + LATER))


def test_a_file_that_is_being_written_is_left_alone() -> None:
    path = dropped("a.h5")
    assert waiting(CITY, time.time()) == []
    assert waiting(CITY, time.time() + LATER) == [path]
    # Renamed in long after it was written: it is whole at once.
    old = time.time() - 100
    os.utime(path, (old, old))
    assert waiting(CITY, time.time()) == [path]


def test_what_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    path = dropped("a.h5")
    folder = inbox.inbox(CITY)
    path.rename(folder / ".a.h5")
    for name in ("a.h5.part", "a.tmp", "notes.txt"):
        (folder / name).touch()
    (folder / "folder.h5").mkdir()
    (folder / "link.h5").symlink_to(folder / ".a.h5")
    assert waiting(CITY, time.time() + LATER) == []


def test_a_name_that_was_there_before_gets_a_number(store: Store) -> None:
    for hour in range(3):
        dropped("a.h5", hour=hour)
        list(take_in(store, CITY, time.time() + LATER))
    for _ in range(2):
        (inbox.inbox(CITY) / "b.h5").touch()
        list(take_in(store, CITY, time.time() + LATER))
    assert names("done") == ["a-1.h5", "a-2.h5", "a.h5"]
    assert names("refused") == ["b-1.h5", "b-1.h5.reason.txt", "b.h5", "b.h5.reason.txt"]


def test_a_corrected_slot_replaces_the_stored_one(store: Store) -> None:
    for value in (1.0, 2.0):
        dropped("a.h5", value=value)
        list(take_in(store, CITY, time.time() + LATER))
    assert (store.flow(CITY).values == 2).all()
    assert len(store.revisions(CITY)) == 1


def test_one_that_died_before_putting_away_loses_and_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped("a.h5")
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_put_away", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(take_in(store, CITY, time.time() + LATER))
    again = list(take_in(store, CITY, time.time() + LATER))
    assert [one.added.equal for one in again] == [1]
    assert names("done") == ["a.h5"]
    assert store.flow(CITY).sizes["time"] == 1


def test_files_of_the_users_own_city_go_to_its_own_inbox(small_home: Path) -> None:
    assert inbox.inbox(load_city("small")) == small_home / "inbox" / "small"
