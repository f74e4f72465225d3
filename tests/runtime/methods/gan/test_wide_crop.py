from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from mien.runtime.faces.alignment import (
    AlignedFace,
    crop_matrix,
    invert_similarity,
    roi_matrix,
    transform_points,
)
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.gan.parts import Box
from mien.runtime.methods.gan.squares import (
    WIDE_FROM_CROP,
    crop_box,
    on_crop,
    sample_rgb,
    wide_face,
)
from mien.runtime.video.planes import frame_from_av
from tests.runtime.faces.shapes import mean_face


def face_in_frame(angle: float) -> np.ndarray:
    """Landmarks in frame pixels of a turned face that is not the mean one."""
    rng = np.random.default_rng(1)
    shape = mean_face() + rng.normal(0, 0.01, (106, 2))
    c, s = 90 * np.cos(angle), 90 * np.sin(angle)
    return (shape @ np.array([[c, s], [-s, c]]) + [60, 40]).astype(np.float32)


def grey_frame(samples: np.ndarray) -> Frame:
    height, width = samples.shape
    layout = PixelLayout("gray", full_range=True)
    return Frame((Plane(samples, (1, 1)),), layout, width, height)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.6])
def test_the_wide_crop_is_the_crop_of_the_landmark_network(angle: float) -> None:
    points = face_in_frame(angle)
    matrix = crop_matrix(points, 64)
    landmarks = (transform_points(matrix, points) + 0.5) / 64
    frame = grey_frame(np.zeros((200, 200), np.uint8))
    face = AlignedFace(np.zeros((64, 64), np.float32), matrix, landmarks)
    wide = wide_face(frame, face)
    wanted = (transform_points(roi_matrix(points, 112), points) + 0.5) / 112
    np.testing.assert_allclose(wide.landmarks, wanted, atol=1e-4)
    np.testing.assert_allclose(transform_points(wide.wide_from_frame, points), wanted, atol=1e-4)


def test_a_square_is_seen_where_it_lies() -> None:
    y, x = np.mgrid[0:200, 0:220].astype(np.float32)
    samples = np.round(0.5 * x + 0.5 * y).astype(np.uint8)
    points = face_in_frame(0.0)
    matrix = crop_matrix(points, 64)
    face = AlignedFace(np.zeros((64, 64), np.float32), matrix, mean_face())
    wide = wide_face(grey_frame(samples), face)
    box = Box(0.45, 0.55, 0.5)
    seen = wide.look(box, 32, "luma")
    assert seen.shape == (1, 32, 32)
    cells = (np.arange(32) + 0.5) / 32
    units = np.stack(np.meshgrid(box.x + (cells - 0.5) * 0.5, box.y + (cells - 0.5) * 0.5), -1)
    frame_from_wide = invert_similarity(wide.wide_from_frame)
    pixels = transform_points(frame_from_wide, units)
    np.testing.assert_allclose(seen[0] * 255, 0.5 * pixels.sum(-1), atol=0.8)


def test_a_square_in_crop_units_covers_the_same_points() -> None:
    box = Box(0.5, 0.4, 0.6)
    x0, y0, x1, y1 = crop_box(box)
    corners = transform_points(WIDE_FROM_CROP, np.array([(x0, y0), (x1, y1)]))
    np.testing.assert_allclose(corners, [(0.2, 0.1), (0.8, 0.7)], atol=1e-6)


COLOURS = np.array([[(200, 40, 40), (40, 190, 50)], [(50, 60, 210), (128, 128, 128)]], np.uint8)


@pytest.mark.parametrize(
    "pixel_format",
    ["yuv420p", "yuvj420p", "nv12", "yuv422p10le", "p010le", "yuv444p", "rgb24", "bgra", "gbrp"],
)
def test_colour_is_what_the_decoder_would_show(pixel_format: str) -> None:
    pixels = np.kron(COLOURS, np.ones((32, 32, 1), np.uint8))
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format=pixel_format,
        dst_colorspace="ITU709",
        threads=1,
    )
    picture.pts, picture.time_base = 0, Fraction(1)
    frame = frame_from_av(picture)
    # eight crop pixels a patch of colour, seen from its middle
    seen = sample_rgb(frame, np.array([[0.25, 0, 0], [0, 0.25, 0]], np.float32), 16)
    assert seen.shape == (3, 16, 16)
    inner = seen[:, 4::8, 4::8].transpose(1, 2, 0) * 255
    np.testing.assert_allclose(inner, COLOURS, atol=4)


def test_a_grey_frame_gives_grey() -> None:
    frame = grey_frame(np.full((40, 40), 100, np.uint8))
    seen = sample_rgb(frame, np.array([[1, 0, 0], [0, 1, 0]], np.float32), 8)
    np.testing.assert_allclose(seen, 100 / 255, atol=1e-3)


def test_a_grid_over_the_wide_crop_is_shown_where_it_lies_on_the_canonical_one() -> None:
    centres = (np.arange(192) + 0.5) / 192
    grid = np.stack(np.meshgrid(centres, centres)).astype(np.float32)
    shown = on_crop(grid, 96)
    cells = (np.arange(96) + 0.5) / 96
    for axis, over in enumerate(np.meshgrid(cells, cells)):
        scale, shift = WIDE_FROM_CROP[axis, axis], WIDE_FROM_CROP[axis, 2]
        inner = np.s_[1:-1, 1:-1]
        np.testing.assert_allclose(shown[axis][inner], (over * scale + shift)[inner], atol=2e-3)
        assert not shown[axis][0].any()
        assert not shown[axis][:, -1].any()
