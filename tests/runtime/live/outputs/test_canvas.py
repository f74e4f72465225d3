from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.live.outputs.canvas import Canvas, fitted, yuv_picture, yuv_planes
from tests.runtime.live.pictures import QUARTERS, frame_of, quarters

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuv440p", "nv12", "nv16", "rgb24",
    "bgr24", "rgb0", "bgr0", "gbrp",
]  # fmt: skip


def corner_colours(rgb: np.ndarray) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, in reading order."""
    height, width = rgb.shape[:2]
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    places = [(row, column) for row in rows for column in columns]
    return [tuple(int(v) for v in rgb[place]) for place in places]


def assert_colours(found: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() <= 6, found


@pytest.mark.parametrize("name", FORMATS)
def test_every_layout_keeps_its_colours_on_either_canvas(name: str) -> None:
    frame = frame_of(quarters(), name)
    assert_colours(corner_colours(Canvas((160, 96), "rgb24").draw(frame)), list(QUARTERS))
    shown = yuv_picture(Canvas((160, 96)).draw(frame))
    assert_colours(corner_colours(shown.to_ndarray(format="rgb24", threads=1)), list(QUARTERS))


def test_planes_that_fit_are_passed_on_bit_by_bit() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(16, 236, (96, 160, 3), dtype=np.uint8)
    for name in ("yuv420p", "nv12"):
        frame = frame_of(noise, name)
        planes = [plane.samples for plane in frame.planes]
        if name == "nv12":
            planes = [planes[0], planes[1][..., 0], planes[1][..., 1]]
        drawn = yuv_planes(Canvas((160, 96)).draw(frame))
        for own, plane in zip(drawn, planes, strict=True):
            assert (own == plane).all()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "rgb24"])
def test_a_frame_stored_on_its_side_is_drawn_upright(name: str) -> None:
    upright = quarters((96, 160))
    for turns in (1, 2, 3):
        stored = np.ascontiguousarray(np.rot90(upright, turns))  # a player turns it back, clockwise
        canvas = Canvas((96, 160), "rgb24")
        drawn = canvas.draw(frame_of(stored, name, rotation=turns))
        assert_colours(corner_colours(drawn), list(QUARTERS))
        luma = yuv_planes(Canvas((96, 160)).draw(frame_of(stored, name, rotation=turns)))[0]
        expected = yuv_planes(Canvas((96, 160)).draw(frame_of(upright, name)))[0]
        assert np.abs(luma.astype(int) - expected).mean() < 2


def test_another_shape_gets_black_borders_and_stays_whole() -> None:
    canvas = Canvas((320, 96), "rgb24")
    drawn = canvas.draw(frame_of(quarters()))
    assert not drawn[:, :78].any()
    assert not drawn[:, 242:].any()
    assert_colours(corner_colours(drawn[:, 80:240]), list(QUARTERS))
    filled = canvas.draw(frame_of(quarters((320, 96))))
    assert_colours(corner_colours(filled), list(QUARTERS))
    luma = yuv_planes(Canvas((160, 320)).draw(frame_of(quarters())))[0]
    assert (luma[:110] == 16).all()
    assert luma[112:208].mean() > 60


def test_borders_come_back_after_a_frame_that_fitted() -> None:
    canvas = Canvas((160, 96))
    canvas.draw(frame_of(quarters()))
    luma = yuv_planes(canvas.draw(frame_of(quarters((96, 96)))))[0]
    assert (luma[:, :30] == 16).all()


def test_odd_sizes_are_made_even() -> None:
    canvas = Canvas((161, 97))
    assert canvas.size_wh == (160, 96)
    luma = yuv_planes(canvas.draw(frame_of(quarters((161, 97)))))[0]
    assert (luma > 17).all()
    assert fitted((1, 400), (160, 96)) == (78, 0, 2, 96)
