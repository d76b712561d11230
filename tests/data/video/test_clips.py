import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FlowcastError
from data.video.clips import Clip, Clips, cached_clips, fingerprint, starts

ROOT = Path(__file__).parents[3]


def clips_of(lengths: list[int]) -> Clips:
    edges = np.cumsum([0, *lengths]).tolist()
    frames = np.zeros((edges[-1], 1, 1, 1), dtype=np.uint8)
    return Clips(
        frames, tuple(pairwise(edges)), tuple(f"clip {number}" for number in range(len(lengths)))
    )


@given(st.lists(st.integers(1, 12), max_size=6), st.integers(1, 8), st.integers(1, 5))
def test_a_window_lies_within_one_clip_and_none_is_left_out(
    lengths: list[int], length: int, every: int
) -> None:
    owner = [number for number, frames in enumerate(lengths) for _ in range(frames)]
    expected = [
        start
        for start in range(len(owner))
        if len({*owner[start : start + length]}) == 1
        and start + length <= len(owner)
        and (start - owner.index(owner[start])) % every == 0
    ]
    found = starts(clips_of(lengths), length, every)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(("length", "every"), [(0, 1), (1, 0), (-1, 2)])
def test_windows_without_frames_are_refused(length: int, every: int) -> None:
    with pytest.raises(FlowcastError, match="choose 1 or more"):
        starts(clips_of([5]), length, every)


def film(length: int, value: int) -> np.ndarray:
    return np.full((length, 2, 3, 4), value, dtype=np.uint8)


def two_clips() -> list[Clip | str]:
    return [Clip("a", film(2, 7)), "b is broken", Clip("c", film(3, 9))]


def never() -> Iterator[Clip | str]:
    raise AssertionError("read again")
    yield


def is_two_clips(clips: Clips) -> bool:
    expected = np.concatenate([film(2, 7), film(3, 9)])
    return (
        np.array_equal(clips.frames, expected)
        and clips.frames.dtype == np.uint8
        and clips.bounds == ((0, 2), (2, 5))
        and clips.names == ("a", "c")
        and clips.skipped == ("b is broken",)
    )


def entry_of(place: Path) -> Path:
    (entry,) = place.parent.glob(f"{place.name}-*")
    return entry


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "films"


def test_clips_are_read_once_and_then_mapped_from_their_cache(place: Path) -> None:
    assert is_two_clips(cached_clips(place, {"size": 4}, two_clips))
    again = cached_clips(place, {"size": 4}, never)
    assert is_two_clips(again)
    assert isinstance(again.frames, np.memmap)
    again.frames[:] = 0
    assert is_two_clips(cached_clips(place, {"size": 4}, never))
    assert np.load(entry_of(place) / "frames.npy").shape == (5, 2, 3, 4)


def test_another_key_is_another_cache(place: Path) -> None:
    cached_clips(place, {"size": 4}, two_clips)
    other = cached_clips(place, {"size": 5}, lambda: [Clip("d", film(1, 1))])
    assert other.names == ("d",)
    assert is_two_clips(cached_clips(place, {"size": 4}, never))


def test_a_file_that_changes_changes_its_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "a.avi"
    file.write_bytes(b"123")
    os.utime(file, ns=(0, 5_000))
    assert fingerprint(tmp_path, [file]) == [("a.avi", 3, 5_000)]
    file.write_bytes(b"1234")
    assert fingerprint(tmp_path, [file])[0][1] == 4
    file.unlink()
    with pytest.raises(FlowcastError, match=r"a\.avi cannot be read"):
        fingerprint(tmp_path, [file])


def cut_off(entry: Path) -> None:
    os.truncate(entry / "frames.npy", (entry / "frames.npy").stat().st_size - 1)


def flip_a_bit(entry: Path) -> None:
    content = bytearray((entry / "frames.npy").read_bytes())
    content[-1] ^= 1
    (entry / "frames.npy").write_bytes(content)


def lose_the_frames(entry: Path) -> None:
    (entry / "frames.npy").unlink()


def lose_the_notes(entry: Path) -> None:
    (entry / "clips.json").unlink()


def spoil_the_notes(entry: Path) -> None:
    (entry / "clips.json").write_text("{'")


def notes_of_another_kind(entry: Path) -> None:
    (entry / "clips.json").write_text("[1, 2]")


