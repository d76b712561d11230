import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.city import City, load_city
from data.errors import FlowcastError
from data.flow import label
from data.formats.taxibj import write_taxibj
from data.store.store import Store
from pipelines.ingest import inbox
from pipelines.ingest.inbox import ingest_pending, waiting

HOUR = np.timedelta64(3600, "s")
CITY = City("toy", "Toy", "UTC", HOUR, (2, 3))
START = np.datetime64("2026-01-01T00:00", "s")
LATER = 10.0
"""Seconds after which what was written is whole."""


@pytest.fixture
def store() -> Store:
    return Store()


def dropped(name: str, hour: int = 0, value: float = 1.0) -> Path:
    path = inbox.open_inbox(CITY) / name
    flow = label(np.full((1, 2, 2, 3), value), START + np.array([hour]) * HOUR, CITY)
    write_taxibj(path, flow.values, flow["time"].values, CITY)
    return path


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (inbox.open_inbox(CITY) / folder).iterdir())


def test_whole_files_are_taken_in_and_put_away(store: Store) -> None:
    dropped("a.h5")
    dropped("b.h5", hour=1)
    (inbox.open_inbox(CITY) / "c.h5").write_bytes(b"no HDF5")
    taken = list(ingest_pending(store, CITY, time.time() + LATER))
    assert [bool(one.refused) for one in taken] == [False, False, True]
    assert store.flow.read(CITY).sizes["time"] == 2
    assert (names("done"), names("refused")) == (["a.h5", "b.h5"], ["c.h5", "c.h5.reason.txt"])
    reason = (inbox.open_inbox(CITY) / "refused" / "c.h5.reason.txt").read_text()
    assert "c.h5" in reason and reason.count("\n") == 1
    assert [*store.ingests.table(CITY)["outcome"]] == ["stored", "stored", "refused"]
    assert not list(ingest_pending(store, CITY, time.time() + LATER))


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
    folder = inbox.open_inbox(CITY)
    path.rename(folder / ".a.h5")
    for name in ("a.h5.part", "a.tmp", "notes.txt"):
        (folder / name).touch()
    (folder / "folder.h5").mkdir()
    (folder / "link.h5").symlink_to(folder / ".a.h5")
    assert waiting(CITY, time.time() + LATER) == []


def test_a_name_that_was_there_before_gets_a_number(store: Store) -> None:
    for hour in range(3):
        dropped("a.h5", hour=hour)
        list(ingest_pending(store, CITY, time.time() + LATER))
    for _ in range(2):
        (inbox.open_inbox(CITY) / "b.h5").touch()
        list(ingest_pending(store, CITY, time.time() + LATER))
    assert names("done") == ["a-1.h5", "a-2.h5", "a.h5"]
    assert names("refused") == ["b-1.h5", "b-1.h5.reason.txt", "b.h5", "b.h5.reason.txt"]


def test_what_goes_wrong_with_one_file_keeps_no_other_from_being_taken_in(store: Store) -> None:
    folder = inbox.open_inbox(CITY)
    dropped("a.h5")
    dropped("z.h5", hour=1)
    rows = "".join(f"2026-01-01T02:00,{y},{x},1,1\n" for y in range(2) for x in range(3))
    table = f"time,y,x,inflow,outflow\n{rows}"
    (folder / os.fsdecode(b"\xff\xfe.csv")).write_text(table)
    (folder / os.fsdecode(b"\xff.h5")).write_bytes(b"no HDF5")
    (folder / f"{'ü' * 124}.csv").write_text("no table")
    (folder / "new\nline.csv").write_text(table.replace("T02", "T03"))
    taken = list(ingest_pending(store, CITY, time.time() + LATER))
    assert [one.refused == "" for one in taken].count(True) == 4
    assert [*store.flow.read(CITY)["time"].values] == [START + n * HOUR for n in range(4)]
    assert waiting(CITY, time.time() + LATER) == []
    assert len(names("done")) == 4 and len(names("refused")) == 4


class Interrupted(BaseException):
    """What ends a process in the midst of its work."""


