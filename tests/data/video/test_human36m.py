import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import FlowcastError
from data.video.human36m import open_human36m

Encode = Callable[..., Path]


def draw(path: Path, red: int, side: int = 16) -> None:
    """An image of one color: `red`, 20, 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (red, 20, 255)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Films of S1 and S9, and others that are not asked for."""
    folder = tmp_path / "human"
    for number in (1, 2, 10):  # 10 comes after 2, though not by its letters
        draw(folder / "S1" / "Walking.54138969" / f"{2 * number}.png", number)
    for number in range(3):
        draw(folder / "S1" / "Walking 1.54138969" / f"{number:06d}.png", 30 + number)
        draw(folder / "S1" / "WalkingDog.54138969" / f"{number:06d}.png", 99)
        draw(folder / "S1" / "Eating.54138969" / f"{number:06d}.png", 99)
        draw(folder / "S9" / "Walking" / "54138969" / f"img_{number:06d}.png", 90 + number)
    (folder / "S9" / "Walking" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def reds(frames: np.ndarray) -> list[int]:
    """The red of each frame; its green is 20, its blue 255, the same everywhere."""
    assert (frames == frames[:, :, :1, :1]).all()
    assert (frames[:, 1] == 20).all()
    assert (frames[:, 2] == 255).all()
    return frames[:, 0, 0, 0].tolist()


def test_a_folder_of_images_is_a_clip_in_the_order_of_its_numbers(
    folder: Path, cache: Path
) -> None:
    draw(folder / "S1" / "Walking.54138969" / "6.png", 3)
    for number in range(8, 20, 2):
        draw(folder / "S1" / "Walking.54138969" / f"{number}.png", number // 2)
    human = open_human36m(folder, cache, (8, 8))
    assert human.train.names == ("S1/Walking 1.54138969", "S1/Walking.54138969")
    assert reds(human.train.frames) == [30, 31, 32, *range(1, 11)]
    assert human.train.bounds == ((0, 3), (3, 13))
    assert human.test.names == ("S9/Walking/54138969/img",)
    assert reds(human.test.frames) == [90, 91, 92]
    assert human.test.frames.dtype == np.uint8
    assert human.train.skipped == human.test.skipped == ()


def test_images_of_many_films_in_one_folder_are_told_apart_by_their_names(
    tmp_path: Path, cache: Path
) -> None:
    for number in (1, 6, 11, 16):  # as the archives at upenn: every fifth frame
        for red, film in enumerate(
            ("S1_Walking.54138969", "S1_Walking_1.60457274", "S11_Walking.54138969", "S1_WalkDog.5")
        ):
            draw(tmp_path / "human" / "images" / f"{film}_{number:06d}.png", 50 * red + number)
    human = open_human36m(tmp_path / "human", cache, (8, 8))
    assert human.train.names == ("images/S1_Walking.54138969", "images/S1_Walking_1.60457274")
    assert reds(human.train.frames) == [1, 6, 11, 16, 51, 56, 61, 66]
    assert human.test.names == ("images/S11_Walking.54138969",)
    assert reds(human.test.frames) == [101, 106, 111, 116]


def test_a_clip_ends_where_an_image_is_missing(tmp_path: Path, cache: Path) -> None:
    for number in (1, 6, 11, 21, 26, 36):
        draw(tmp_path / "human" / "S1" / "Walking" / f"{number:06d}.png", number)
        draw(tmp_path / "human" / "S9" / "Walking" / f"{number:06d}.png", number)
    train = open_human36m(tmp_path / "human", cache, (8, 8)).train
    assert train.names == (
        "S1/Walking 000001-000011",
        "S1/Walking 000021-000026",
        "S1/Walking 000036-000036",
    )
    assert train.bounds == ((0, 3), (3, 5), (5, 6))
    assert reds(train.frames) == [1, 6, 11, 21, 26, 36]


def test_of_videos_every_fifth_frame_is_kept(folder: Path, cache: Path, encode: Encode) -> None:
    frames = np.zeros((12, 16, 16, 3), dtype=np.uint8)
    frames[:] = (0, 20, 255)
    frames[..., 0] = np.arange(12)[:, None, None]
    for name in ("Walking 1.60457274", "Walking.60457274", "WalkTogether.60457274"):
        path = folder / "S11" / "Videos" / f"{name}.mp4"
        encode(path, frames, "rgb24", "libx264rgb", qp="0")
    human = open_human36m(folder, cache, (8, 8), test_subjects=["S11"])
    assert human.test.names == ("S11/Videos/Walking 1.60457274", "S11/Videos/Walking.60457274")
    assert reds(human.test.frames) == [0, 5, 10, 0, 5, 10]
    all_frames = open_human36m(folder, cache, (8, 8), test_subjects=["S11"], every=1).test
    assert reds(all_frames.frames) == [*range(12), *range(12)]


def test_another_scenario_and_other_subjects_can_be_named(folder: Path, cache: Path) -> None:
    draw(folder / "S5" / "Eating_2.5" / "1.png", 7)
    human = open_human36m(folder, cache, (8, 8), ["S5"], ["S1"], "Eating")
    assert human.train.names == ("S5/Eating_2.5",)
    assert reds(human.train.frames) == [7]
    assert reds(human.test.frames) == [99, 99, 99]


def test_a_smaller_frame_has_the_means_of_the_areas_of_its_middle(
    tmp_path: Path, cache: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for subject in ("S1", "S9"):
        path = tmp_path / "human" / subject / "Walking" / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)

    def means(part: np.ndarray) -> np.ndarray:
        side = len(part) // 8
        return part.reshape(8, side, 8, side, 3).mean(axis=(1, 3)).transpose(2, 0, 1)

    whole = open_human36m(tmp_path / "human", cache, (8, 8)).train.frames[0]
    assert np.abs(whole - means(pixels)).max() <= 1
    half = open_human36m(tmp_path / "human", cache, (8, 8), middle=0.5).train.frames[0]
    assert np.abs(half - means(pixels[8:24, 8:24])).max() <= 1


def test_images_smaller_than_asked_and_of_any_kind_become_coloured_frames(
    folder: Path, cache: Path
) -> None:
    for number, kind in enumerate(("L", "RGBA", "P", "1", "CMYK"), 1):
        suffix = "jpg" if kind == "CMYK" else "png"
        path = folder / "S5" / f"Walking.{number}" / f"1.{suffix}"
        path.parent.mkdir(parents=True)
        Image.new("L", (5, 4), 255).convert("RGB").convert(kind).save(path)
    train = open_human36m(folder, cache, (8, 16), ["S5"]).train
    assert train.frames.shape == (5, 3, 8, 16)
    assert train.frames.min() >= 250


def test_a_broken_clip_is_named_and_left_out(folder: Path, cache: Path, encode: Encode) -> None:
    image = folder / "S1" / "Walking 1.54138969" / "000001.png"
    whole = image.read_bytes()
    video = folder / "S5" / "Videos" / "Walking.1.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"no video")
    for content in (b"", b"no image", whole[: len(whole) // 2], b"GIF89a" + whole):
        image.write_bytes(content)
        train = open_human36m(folder, cache, (8, 8)).train
        assert {name.split("/")[1].split()[0] for name in train.names} == {"Walking.54138969"}
        first, second = train.skipped
        assert first.startswith(f"S1/Walking 1.54138969 is left out: {image} is no image, or dam")
        assert second.startswith(f"S5/Videos/Walking.1 is left out: {video} is no video, or dam")


def test_images_need_no_pyav_and_videos_say_what_to_install(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(open_human36m(folder, cache, (8, 8)).test.names) == 1
    (folder / "S9" / "Videos").mkdir()
    (folder / "S9" / "Videos" / "Walking.1.mp4").write_bytes(b"")
    with pytest.raises(FlowcastError, match=r"pip install 'flowcast\[video\]'"):
        open_human36m(folder, cache, (8, 8))


def test_a_missing_or_empty_folder_says_what_to_get_where_to_put_it_and_how(
    tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        sentence = (
            r"no film of Walking; ask for Human3\.6M at http.*S1/Walking\.54138969/000001\.jpg"
        )
        with pytest.raises(FlowcastError, match=sentence) as refusal:
            open_human36m(folder, cache)
        assert str(folder) in str(refusal.value)
    assert not cache.exists()


def test_a_part_without_subjects_says_to_name_others(folder: Path, cache: Path) -> None:
    sentence = (
        r"films of Walking by S1, S9 and of none of the subjects for test \(S11\); name other"
    )
    with pytest.raises(FlowcastError, match=sentence):
        open_human36m(folder, cache, test_subjects=["S11"])
    with pytest.raises(FlowcastError, match="subject S1 is among those for training and those for"):
        open_human36m(folder, cache, test_subjects=["S1"])
