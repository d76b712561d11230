import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.errors import FlowcastError
from data.video.kth import open_kth

av = pytest.importorskip("av")

Encode = Callable[..., Path]

LIST = """Training:   person11, 12, 13\r
person01_boxing_d1\t\tframes\t1-4, 3-6, 8-10\r
person02_walking_d4    \tframes\t7-9, 1-2\r
person13_handclapping_d3\t*missing*\r
person17_jogging_d2 frames 1-5\r
"""


def frames(brightness: int, count: int = 10) -> np.ndarray:
    """Frames of one gray each: frame 1 is `brightness` + 1, frame 2 is `brightness` + 2."""
    values = np.arange(brightness + 1, brightness + count + 1, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None], (count, 12, 16))


@pytest.fixture
def folder(tmp_path: Path, encode: Encode) -> Path:
    """Three clips, spread over folders as the six archives may be."""
    folder = tmp_path / "kth"
    encode(folder / "boxing" / "person01_boxing_d1_uncomp.avi", frames(0))
    encode(folder / "walking" / "far" / "person02_walking_d4_uncomp.avi", frames(100))
    encode(folder / "person17_jogging_d2.avi", frames(200))
    (folder / "sequences.txt").write_bytes(LIST.encode())
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def grays(clips_frames: np.ndarray) -> list[int]:
    """The gray of each frame, which is the same everywhere in it."""
    assert (clips_frames == clips_frames[:, :, :1, :1]).all()
    return clips_frames[:, 0, 0, 0].tolist()


def test_each_span_is_a_clip_in_the_part_of_its_person(folder: Path, cache: Path) -> None:
    kth = open_kth(folder, cache, size=(8, 8))
    assert kth.train.frames.shape == (16, 1, 8, 8)
    assert kth.train.names == (
        "person01_boxing_d1 1-4",
        "person01_boxing_d1 3-6",
        "person01_boxing_d1 8-10",
        "person02_walking_d4 7-9",
        "person02_walking_d4 1-2",
    )
    assert kth.train.bounds == ((0, 4), (4, 8), (8, 11), (11, 14), (14, 16))
    expected = [1, 2, 3, 4, 3, 4, 5, 6, 8, 9, 10, 107, 108, 109, 101, 102]
    assert grays(kth.train.frames) == expected
    assert grays(kth.test.frames) == [201, 202, 203, 204, 205]
    assert kth.train.skipped == kth.test.skipped == ()


def test_persons_can_be_named(folder: Path, cache: Path) -> None:
    kth = open_kth(folder, cache, (8, 8), train_persons=[17, 2], test_persons=[1])
    assert [name[:8] for name in kth.train.names] == ["person02", "person02", "person17"]
    assert [name[:8] for name in kth.test.names] == ["person01"] * 3


def test_a_second_opening_decodes_nothing_and_a_changed_folder_anew(
    folder: Path, cache: Path, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_kth(folder, cache, (8, 8))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "av", None)
        again = open_kth(folder, cache, (8, 8))
        np.testing.assert_array_equal(again.train.frames, first.train.frames)
        with pytest.raises(FlowcastError, match=r"pip install 'flowcast\[video\]'"):
            open_kth(folder, cache, (4, 4))
    path = encode(folder / "person17_jogging_d2.avi", frames(210))
    os.utime(path, ns=(0, 0))
    assert grays(open_kth(folder, cache, (8, 8)).test.frames) == [211, 212, 213, 214, 215]
    assert open_kth(folder, cache, (6, 4)).test.frames.shape == (5, 1, 6, 4)


