from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.bench.plot import Bar, Panel, draw_chart, number
from mien.apps.bench.variants import SIZES_WH, scene_frames
from mien.engines.errors import UsageError

SAMPLE = Path(__file__).parents[3] / "apps/sample/sample.mp4"


@pytest.mark.parametrize("faces", [1, 2, 8])
def test_a_scene_shows_the_same_face_as_often_as_it_says(faces: int) -> None:
    first, second = scene_frames(SAMPLE, (1280, 720), 2, faces)
    luma = first.planes[0].samples
    assert luma.shape == (720, 1280)
    assert [plane.samples.shape for plane in first.planes[1:]] == [(360, 640)] * 2
    cells = [luma[row : row + 360, x : x + 320] for row in (0, 360) for x in range(0, 1280, 320)]
    assert all(np.array_equal(cell, cells[0]) for cell in cells[:faces])
    assert all((cell == 16).all() for cell in cells[faces:])
    assert cells[0].std() > 20
    assert (first.time_s, second.time_s) == (0, pytest.approx(1 / 30))


@pytest.mark.parametrize("size", SIZES_WH)
def test_a_scene_of_one_face_has_the_size_that_was_asked_for(size: str) -> None:
    (frame,) = scene_frames(SAMPLE, SIZES_WH[size], 1)
    assert (frame.width, frame.height) == SIZES_WH[size]
    assert frame.planes[0].samples.shape == SIZES_WH[size][::-1]


def test_a_scene_goes_on_for_as_long_as_it_is_asked_to_and_not_with_nine_faces() -> None:
    assert sum(1 for _ in scene_frames(SAMPLE, (320, 180), 130)) == 130
    with pytest.raises(UsageError, match="1 to 8"):
        list(scene_frames(SAMPLE, (1280, 720), 1, 9))


def test_a_bar_is_as_long_as_its_value() -> None:
    bars = (Bar("a", "one", 2.0), Bar("b", "two", 1.0), Bar("c", "one", 0.0))
    picture = cv2.imdecode(np.frombuffer(draw_chart([Panel("t", bars)]), np.uint8), 1)
    assert picture is not None
    lengths = [
        int((picture[row, 330:] == colour).all(1).sum())
        for row in range(picture.shape[0])
        for colour in [(180, 119, 31), (14, 127, 255)]
        if (picture[row, 331] == colour).all() and (picture[row, 335] == colour).all()
    ]
    assert max(lengths) == pytest.approx(2 * min(lengths), rel=0.02)


def _drawn(bars: tuple[Bar, ...], heading: tuple[str, ...] = ()) -> np.ndarray:
    drawn = draw_chart([Panel("t", bars)], heading)
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), 1)
    assert picture is not None
    return picture


def test_a_legend_tells_series_apart_and_a_label_that_two_share_is_written_once() -> None:
    alone = _drawn((Bar("a", "one", 2.0), Bar("b", "one", 1.0)))
    both = _drawn((Bar("a", "one", 2.0), Bar("a", "two", 1.0)))
    below = _drawn((Bar("a", "one", 2.0), Bar("a", "two", 1.0)), ("where", "what"))
    colours = [(180, 119, 31), (14, 127, 255)]
    squares = [int((both[:, 30] == colour).all(1).sum()) for colour in colours]
    assert squares == [19, 19], "beside the names, left of all bars"
    assert not (alone[:, 30] == colours[0]).all(1).any()
    assert len(alone) < len(both) < len(below)
    (rows,) = np.nonzero((both[:, 331] == colours[1]).all(1))
    assert (both[rows, 24:200] == 255).all(), "no second label"


def test_numbers_have_what_can_be_told_and_no_more() -> None:
    assert [number(value) for value in (0.9003, 2.169, 26.09, 432.9)] == [
        *("0.90", "2.17", "26.1", "433")
    ]