def test_a_file_of_which_every_reader_dies_is_refused_at_last_and_holds_nothing_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, read = dropped("a.h5"), inbox.ingest_file

    def dies(store: Store, city: City, path: Path, **options: bool) -> object:
        if path == bad:
            raise Interrupted
        return read(store, city, path, **options)

    monkeypatch.setattr(inbox, "ingest_file", dies)
    dropped("b.h5", hour=1)
    deaths = 0
    for _ in range(inbox.MAX_ATTEMPTS + 1):
        try:
            list(ingest_pending(store, CITY, time.time() + LATER))
        except Interrupted:
            deaths += 1
        if deaths == inbox.ATTEMPTS_TO_DEFER + 1:  # since then the others come first
            assert [*store.flow.read(CITY)["time"].values] == [START + HOUR]
    assert deaths == inbox.MAX_ATTEMPTS
    assert names("refused") == ["a.h5", "a.h5.reason.txt"]
    assert "processes ended while they read it" in [*store.ingests.table(CITY)["message"]][-1]


def test_a_file_that_cannot_be_moved_is_taken_once_and_the_others_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, move = dropped("a.h5", value=1.0), inbox._move

    def fails(path: Path, target: Path) -> None:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted")
        move(path, target)

    dropped("b.h5", value=2.0)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_move", fails)
        for _ in range(2):
            with pytest.raises(FlowcastError, match=r"a\.h5 was ingested, but cannot be moved"):
                list(ingest_pending(store, CITY, time.time() + LATER))
    # The newer file's values stay, and the ledger does not grow with each look.
    assert (store.flow.read(CITY).values == 2).all()
    assert len(store.ingests.table(CITY)) == 2
    assert list(ingest_pending(store, CITY, time.time() + LATER)) == []
    assert names("done") == ["a.h5", "b.h5"]


def test_a_disk_that_is_full_refuses_no_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped("a.h5")
    full = Path(tempfile.mkdtemp(dir="/dev/shm"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", full], check=False)
    if not full.is_mount():
        pytest.skip("a small disk can be mounted by root alone")
    try:
        (full / "filler").write_bytes(bytes(4096))
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(full))
            for _ in range(inbox.MAX_ATTEMPTS + 2):
                with pytest.raises(FlowcastError, match=r"no space is left in .* to read"):
                    list(ingest_pending(store, CITY, time.time() + LATER))
    finally:
        subprocess.run(["umount", full], check=True)
        full.rmdir()
    assert [one.refused for one in ingest_pending(store, CITY, time.time() + LATER)] == [""]


@pytest.mark.parametrize("name", ["TERM", "INT", "KILL", "HUP"])
def test_a_reader_that_is_ended_from_outside_refuses_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    dropped("a.h5")
    python = tmp_path / "python"  # as the child of a service that is stopped
    python.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    python.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        with pytest.raises(FlowcastError, match=f"ended from outside .SIG{name}."):
            list(ingest_pending(store, CITY, time.time() + LATER))
    assert [one.refused for one in ingest_pending(store, CITY, time.time() + LATER)] == [""]


def test_done_may_lie_on_another_disk(store: Store) -> None:
    path = dropped("a.h5")
    other = Path(tempfile.mkdtemp(dir="/dev/shm"))
    if other.stat().st_dev == path.stat().st_dev:
        pytest.skip("there is no other disk")
    (path.parent / "done").rmdir()
    (path.parent / "done").symlink_to(other)
    content = path.read_bytes()
    try:
        assert len(list(ingest_pending(store, CITY, time.time() + LATER))) == 1
        assert (other / "a.h5").read_bytes() == content and not path.exists()
    finally:
        shutil.rmtree(other)


def test_a_file_that_is_written_on_while_it_is_read_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = dropped("a.h5"), inbox.ingest_file

    def meanwhile(store: Store, city: City, path: Path, **options: bool) -> object:
        result = read(store, city, path, **options)
        dropped("a.h5", hour=1)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "ingest_file", meanwhile)
        list(ingest_pending(store, CITY, time.time() + LATER))
    assert path.exists()
    list(ingest_pending(store, CITY, time.time() + LATER))
    assert store.flow.read(CITY).sizes["time"] == 2


def test_clocks_that_are_ahead_or_were_set_back_keep_no_file_waiting() -> None:
    path, day = dropped("a.h5"), 86_400
    os.utime(path, (time.time() + day, time.time() + day))  # by the clock of another host
    assert waiting(CITY, time.time()) == []
    assert waiting(CITY, time.time() + LATER) == [path]
    assert waiting(CITY, time.time() - day) == [path]  # our own went back since


YORK = replace(CITY, name="york", timezone="America/New_York")


def slots_of(day: str, hours: int) -> np.ndarray:
    """The slots of a day in New York, whose standard time is five hours behind UTC."""
    begin = 5 if day in ("2016-03-13", "2016-01-05") else 4
    return np.datetime64(f"{day}T{begin:02}:00", "s") + np.arange(hours) * HOUR


