from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from mien.runtime.frame import Frame, PixelLayout
from mien.runtime.live.pixels import Watermark, pixels
from mien.runtime.video.planes import frame_from_av
from tests.runtime.live.stand_ins import yuv_frame

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "nv12", "rgb24", "bgr24", "gray", "yuv420p10le"]


def frame_in(name: str, size_wh: tuple[int, int]) -> Frame:
    x = np.linspace(60, 180, size_wh[0])[None, :, None]
    rgb = (x + np.zeros((size_wh[1], 1, 3)) * 1).astype(np.uint8)
    rgb[..., 2] //= 2
    return frame_from_av(av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name, threads=1))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size_wh", [(640, 360), (321, 243), (48, 32)])
def test_the_mark_stands_in_the_corner_and_nowhere_else(
    name: str, size_wh: tuple[int, int]
) -> None:
    frame = frame_in(name, size_wh)
    before = [plane.samples.copy() for plane in frame.planes]
    marked = Watermark()(frame)
    changed = marked.planes[0].samples != frame.planes[0].samples
    if changed.ndim == 3:
        changed = changed.any(-1)
    assert changed.sum() > 100
    rows, columns = np.nonzero(changed)
    assert columns.max() >= size_wh[0] - 6
    assert rows.max() >= size_wh[1] - 6
    if size_wh[0] > 300:
        assert columns.min() > size_wh[0] / 2
        assert rows.min() > size_wh[1] * 0.8
    for plane, samples in zip(frame.planes, before, strict=True):
        assert np.array_equal(plane.samples, samples)  # the frame given is only read


def test_the_letters_are_white_on_dark_without_a_tint() -> None:
    frame = frame_in("yuv420p", (1280, 720))
    corner = pixels(Watermark()(frame))[-40:, -160:].astype(int)
    original = pixels(frame)[-40:, -160:].astype(int)
    assert corner.max() > 225
    assert np.percentile(corner.max(-1), 30) < 0.6 * np.percentile(original.max(-1), 30)
    letters = corner[corner.min(-1) > 200]
    assert len(letters) > 50
    assert np.median(np.ptp(letters, axis=1)) < 12


def test_ten_bit_samples_stay_within_ten_bits() -> None:
    marked = Watermark()(frame_in("yuv420p10le", (640, 360)))
    assert marked.planes[0].samples.dtype == np.uint16
    assert 800 < marked.planes[0].samples.max() <= 1023


def test_a_marker_follows_a_change_of_size() -> None:
    marker = Watermark()
    for size_wh in ((640, 360), (320, 240), (640, 360)):
        frame = replace(yuv_frame(100, size_wh), layout=PixelLayout("yuv"))
        marked = marker(frame)
        assert marked.planes[0].samples.shape == (size_wh[1], size_wh[0])
        assert (marked.planes[0].samples[-20:, -60:] != 100).any()
