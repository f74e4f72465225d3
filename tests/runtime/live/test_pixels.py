"""Colours that are known, in every format that live frames come in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.pixels import converted, format_name, live_frame, picture_of, pixels, upright
from mien.runtime.video.planes import frame_from_av
from tests.runtime.live.stand_ins import yuv_frame

COLOUR = (200, 100, 50)


def picture_in(name: str, size_wh: tuple[int, int] = (64, 48)) -> av.VideoFrame:
    rgb = np.full((size_wh[1], size_wh[0], 3), COLOUR, np.uint8)
    return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name, threads=1)


@pytest.mark.parametrize(
    "name",
    ["yuv420p", "yuv422p", "yuv444p", "yuv440p", "nv12", "nv16", "nv24", "rgb24", "bgr24", "rgb0"],
)
def test_a_frame_keeps_its_format_and_its_colour(name: str) -> None:
    frame = live_frame(picture_in(name))
    assert format_name(frame) == name
    assert np.abs(pixels(frame)[20, 20].astype(int) - COLOUR).max() <= 3
    assert np.abs(pixels(frame, "bgr24")[20, 20, ::-1].astype(int) - COLOUR).max() <= 3


@pytest.mark.parametrize("name", ["yuv420p10le", "yuva420p", "gbrp", "gray"])
def test_unusual_formats_arrive_as_eight_bit_ones(name: str) -> None:
    frame = live_frame(picture_in(name))
    assert frame.layout.depth == 8
    shown = pixels(frame)[20, 20].astype(int)
    expected = (126, 126, 126) if name == "gray" else COLOUR
    assert np.abs(shown - expected).max() <= 12


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full", [False, True])
def test_range_and_matrix_are_those_of_the_frame(matrix: str, full: bool) -> None:
    made = yuv_frame(100)
    frame = replace(made, layout=PixelLayout("yuv", full_range=full, matrix=matrix))  # type: ignore[arg-type]
    luma = 100.0 if full else (100 - 16) * 255 / 219
    scale = 1.0 if full else 255 / 224
    cb, cr = (120 - 128) * scale, (140 - 128) * scale
    red_from_cr, blue_from_cb = (1.402, 1.772) if matrix == "bt601" else (1.5748, 1.8556)
    shown = pixels(frame)[20, 20].astype(float)
    assert shown[0] == pytest.approx(luma + red_from_cr * cr, abs=2)
    assert shown[2] == pytest.approx(luma + blue_from_cb * cb, abs=2)


def test_the_range_that_is_asked_for_is_made() -> None:
    white = replace(yuv_frame(255), layout=PixelLayout("yuv", full_range=True))
    assert converted(white, "yuv420p").to_ndarray()[0, 0] == 235
    assert converted(white, "yuv420p", full_range=True).to_ndarray()[0, 0] == 255
    assert frame_from_av(converted(white, "yuv420p", full_range=True)).layout.full_range
    assert not frame_from_av(converted(white, "yuv420p")).layout.full_range


def test_a_frame_is_scaled_and_keeps_its_time() -> None:
    frame = replace(yuv_frame(), pts=1234, time_base=Fraction(1, 1000))
    assert pixels(frame, size_wh=(32, 24)).shape == (24, 32, 3)
    picture = picture_of(frame)
    assert (picture.pts, Fraction(picture.time_base)) == (1234, Fraction(1, 1000))
    moved = converted(frame, "nv12")
    assert (moved.pts, moved.format.name) == (1234, "nv12")


def test_a_picture_is_a_copy_that_can_be_written_to() -> None:
    frame = yuv_frame(100)
    picture = picture_of(frame)
    np.frombuffer(picture.planes[0], np.uint8)  # type: ignore[call-overload]
    assert np.array_equal(frame_from_av(picture).planes[0].samples, frame.planes[0].samples)
    assert not np.shares_memory(frame_from_av(picture).planes[0].samples, frame.planes[0].samples)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "nv12", "rgb24"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_frame_is_put_upright(name: str, turns: int) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:24, :32] = 250  # left top
    stored = frame_from_av(
        av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name, threads=1)
    )
    shown = upright(replace(stored, rotation=turns))
    expected = np.rot90(rgb, -turns)
    assert (shown.rotation, shown.width, shown.height) == (0, expected.shape[1], expected.shape[0])
    assert np.abs(pixels(shown).astype(int) - expected).mean() < 8
    assert upright(stored) is stored


def test_planes_without_a_name_are_refused_in_one_line() -> None:
    odd = Plane(np.zeros((8, 8), np.uint8), (8, 1))
    frame = Frame((odd, odd, odd), PixelLayout("yuv"), 8, 8)
    with pytest.raises(VideoError, match="no name for frames"):
        format_name(frame)
