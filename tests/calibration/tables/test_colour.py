import numpy as np
import pytest

from mien.calibration.tables.sheet import rgb_picture
from mien.runtime.frame import Frame, PixelLayout, Plane

# Y, U, V of pure colours in BT.709, 8 bits, video range.
RED, GREY, WHITE = (63, 102, 240), (126, 128, 128), (235, 128, 128)


def yuv_frame(colour: tuple[int, int, int], **layout) -> Frame:
    shift = layout.get("depth", 8) - 8
    dtype = np.uint16 if shift else np.uint8
    y, u, v = (np.array(c, dtype) << (shift + layout.get("shift", 0)) for c in colour)
    planes = (
        Plane(np.full((6, 8), y, dtype), (1, 1)),
        Plane(np.full((3, 4), u, dtype), (2, 2)),
        Plane(np.full((3, 4), v, dtype), (2, 2)),
    )
    return Frame(planes, PixelLayout("yuv", **layout), 8, 6)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [(RED, (255, 0, 0)), (GREY, (128, 128, 128)), (WHITE, (255, 255, 255))],
)
@pytest.mark.parametrize("layout", [{}, {"depth": 10}, {"depth": 10, "shift": 6}])
def test_pure_colours_come_out(colour, expected, layout):
    picture = rgb_picture(yuv_frame(colour, **layout))
    assert picture.shape == (6, 8, 3)
    np.testing.assert_allclose(picture[2, 3].astype(int), expected, atol=3)


def test_interleaved_chroma_reads_like_planar():
    planar = yuv_frame(RED)
    both = np.dstack([planar.planes[1].samples, planar.planes[2].samples])
    frame = Frame((planar.planes[0], Plane(both, (2, 2))), planar.layout, 8, 6)
    np.testing.assert_array_equal(rgb_picture(frame), rgb_picture(planar))


def test_rgb_and_grey_frames_keep_their_values():
    bgr = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    frame = Frame((Plane(bgr, (1, 1)),), PixelLayout("rgb", rgb_order=(2, 1, 0)), 8, 6)
    np.testing.assert_array_equal(rgb_picture(frame), bgr[:, :, ::-1])
    grey = Frame((Plane(bgr[..., 0], (1, 1)),), PixelLayout("gray", full_range=True), 8, 6)
    np.testing.assert_array_equal(rgb_picture(grey)[..., 1], bgr[..., 0])