def test_a_broken_clip_is_named_and_left_out(folder: Path, cache: Path) -> None:
    path = folder / "boxing" / "person01_boxing_d1_uncomp.avi"
    whole = path.read_bytes()
    for content in (b"", b"no video", whole[: len(whole) // 2]):
        path.write_bytes(content)
        train = open_kth(folder, cache, (8, 8)).train
        assert train.names == ("person02_walking_d4 7-9", "person02_walking_d4 1-2")
        (sentence,) = train.skipped
        assert sentence.startswith(f"person01_boxing_d1 is left out: {path} is no video, or dam")


def test_spans_beyond_the_film_are_cut_and_told(folder: Path, cache: Path) -> None:
    (folder / "sequences.txt").write_text(
        "person01_boxing_d1 frames 1-4, 8-12, 11-12, 6-5, 0-3\nperson17_jogging_d2 frames 2-3\n"
    )
    kth = open_kth(folder, cache, (8, 8))
    assert grays(kth.train.frames) == [1, 2, 3, 4, 8, 9, 10]
    assert kth.train.bounds == ((0, 4), (4, 7))
    path = folder / "boxing" / "person01_boxing_d1_uncomp.avi"
    assert kth.train.skipped == (
        f"person01_boxing_d1 8-12 is not all there: {path} has 10 frames",
        f"person01_boxing_d1 11-12 is not all there: {path} has 10 frames",
        "person01_boxing_d1 6-5 is left out: it has no frame",
        "person01_boxing_d1 0-3 is left out: it has no frame",
        "person02_walking_d4 is not in sequences.txt",
    )


def test_a_missing_or_empty_folder_says_what_to_get_where_to_put_it_and_how(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(
            FlowcastError, match=r"https://www\.csc\.kth\.se/.*boxing\.zip"
        ) as refusal:
            open_kth(folder, cache)
        assert str(folder) in str(refusal.value)
        assert "00sequences.txt" in str(refusal.value)
    assert not cache.exists()


def test_a_missing_or_other_list_says_what_to_get(folder: Path, cache: Path) -> None:
    path = folder / "sequences.txt"
    path.rename(folder / "00sequences.txt")
    assert len(open_kth(folder, cache, (8, 8)).test.names) == 1
    (folder / "00sequences.txt").unlink()
    with pytest.raises(
        FlowcastError, match=r"has no sequences\.txt; get 00sequences\.txt from http"
    ):
        open_kth(folder, cache)
    for content in (b"", b"\x00\xff\xfe" * 50, b"person01_boxing_d1 *missing*\n"):
        path.write_bytes(content)
        with pytest.raises(FlowcastError, match="has no line such as 'person01_boxing_d1 frames"):
            open_kth(folder, cache)


def test_a_part_without_persons_says_to_name_others(folder: Path, cache: Path) -> None:
    sentence = r"clips of the persons 1, 2, 17 and of none of those for test \(18, 19\); name other"
    with pytest.raises(FlowcastError, match=sentence):
        open_kth(folder, cache, (8, 8), test_persons=[18, 19])
    with pytest.raises(FlowcastError, match=r"none of those for train \(nobody\)"):
        open_kth(folder, cache, (8, 8), train_persons=[])


def test_no_person_is_in_both_parts(folder: Path, cache: Path) -> None:
    with pytest.raises(FlowcastError, match="person 2 is among those for training and those for t"):
        open_kth(folder, cache, train_persons=[1, 2], test_persons=[2, 17])


def test_a_part_of_broken_clips_only_is_one_sentence(folder: Path, cache: Path) -> None:
    (folder / "person17_jogging_d2.avi").write_bytes(b"")
    with pytest.raises(FlowcastError, match="no clip could be read; the first of 1: person17_jogg"):
        open_kth(folder, cache, (8, 8))


@pytest.fixture
def real_kth(real_data: Path) -> Path:
    if not (real_data / "kth" / "sequences.txt").is_file():
        pytest.skip(f"no KTH clips in {real_data / 'kth'}")
    return real_data / "kth"


def test_real_clips_are_cut_at_the_published_spans(real_kth: Path, cache: Path) -> None:
    kth = open_kth(real_kth, cache, train_persons=[1], test_persons=[4])
    lengths = [stop - start for start, stop in kth.train.bounds]
    assert lengths == [95, 90, 60, 115, 75, 74, 76, 76]  # 1-95, 96-185, 186-245, 246-360; 1-75, ...
    assert [stop - start for start, stop in kth.test.bounds] == [35, 41, 39, 41]
    assert kth.train.skipped == kth.test.skipped == ()
    with av.open(real_kth / "person01_walking_d1.avi") as container:
        luma = [frame.to_ndarray()[:120].mean() for frame in container.decode(video=0)]
    clip = kth.train.frames[slice(*kth.train.bounds[-2])]  # 325-400, counted from 1
    expected = (np.array(luma[324:400]) - 16) * 255 / 219
    np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), expected, atol=0.5)


def test_the_published_list_is_read_whole(real_kth: Path, tmp_path: Path, encode: Encode) -> None:
    folder = tmp_path / "kth"
    names = [
        f"person{person:02d}_{action}_d{scene}"
        for person in range(1, 26)
        for action in ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
        for scene in range(1, 5)
    ]
    film = encode(folder / f"{names[0]}_uncomp.avi", frames(0, 2))
    for name in names[1:]:
        shutil.copy(film, folder / f"{name}_uncomp.avi")
    shutil.copy(real_kth / "sequences.txt", folder)
    kth = open_kth(folder, tmp_path / "cache", (4, 4))
    told = (*kth.train.names, *kth.test.names, *kth.train.skipped, *kth.test.skipped)
    spans = {tuple(sentence.split()[:2]) for sentence in told if sentence.split()[1] != "is"}
    assert len({name for name, _ in spans}) == 599
    assert len(spans) == 594 * 4 + 5 * 3
    assert [s for s in told if "not in" in s] == [
        "person13_handclapping_d3 is not in sequences.txt"
    ]