def wrong_bounds(entry: Path) -> None:
    notes = json.loads((entry / "clips.json").read_text())
    (entry / "clips.json").write_text(json.dumps({**notes, "bounds": [[0, 2], [2, 6]]}))


def a_file_in_its_place(entry: Path) -> None:
    lose_the_frames(entry)
    lose_the_notes(entry)
    entry.rmdir()
    entry.write_text("no folder")


@pytest.mark.parametrize(
    "harm",
    [
        cut_off,
        flip_a_bit,
        lose_the_frames,
        lose_the_notes,
        spoil_the_notes,
        notes_of_another_kind,
        wrong_bounds,
        a_file_in_its_place,
    ],
)
def test_a_damaged_cache_is_made_anew(place: Path, harm: object) -> None:
    cached_clips(place, {}, two_clips)
    assert callable(harm)
    harm(entry_of(place))
    assert is_two_clips(cached_clips(place, {}, two_clips))
    assert is_two_clips(cached_clips(place, {}, never))


def test_no_clip_at_all_is_one_sentence_and_no_cache(place: Path) -> None:
    with pytest.raises(FlowcastError, match="the first of 2: a is broken"):
        cached_clips(place, {}, lambda: ["a is broken", "b too"])
    with pytest.raises(FlowcastError, match="there is none"):
        cached_clips(place, {}, lambda: [])
    assert not list(place.parent.glob("films-*"))
    assert not list(place.parent.glob(".films-*.part"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interruption_keeps_nothing(place: Path, error: type[BaseException]) -> None:
    def interrupted() -> Iterator[Clip | str]:
        yield Clip("a", film(2, 7))
        raise error

    with pytest.raises(error):
        cached_clips(place, {}, interrupted)
    assert not list(place.parent.glob("*films-*[!k]"))
    assert is_two_clips(cached_clips(place, {}, two_clips))


def test_a_full_disk_is_one_sentence_and_keeps_nothing(place: Path, small_files: None) -> None:
    big = Clip("big", np.zeros((300, 1, 32, 32), dtype=np.uint8))
    with pytest.raises(FlowcastError, match=r"films-\w+ cannot be written \(File too large\)"):
        cached_clips(place, {}, lambda: [big])
    assert not list(place.parent.glob("films-*"))
    assert not list(place.parent.glob(".films-*.part"))


def test_a_cache_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FlowcastError, match="cannot be made"):
        cached_clips(tmp_path / "file" / "films", {}, two_clips)


def test_more_than_the_memory_holds_can_be_cached(place: Path) -> None:
    one = 2**20
    tracemalloc.start()
    cached_clips(
        place, {}, lambda: (Clip(str(n), np.full((1, 1, 1, one), n, np.uint8)) for n in range(64))
    )
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * one
    frames = cached_clips(place, {}, never).frames
    assert frames[:, 0, 0, -1].tolist() == list(range(64))


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from data.video.clips import Clip, cached_clips

def slowly():
    (Path(sys.argv[1]).parent / f"reads-{time.monotonic_ns()}").touch()
    for number in range(20):
        yield Clip(str(number), np.full((50, 1, 16, 16), number, np.uint8))
        time.sleep(float(sys.argv[2]))

clips = cached_clips(Path(sys.argv[1]) / "films", {}, slowly)
print(len(clips.names), int(clips.frames.sum()))
"""
SUM = 50 * 16 * 16 * sum(range(20))


def writer(folder: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def until_it_writes(folder: Path) -> None:
    for _ in range(600):
        if any(file.stat().st_size for file in folder.glob(".films-*.part/frames.npy")):
            return
        time.sleep(0.05)
    raise AssertionError("nothing was written")


def test_a_writer_that_is_killed_leaves_no_cache_and_the_next_clears_up(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    process = writer(folder, 5)
    until_it_writes(folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(folder.glob("films-*"))
    assert list(folder.glob(".films-*.part"))
    assert writer(folder, 0).communicate()[0] == f"20 {SUM}\n"
    assert not list(folder.glob(".films-*.part"))


def test_of_two_writers_one_reads_and_both_have_the_clips(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = writer(folder, 0.1)
    until_it_writes(folder)
    second = writer(folder, 0.1)
    assert first.communicate()[0] == second.communicate()[0] == f"20 {SUM}\n"
    assert len(list(tmp_path.glob("reads-*"))) == 1
    assert len(list(folder.glob("films-*"))) == 1
