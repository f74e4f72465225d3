"""A frame in the decoder's own planes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of a frame.

    samples: (h, w) for one component, (h, w, n) where n are interleaved (NV12's chroma, RGB);
        uint8, or uint16 with `depth` significant bits.
    subsampling_xy: how many luma samples one sample of this plane covers: (1, 1), (2, 1), (2, 2).
    """

    samples: np.ndarray
    subsampling_xy: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the planes of a pixel format are to be read.

    kind: `yuv` (planes Y, U, V, or Y and interleaved UV), `rgb` (interleaved, or three planes),
        `gray`. Further planes (alpha) are never touched.
    depth: significant bits a sample.
    shift: bits to shift a stored sample right for its value (P010 keeps its 10 bits on top).
    full_range: whether luma uses 0..2^depth-1, or the video range 16..235 (times 2^(depth-8)).
    matrix: the YUV matrix, needed only where colour must be known.
    rgb_order: for kind `rgb`, where R, G, B lie: (0, 1, 2) in interleaved RGB, (2, 1, 0) in BGR.
    """

    kind: Literal["yuv", "rgb", "gray"]
    depth: int = 8
    shift: int = 0
    full_range: bool = False
    matrix: Literal["bt601", "bt709", "bt2020"] = "bt709"
    rgb_order: tuple[int, int, int] = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video, as decoded.

    planes: in the order of the pixel format; arrays are views of the decoder's memory where they
        can be, so a stage never writes to them: `blend` copies before it writes.
    pts: presentation time in units of time_base, None where the container gives none.
    rotation: clockwise quarter turns (0..3) a player applies for display. Faces are looked for in
        the displayed orientation, edits are written to the stored one.
    """

    planes: tuple[Plane, ...]
    layout: PixelLayout
    width: int
    height: int
    pts: int | None = None
    time_base: Fraction = Fraction(1, 1)
    rotation: int = 0

    @property
    def time_s(self) -> float | None:
        """Seconds of `pts`."""
        return None if self.pts is None else float(self.pts * self.time_base)
