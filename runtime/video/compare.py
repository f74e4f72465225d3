"""The original and the edit in one picture."""

from __future__ import annotations

import av
import numpy as np

from mien.runtime.frame import Frame
from mien.runtime.video.formats import format_layout
from mien.runtime.video.planes import blank_like, plane_views


def side_by_side_size(frame: Frame) -> tuple[int, int]:
    """Width and height of the joined picture as stored: twice as wide when displayed.

    The second half starts where a chroma sample starts, so an odd size gains a column or row.
    """
    step_x = max(plane.subsampling_xy[0] for plane in frame.planes)
    step_y = max(plane.subsampling_xy[1] for plane in frame.planes)
    if frame.rotation % 2:
        return frame.width, 2 * _round_up(frame.height, step_y)
    return 2 * _round_up(frame.width, step_x), frame.height


def side_by_side(original: Frame, edited: Frame, like: av.VideoFrame) -> av.VideoFrame:
    """Both frames in one picture with the time and colours of `like`, the original first.

    First is left as displayed: a frame stored on its side has the two above each other.
    """
    joined = blank_like(like, *side_by_side_size(original))
    layout = format_layout(like.format.name)
    assert layout is not None  # the frames came from this format
    # Displayed left is stored left, bottom, right, top for 0, 1, 2, 3 clockwise quarter turns, and
    # the other way about where the picture is mirrored.
    is_first = (original.rotation in (0, 3)) != original.mirrored
    first, second = (original, edited) if is_first else (edited, original)
    axis = original.rotation % 2 == 0
    for index, view in enumerate(plane_views(joined, layout, writable=True)):
        halves = (first.planes[index].samples, second.planes[index].samples)
        _join_into(view, halves, axis=int(axis))
    return joined


def _join_into(out: np.ndarray, halves: tuple[np.ndarray, np.ndarray], *, axis: int) -> None:
    half = out.shape[axis] // 2
    for start, samples in zip((0, half), halves, strict=True):
        length = samples.shape[axis]
        target = out[start : start + half] if axis == 0 else out[:, start : start + half]
        if axis == 0:
            target[:length] = samples
            target[length:] = samples[-1:]
        else:
            target[:, :length] = samples
            target[:, length:] = samples[:, -1:]


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
