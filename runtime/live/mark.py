"""A visible mark in a corner of a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mien.runtime.frame import Frame, Plane
from mien.runtime.luma import level_range

TEXT: Final = "AI-edited"
_FONT: Final = cv2.FONT_HERSHEY_DUPLEX  # strokes inside OpenCV, no font file
_HEIGHT_SHARE: Final = 0.05  # of the frame's shorter side
_GROUND: Final = 0.55  # how dark the ground under the letters is


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The mark for one size of plane: where it goes, and what is mixed in.

    keep: float32 (h, w), how much of the picture stays. white: float32 (h, w), how much of white
    comes to it; the rest is black.
    """

    x: int
    y: int
    keep: np.ndarray
    white: np.ndarray


class Marker:
    """Draws `AI-edited` into the lower right corner, onto the frame's own planes."""

    def __init__(self) -> None:
        self._stamps: dict[tuple[int, int, tuple[int, int]], _Stamp] = {}
        self._size_wh = (0, 0)

    def __call__(self, frame: Frame) -> Frame:
        """The frame with the mark; planes are copied, the frame given stays as it is."""
        if (frame.width, frame.height) != self._size_wh:
            self._size_wh = (frame.width, frame.height)
            self._stamps.clear()
        planes = tuple(self._marked(frame, index) for index in range(len(frame.planes)))
        return replace(frame, planes=planes)

    def _marked(self, frame: Frame, index: int) -> Plane:
        plane = frame.planes[index]
        is_chroma = frame.layout.kind == "yuv" and index > 0
        black, white = level_range(frame.layout)
        if is_chroma:
            black = white = 1 << (frame.layout.depth - 1)
        stamp = self._stamp(frame, plane.subsampling_xy)
        height, width = stamp.keep.shape
        samples = plane.samples.copy()
        corner = samples[stamp.y : stamp.y + height, stamp.x : stamp.x + width]
        is_deep = corner.ndim == 3
        keep = stamp.keep[..., None] if is_deep else stamp.keep
        share = stamp.white[..., None] if is_deep else stamp.white
        shift = frame.layout.shift
        values = (corner >> shift) * keep + black * (1 - keep) + (white - black) * share
        corner[...] = np.rint(values).astype(samples.dtype) << shift
        return replace(plane, samples=samples)

    def _stamp(self, frame: Frame, step_xy: tuple[int, int]) -> _Stamp:
        key = (frame.width, frame.height, step_xy)
        if key not in self._stamps:
            self._stamps[key] = _made(frame.width, frame.height, step_xy)
        return self._stamps[key]


def _made(width: int, height: int, step_xy: tuple[int, int]) -> _Stamp:
    letter_px = max(9.0, _HEIGHT_SHARE * min(width, height))
    scale = letter_px / cv2.getTextSize(TEXT, _FONT, 1.0, 1)[0][1]
    thickness = max(1, round(letter_px / 14))
    (text_w, text_h), below = cv2.getTextSize(TEXT, _FONT, scale, thickness)
    pad = max(2, round(0.4 * letter_px))
    # Whole blocks of 4, so that every subsampling has whole samples.
    box_w, box_h = (-(-side // 4) * 4 for side in (text_w + 2 * pad, text_h + below + 2 * pad))
    letters = np.zeros((box_h, box_w), np.uint8)
    cv2.putText(letters, TEXT, (pad, pad + text_h), _FONT, scale, 255, thickness, cv2.LINE_AA)
    box_w, box_h = min(box_w, width // 4 * 4), min(box_h, height // 4 * 4)
    alpha = letters[:box_h, :box_w].astype(np.float32) / 255
    x, y = ((side - box) // 4 * 4 for side, box in ((width, box_w), (height, box_h)))
    size = (box_w // step_xy[0], box_h // step_xy[1])
    white = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    keep = np.float32(1 - _GROUND) * (1 - white)
    return _Stamp(x // step_xy[0], y // step_xy[1], keep, white)
