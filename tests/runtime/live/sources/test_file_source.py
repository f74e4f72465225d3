"""Real files in place of a camera."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.live.pixels import pixels
from mien.runtime.live.sources.file import FileDevice
from mien.runtime.live.sources.source import Source, open_source
from mien.runtime.video import read_frames
from tests.runtime.live.stand_ins import PATIENCE_S, wait_until


def taken(source: Source, count: int) -> list[int]:
    """Indices of `count` frames, each newer than the one before."""
    indices = [-1]
    while len(indices) <= count:
        captured = source.newest(indices[-1], PATIENCE_S)
        assert captured is not None, source.message
        assert captured.frame.time_s == pytest.approx(captured.captured_s, abs=1e-5)
        indices.append(captured.index)
    return indices[1:]


def bright_column(index: int, width: int, height: int) -> np.ndarray:
    """Black, with the column of its number bright."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, 16 * index : 16 * index + 16] = 255
    return picture


def test_a_clip_gives_all_its_frames_in_order_over_and_over(clip: Callable[..., Path]) -> None:
    path = clip(frames=6, rate=Fraction(50), size_wh=(96, 64), picture=bright_column)
    device = FileDevice(path)
    shown = []
    for _ in range(15):
        luma = device.read().frame.planes[0].samples
        shown.append(int(luma.mean(0).argmax()) // 16)
    assert shown == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2]
    device.close()


def test_a_clip_is_a_camera_that_says_what_it_gives(clip: Callable[..., Path]) -> None:
    source = open_source(str(clip(frames=5, rate=Fraction(50), size_wh=(160, 120))))
    facts = source.facts
    assert (facts.name, facts.size_wh, facts.rate) == ("in.mp4", (160, 120), Fraction(50))
    assert (facts.pixel_format, facts.asked) == ("yuv420p", "")
    indices = taken(source, 12)  # more than the clip has
    assert indices == sorted(set(indices))
    assert source.message is None
    source.close()


def test_a_paused_clip_gives_nothing_and_goes_on_later(clip: Callable[..., Path]) -> None:
    source = open_source(str(clip(frames=5, rate=Fraction(50))))
    source.pause()
    wait_until(lambda: source.newest(-1, 0) is None)
    assert source.message is None
    source.resume()
    assert len(taken(source, 6)) == 6
    source.close()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_picture_is_a_camera_at_thirty_hertz(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"portrait{suffix}"
    assert cv2.imwrite(str(path), np.full((48, 64, 3), (50, 100, 200), np.uint8))
    source = open_source(str(path))
    assert source.facts.rate == Fraction(30)
    assert len(taken(source, 4)) == 4
    captured = source.newest(-1, PATIENCE_S)
    assert captured is not None
    assert np.abs(pixels(captured.frame)[20, 20].astype(int) - (200, 100, 50)).max() <= 8
    source.close()


@pytest.mark.parametrize("rotation", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_or_mirrored_clip_is_given_as_it_is_shown(
    clip: Callable[..., Path], rotation: int, mirrored: bool
) -> None:
    stored, size_wh = clip("stored.mov", frames=1, size_wh=(160, 96)), (160, 96)
    path = clip("shown.mov", frames=1, size_wh=size_wh, rotation=rotation, mirrored=mirrored)
    source = open_source(str(path))
    captured = source.newest(-1, PATIENCE_S)
    assert captured is not None
    frame = captured.frame
    assert (frame.width, frame.height) == source.facts.size_wh == (160, 96)[:: 1 - rotation % 2 * 2]
    assert (frame.rotation, frame.mirrored) == (0, False)
    shown = np.rot90(next(read_frames(stored)).planes[0].samples, -rotation)
    shown = shown[:, ::-1] if mirrored else shown
    np.testing.assert_array_equal(frame.planes[0].samples, shown)
    source.close()


def test_a_ten_bit_clip_is_given_in_eight_bits(clip: Callable[..., Path]) -> None:
    path = clip(frames=4, pixel_format="yuv420p10le")
    device = FileDevice(path)
    assert device.read().frame.layout.depth == 8
    device.close()


def test_frames_without_sensible_times_are_paced_all_the_same(clip: Callable[..., Path]) -> None:
    base = Fraction(1, 1000)
    path = clip("gap.mkv", frames=4, time_base=base, pts=[0, 20, 60_020, 60_040])
    device = FileDevice(path)
    for _ in range(8):  # a minute's gap is not waited for
        device.read()
    device.close()


def test_files_that_are_no_video_are_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video at all")
    for what in (str(tmp_path / "missing.mp4"), str(tmp_path), str(text)):
        with pytest.raises(VideoError) as caught:
            open_source(what)
        assert "\n" not in str(caught.value)


def test_a_file_that_vanishes_while_it_plays_is_reported(clip: Callable[..., Path]) -> None:
    path = clip(frames=3, rate=Fraction(50))
    source = open_source(str(path))
    path.rename(path.with_name("away.mp4"))
    wait_until(lambda: source.message)
    assert "does not exist" in (source.message or "")
    before = source.newest(-1, 0)
    assert before is not None
    path.with_name("away.mp4").rename(path)
    after = source.newest(before.index, PATIENCE_S)
    assert after is not None
    assert source.message is None
    source.close()


@pytest.mark.parametrize(
    ("room_wh", "size_wh"),
    [((320, 320), (320, 192)), ((80, 200), (80, 48)), ((160, 96), (160, 96))],
)
def test_a_file_is_scaled_into_the_size_that_is_asked_for(
    clip: Callable[..., Path], room_wh: tuple[int, int], size_wh: tuple[int, int]
) -> None:
    path = clip("turned.mov", frames=3, size_wh=(96, 160), rotation=1)
    device, plain = FileDevice(path, room_wh), FileDevice(path)
    frame, own = device.read().frame, plain.read().frame
    device.close()
    plain.close()
    assert device.facts.size_wh == (frame.width, frame.height) == size_wh
    assert frame.planes[0].samples.shape == size_wh[::-1]
    assert frame.layout == own.layout
    assert abs(float(frame.planes[0].samples.mean()) - float(own.planes[0].samples.mean())) < 2