def single(time: np.datetime64, value: float, city: City = YORK, suffix: str = ".h5") -> None:
    """Drops a file of one slot, older than those that are dropped after it."""
    flow = label(np.full((1, 2, 2, 3), value), np.array([time]), city)
    path = inbox.open_inbox(city) / f"{time}{suffix}"
    write_taxibj(path, flow.values, flow["time"].values, city)


@pytest.mark.parametrize(
    ("day", "hours", "at_once"),
    [("2016-11-06", 25, True), ("2016-11-06", 25, False), ("2016-03-13", 23, False)],
)
def test_a_feed_of_single_slots_loses_none_on_a_day_when_clocks_are_moved(
    store: Store, day: str, hours: int, at_once: bool
) -> None:
    times = slots_of(day, hours)[: hours - 16]  # until the morning
    for number, time_ in enumerate(times):
        single(time_, number + 1.0)
        if not at_once:
            list(ingest_pending(store, YORK, time.time() + LATER))
    list(ingest_pending(store, YORK, time.time() + LATER))
    flow = store.flow.read(YORK)
    assert [*flow["time"].values] == [*times]
    assert [*flow.values[:, 0, 0, 0]] == [n + 1.0 for n in range(len(times))]
    assert store.flow.revisions(YORK).empty
    for number, time_ in enumerate(times):  # all once more, as after a kill: nothing changes
        single(time_, number + 1.0)
        list(ingest_pending(store, YORK, time.time() + LATER))
    assert store.flow.read(YORK).identical(flow)


