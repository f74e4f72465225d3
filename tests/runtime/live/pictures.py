"""Frames for tests of live outputs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from mien.runtime.frame import Frame
from mien.runtime.live.values import FRAME_CLOCK, LiveFrame
from mien.runtime.video.planes import frame_from_av

QUARTERS = ((200, 60, 40), (20, 180, 90), (30, 40, 220), (220, 220, 220))


def quarters(size_wh: tuple[int, int] = (160, 96)) -> np.ndarray:
    """Red, green, blue and white from the left top in reading order: uint8 (H, W, 3), RGB."""
    width, height = size_wh
    rgb = np.empty((height, width, 3), np.uint8)
    for index, colour in enumerate(QUARTERS):
        top, left = index // 2 * (height // 2), index % 2 * (width // 2)
        rgb[top:, left:] = colour
    return rgb


def frame_of(rgb: np.ndarray, pixel_format: str = "yuv420p", *, rotation: int = 0) -> Frame:
    """A frame as a decoder gives it, BT.601; JPEG's formats in full range."""
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format=pixel_format, threads=1
    )
    picture.colorspace = 5
    if pixel_format.startswith("yuvj"):
        picture.color_range = 2
    return replace(frame_from_av(picture, copy=True), rotation=rotation)


def live(frame: Frame, captured_s: float = 100.0, seq: int = 0) -> LiveFrame:
    """The frame on its way out, with nothing edited."""
    pts = round(Fraction(captured_s) / FRAME_CLOCK)
    timed = replace(frame, pts=pts, time_base=FRAME_CLOCK)
    return LiveFrame(timed, timed, seq, captured_s, (), (), seq)
