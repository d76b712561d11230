import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.errors import FlowcastError
from data.video.decode import Limits, decode

av = pytest.importorskip("av")

Encode = Callable[..., Path]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_gray_frames_come_as_they_were_written(tmp_path: Path, encode: Encode) -> None:
    frames = noise(7, 12, 20)
    decoded = decode(encode(tmp_path / "a.avi", frames), (12, 20), 1)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, frames[:, np.newaxis])


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.avi"])
def test_coloured_frames_come_as_they_were_written(
    tmp_path: Path, encode: Encode, name: str
) -> None:
    frames = noise(5, 16, 24, 3)
    path = encode(tmp_path / name, frames, "rgb24", "libx264rgb", qp="0")
    np.testing.assert_array_equal(decode(path, (16, 24), 3), frames.transpose(0, 3, 1, 2))


def test_gray_is_luma_in_its_full_range(tmp_path: Path, encode: Encode) -> None:
    frames = np.full((3, 24, 16), 128, dtype=np.uint8)  # yuv420p: 16 rows of luma, then colors
    for frame, luma in zip(frames, (16, 126, 235), strict=True):  # black, middle, white of BT.601
        frame[:16] = luma
    decoded = decode(encode(tmp_path / "a.avi", frames, "yuv420p"), (16, 16), 1)
    assert [np.unique(frame).tolist() for frame in decoded] == [[0], [128], [255]]
    colored = decode(tmp_path / "a.avi", (16, 16), 3).astype(int)
    assert np.abs(colored - decoded).max() <= 1


def test_a_smaller_frame_has_the_means_of_the_areas(tmp_path: Path, encode: Encode) -> None:
    frames = noise(4, 32, 48)
    decoded = decode(encode(tmp_path / "a.avi", frames), (16, 12), 1)
    means = frames.reshape(4, 16, 2, 12, 4).mean(axis=(2, 4))
    assert np.abs(decoded[:, 0] - means).max() <= 1


def test_a_larger_frame_stays_within_the_values_of_the_smaller(
    tmp_path: Path, encode: Encode
) -> None:
    frames = np.where(noise(2, 15, 20) > 127, 200, 50).astype(np.uint8)
    decoded = decode(encode(tmp_path / "a.avi", frames), (32, 40), 1)
    assert decoded.shape == (2, 1, 32, 40)
    assert 50 <= decoded.min() < decoded.max() <= 200


def test_of_every_third_frame_the_middle_half(tmp_path: Path, encode: Encode) -> None:
    frames = noise(8, 16, 24, 3)
    path = encode(tmp_path / "a.avi", frames, "rgb24", "libx264rgb", qp="0")
    decoded = decode(path, (8, 12), 3, every=3, middle=0.5)
    np.testing.assert_array_equal(decoded, frames[::3, 4:12, 6:18].transpose(0, 3, 1, 2))


def test_a_file_that_is_no_video_is_one_sentence_with_its_name(
    tmp_path: Path, encode: Encode
) -> None:
    path = tmp_path / "a.avi"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{encode(tmp_path / 'b.avi', noise(3, 8, 8))}\n"
    rubbish = noise(5000).tobytes()
    for content in (
        b"",
        b"no video",
        rubbish,
        b"RIFF\x00\x10\x00\x00AVI " + rubbish,
        playlist.encode(),
    ):
        path.write_bytes(content)
        with pytest.raises(FlowcastError, match=r"a\.avi is no video, or damaged \(.*get it anew"):
            decode(path, (8, 8), 1)
    with pytest.raises(FlowcastError, match=r"c\.avi is no video, or damaged \(No such file"):
        decode(tmp_path / "c.avi", (8, 8), 1)
    with pytest.raises(FlowcastError, match="is no video, or damaged"):
        decode(tmp_path, (8, 8), 1)


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_video_that_breaks_off_is_refused(
    tmp_path: Path, encode: Encode, name: str, part: float
) -> None:
    path = encode(tmp_path / name, noise(40, 32, 32, 3), "rgb24", "libx264rgb", qp="0")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FlowcastError, match=f"{name} is no video, or damaged"):
        decode(path, (32, 32), 3)


def test_a_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(FlowcastError, match="it has no pictures"):
        decode(path, (8, 8), 1)


def test_a_video_that_costs_too_much_is_refused(tmp_path: Path, encode: Encode) -> None:
    path = encode(tmp_path / "a.avi", noise(10, 16, 16))
    assert len(decode(path, (8, 8), 1, limits=Limits(frames=10))) == 10
    assert len(decode(path, (8, 8), 1, limits=Limits(bytes=640))) == 10
    with pytest.raises(FlowcastError, match="more than the 9 frames of 8 x 8"):
        decode(path, (8, 8), 1, limits=Limits(frames=9))
    with pytest.raises(FlowcastError, match="more than the 9 frames of 8 x 8"):
        decode(path, (8, 8), 1, limits=Limits(bytes=639))
    with pytest.raises(FlowcastError, match="its frames are 16 x 16"):
        decode(path, (8, 8), 1, limits=Limits(pixels=255))


def test_without_pyav_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FlowcastError, match=r"pip install 'flowcast\[video\]'"):
        decode(tmp_path / "a.avi", (8, 8), 1)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("person01_boxing_d1_uncomp.avi", 360),
        ("person01_walking_d1.avi", 555),
        ("person04_running_d1_uncomp.avi", 242),
    ],
)
def test_a_real_clip_has_the_frames_and_the_means_of_another_decoding(
    real_data: Path, name: str, frames: int
) -> None:
    path = real_data / "kth" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    with av.open(path) as container:
        luma = [frame.to_ndarray()[:120].mean() for frame in container.decode(video=0)]
    decoded = decode(path, (128, 128), 1)
    assert decoded.shape == (frames, 1, 128, 128)
    expected = (np.array(luma) - 16) * 255 / 219
    np.testing.assert_allclose(decoded.mean(axis=(1, 2, 3)), expected, atol=0.5)