def test_half_hours_of_one_pass_stay_together(store: Store) -> None:
    city = replace(YORK, step=HOUR // 2)
    first = np.datetime64("2016-11-06T05:00", "s")  # 01:00, for the first time
    for start, value in ((0, 1.0), (2, 2.0)):
        times = first + (start + np.arange(2)) * city.step
        flow = label(np.full((2, 2, 2, 3), value), times, city)
        write_taxibj(inbox.open_inbox(city) / f"{value}.h5", flow.values, times, city)
        list(ingest_pending(store, city, time.time() + LATER))
    assert [*store.flow.read(city)["time"].values] == [first + n * city.step for n in range(4)]
    assert [*store.flow.read(city).values[:, 0, 0, 0]] == [1, 1, 2, 2]


def test_a_correction_of_the_repeated_hour_needs_an_offset(store: Store) -> None:
    times = slots_of("2016-11-06", 25)
    for number in (1, 2):
        single(times[number], float(number))
        list(ingest_pending(store, YORK, time.time() + LATER))
    single(times[1], 7.0)
    refused = next(ingest_pending(store, YORK, time.time() + LATER)).refused
    assert "2016-11-06 01:00, which is ambiguous in America/New_York" in refused
    assert "2016-11-06T05:00:00Z" in refused
    rows = "".join(f"2016-11-06T01:00-04:00,{y},{x},7,7\n" for y in range(2) for x in range(3))
    path = inbox.open_inbox(YORK) / "a.csv"
    path.write_text(f"time,y,x,inflow,outflow\n{rows}")
    assert next(ingest_pending(store, YORK, time.time() + LATER)).added.replaced == 1
    assert [*store.flow.read(YORK).values[:, 0, 0, 0]] == [7, 2]


def test_a_day_that_shows_the_hour_once_is_corrected_as_a_whole(store: Store) -> None:
    times = np.delete(slots_of("2016-11-06", 25), 2)
    for value in (1.0, 2.0):
        flow = label(np.full((24, 2, 2, 3), value), times, YORK)
        write_taxibj(inbox.open_inbox(YORK) / "a.h5", flow.values, times, YORK)
        list(ingest_pending(store, YORK, time.time() + LATER))
    assert [*store.flow.read(YORK)["time"].values] == [*times]
    assert (store.flow.read(YORK).values == 2).all()


def test_a_corrected_slot_replaces_the_stored_one(store: Store) -> None:
    for value in (1.0, 2.0):
        dropped("a.h5", value=value)
        list(ingest_pending(store, CITY, time.time() + LATER))
    assert (store.flow.read(CITY).values == 2).all()
    assert len(store.flow.revisions(CITY)) == 1


def test_one_that_died_before_putting_away_loses_and_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped("a.h5")
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_move_away", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(ingest_pending(store, CITY, time.time() + LATER))
    again = list(ingest_pending(store, CITY, time.time() + LATER))
    assert [one.added.equal for one in again] == [1]
    assert names("done") == ["a.h5"]
    assert store.flow.read(CITY).sizes["time"] == 1


def test_files_of_the_users_own_city_go_to_its_own_inbox(small_home: Path) -> None:
    assert inbox.open_inbox(load_city("small")) == small_home / "inbox" / "small"


def test_a_file_that_is_written_on_after_it_was_taken_in_is_taken_once_more(store: Store) -> None:
    rows = [
        "".join(f"2026-01-01T0{hour}:00,{y},{x},1,1\n" for y in range(2) for x in range(3))
        for hour in (0, 1)
    ]
    path = inbox.open_inbox(CITY) / "slow.csv"
    with path.open("w") as line:  # over a line that stalls
        line.write("time,y,x,inflow,outflow\n" + rows[0])
        line.flush()
        assert len(list(ingest_pending(store, CITY, time.time() + LATER))) == 1
        assert names("done") == ["slow.csv"]
        line.write(rows[1])
    (taken,) = ingest_pending(store, CITY, time.time() + LATER)
    assert (taken.added.added, taken.added.equal) == (1, 1)
    assert store.flow.read(CITY).sizes["time"] == 2
    assert names("done") == ["slow.csv"]
    assert not list(ingest_pending(store, CITY, time.time() + LATER))


def test_a_file_that_was_only_touched_undoes_no_correction(store: Store) -> None:
    dropped("a.h5")
    list(ingest_pending(store, CITY, time.time() + LATER))
    correction = store.flow.read(CITY) * 2
    write_taxibj(
        inbox.open_inbox(CITY) / "b.h5", correction.values, correction["time"].values, CITY
    )
    list(ingest_pending(store, CITY, time.time() + LATER))
    away = inbox.open_inbox(CITY) / "done" / "a.h5"
    os.utime(away, (5, 5))
    assert inbox.pending(CITY, time.time() + LATER)  # somebody must look at it
    assert not list(ingest_pending(store, CITY, time.time() + LATER))
    np.testing.assert_array_equal(store.flow.read(CITY).values, correction.values)
    assert not inbox.pending(CITY, time.time() + LATER)
    assert names("done") == ["a.h5", "b.h5"]


def test_a_refused_file_that_was_not_whole_is_taken_in_at_last(store: Store) -> None:
    whole = "".join(f"2026-01-01T00:00,{y},{x},1,1\n" for y in range(2) for x in range(3))
    path = inbox.open_inbox(CITY) / "slow.csv"
    with path.open("w") as line:
        line.write("time,y,x,inflow,outflow\n" + whole[: len(whole) // 2])
        line.flush()
        (taken,) = ingest_pending(store, CITY, time.time() + LATER)
        assert taken.refused
        line.write(whole[len(whole) // 2 :])
    (taken,) = ingest_pending(store, CITY, time.time() + LATER)
    assert not taken.refused
    assert (names("done"), names("refused")) == (["slow.csv"], [])


def test_slots_that_are_still_to_come_are_not_taken_in(store: Store) -> None:
    # Ten minutes from now on, for clocks of others may be ahead by five.
    hour = np.datetime64((int(time.time()) + 600) // 3600 * 3600, "s")
    for name, ahead in (("next.h5", 1), ("soon.h5", 5), ("never.h5", 24 * 365)):
        flow = label(np.ones((1, 2, 2, 3)), hour + np.array([ahead]) * HOUR, CITY)
        write_taxibj(inbox.open_inbox(CITY) / name, flow.values, flow["time"].values, CITY)
    with pytest.raises(FlowcastError, match="check the clock of this host"):
        list(ingest_pending(store, CITY, time.time() + LATER))
    assert store.flow.span(CITY) is None
    assert names("refused") == ["never.h5", "never.h5.reason.txt"]
    assert (
        "in the future; correct the dates"
        in (inbox.open_inbox(CITY) / "refused" / "never.h5.reason.txt").read_text()
    )
    assert (inbox.open_inbox(CITY) / "soon.h5").exists()
    assert (inbox.open_inbox(CITY) / "next.h5").exists()


def test_a_table_of_flow_without_a_column_is_no_weather(store: Store) -> None:
    (inbox.open_inbox(CITY) / "a.csv").write_text("time,y,x,inflow\n2026-01-01T00:00,0,0,1\n")
    (taken,) = ingest_pending(store, CITY, time.time() + LATER)
    assert "outflow" in taken.refused
