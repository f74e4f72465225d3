"""Original and edit in one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.frame import Frame
from mien.runtime.video import VideoOptions, edit_video, read_frames

COMPARE = VideoOptions(quality=100, side_by_side=True)


def paint_black(frame: Frame) -> Frame:
    """The frame with all of its luma at 16."""
    luma = np.full_like(frame.planes[0].samples, 16)
    return replace(frame, planes=(replace(frame.planes[0], samples=luma), *frame.planes[1:]))


@pytest.mark.parametrize("rotation", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_original_is_displayed_on_the_left(
    rotation: int, mirrored: bool, clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip("in.mp4", frames=3, rotation=rotation, mirrored=mirrored)
    edit_video(source, tmp_path / "out.mp4", paint_black, COMPARE)

    before, after = next(read_frames(source)), next(read_frames(tmp_path / "out.mp4"))
    assert (after.rotation, after.mirrored) == (rotation, mirrored)
    across = slice(None, None, -1 if mirrored else 1)
    shown = np.rot90(before.planes[0].samples, -rotation)[:, across]
    joined = np.rot90(after.planes[0].samples, -rotation)[:, across]
    width = shown.shape[1]
    assert joined.shape == (shown.shape[0], 2 * width)
    assert np.array_equal(joined[:, :width], shown)
    assert np.all(joined[:, width:] == 16)


def test_an_odd_width_gains_a_column(clip: Callable[..., Path], tmp_path: Path) -> None:
    options = {"cpu-used": "8"}
    source = clip("in.webm", codec="libvpx-vp9", size_wh=(33, 31), frames=2, options=options)
    edit_video(source, tmp_path / "out.webm", paint_black, COMPARE)

    before, after = next(read_frames(source)), next(read_frames(tmp_path / "out.webm"))
    assert (after.width, after.height) == (68, 31)
    for old, new in zip(before.planes, after.planes, strict=True):
        assert np.array_equal(new.samples[:, : old.samples.shape[1]], old.samples)
    assert np.all(after.planes[0].samples[:, 34:] == 16)
