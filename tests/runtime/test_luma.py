from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import (
    display_from_stored,
    luma_of,
    reduced_luma,
    rotation_of,
    sample_luma,
    size_of,
    thinned_luma,
)

WIDTH, HEIGHT = 40, 24
GREY = np.add.outer(np.arange(HEIGHT) * 4, np.arange(WIDTH) * 3).astype(np.float64)  # 0..209


def frame_of(name: str) -> Frame:
    """The grey ramp GREY in a layout."""
    colour = np.full((HEIGHT // 2, WIDTH // 2), 90, np.uint8)
    chroma = (Plane(colour, (2, 2)), Plane(colour, (2, 2)))
    video8 = (GREY / 255 * 219 + 16).round().astype(np.uint8)
    video10 = ((GREY / 255 * 219 + 16) * 4).round().astype(np.uint16)
    full8 = GREY.astype(np.uint8)
    planes, layout = {
        "video": ((Plane(video8, (1, 1)), *chroma), PixelLayout("yuv")),
        "full": ((Plane(full8, (1, 1)), *chroma), PixelLayout("yuv", full_range=True)),
        "ten": ((Plane(video10, (1, 1)), *chroma), PixelLayout("yuv", 10)),
        "p010": ((Plane(video10 << 6, (1, 1)),), PixelLayout("yuv", 10, 6)),
        "gray": ((Plane(full8, (1, 1)),), PixelLayout("gray", full_range=True)),
        "rgb": ((Plane(np.dstack([full8] * 3), (1, 1)),), PixelLayout("rgb")),
        "rgba": ((Plane(np.dstack([full8] * 3 + [colour.repeat(2, 0).repeat(2, 1)]), (1, 1)),),
                 PixelLayout("rgb")),
        "gbrp": ((Plane(full8, (1, 1)),) * 3, PixelLayout("rgb", rgb_order=(2, 0, 1))),
        "rgb48": ((Plane(np.dstack([full8.astype(np.uint16) * 257] * 3), (1, 1)),),
                  PixelLayout("rgb", 16)),
    }[name]  # fmt: skip
    for plane in planes:
        plane.samples.flags.writeable = False
    return Frame(planes, layout, WIDTH, HEIGHT)


NAMES = ("video", "full", "ten", "p010", "gray", "rgb", "rgba", "gbrp", "rgb48")


@pytest.mark.parametrize("name", NAMES)
def test_luma_is_eight_bit_and_full_range_in_every_layout(name: str) -> None:
    luma = luma_of(frame_of(name))
    assert luma.dtype == np.uint8
    assert luma.shape == (HEIGHT, WIDTH)
    assert np.abs(luma - GREY).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_samples_and_reductions_agree_with_the_whole_luma(name: str) -> None:
    frame = frame_of(name)
    whole = luma_of(frame)
    matrix = np.array([[0.6, 0.2, -3.0], [-0.2, 0.6, 4.0]], np.float32)
    for got, want in (
        (sample_luma(frame, matrix, 16), sample_luma(whole, matrix, 16)),
        (reduced_luma(frame, (20, 12)), reduced_luma(whole, (20, 12))),
        (thinned_luma(frame, (8, 6)), thinned_luma(whole, (8, 6))),
    ):
        assert got.dtype == np.uint8
        assert got.shape == want.shape
        assert np.abs(got.astype(int) - want).max() <= 2


def test_full_range_luma_is_not_copied() -> None:
    frame = frame_of("full")
    assert luma_of(frame) is frame.planes[0].samples


def test_bgr_and_rgb_weigh_the_same_colour_alike() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    for order, samples in (((0, 1, 2), red), ((2, 1, 0), red[..., ::-1])):
        layout = PixelLayout("rgb", rgb_order=order)
        frame = Frame((Plane(samples, (1, 1)),), layout, 4, 4)
        assert (luma_of(frame) == 76).all()


def test_values_below_black_and_above_white_saturate() -> None:
    samples = np.array([[0, 16, 235, 255]], np.uint8)
    frame = Frame((Plane(samples, (1, 1)),), PixelLayout("gray"), 4, 1)
    assert luma_of(frame).tolist() == [[0, 0, 255, 255]]


def test_size_and_rotation_of_arrays_and_frames() -> None:
    assert size_of(np.zeros((3, 5), np.uint8)) == (5, 3)
    assert size_of(frame_of("rgb")) == (WIDTH, HEIGHT)
    assert rotation_of(np.zeros((3, 5), np.uint8)) == 0


@pytest.mark.parametrize("rotation", range(4))
def test_display_from_stored_is_a_clockwise_turn(rotation: int) -> None:
    stored = np.arange(6).reshape(2, 3)
    displayed = np.rot90(stored, -rotation)
    matrix = display_from_stored((3, 2), rotation)
    for y in range(2):
        for x in range(3):
            column, row = (matrix[:, :2] @ (x, y) + matrix[:, 2]).astype(int)
            assert displayed[row, column] == stored[y, x]
