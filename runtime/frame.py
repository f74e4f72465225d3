"""A frame in the decoder's own planes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal

import numpy as np

from mien.engines.errors import UsageError

MAX_SIDE_PX: Final = 1 << 20  # as OpenCV has it


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
    mirrored: whether a player then swaps left and right.
    """

    planes: tuple[Plane, ...]
    layout: PixelLayout
    width: int
    height: int
    pts: int | None = None
    time_base: Fraction = Fraction(1, 1)
    rotation: int = 0
    mirrored: bool = False

    @property
    def time_s(self) -> float | None:
        """Seconds of `pts`."""
        return None if self.pts is None else float(self.pts * self.time_base)


def check_frame(frame: object) -> None:
    """Raise UsageError for what is no frame, or one whose planes are not what it says."""
    if not isinstance(frame, Frame):
        raise UsageError(f"received {type(frame).__name__}, expected a mien.runtime.Frame")
    _check_fields(frame)
    for index, plane in enumerate(frame.planes):
        _check_plane(frame, index, plane)
    _check_layout(frame)


def _check_fields(frame: Any) -> None:  # the types that a Frame states are what is checked
    if not isinstance(frame.layout, PixelLayout):
        raise UsageError(f"a frame's layout is a PixelLayout, not {type(frame.layout).__name__}")
    if not isinstance(frame.planes, tuple) or not frame.planes:
        raise UsageError("a frame has a tuple of planes, at least one")
    sides = (frame.width, frame.height)
    if not all(isinstance(side, (int, np.integer)) and 0 < side <= MAX_SIDE_PX for side in sides):
        raise UsageError(f"the sides of a frame are 1..{MAX_SIDE_PX} pixels, whole numbers")
    if frame.rotation not in (0, 1, 2, 3):
        raise UsageError("the rotation of a frame is 0, 1, 2 or 3 quarter turns")
    if frame.pts is not None and not isinstance(frame.pts, (int, np.integer)):
        raise UsageError(f"the pts of a frame is a whole number or None, not {frame.pts!r:.40}")
    if not isinstance(frame.time_base, Fraction) or frame.time_base <= 0:
        raise UsageError(
            f"the time_base of a frame is a Fraction above 0, not {frame.time_base!r:.40}"
        )


def _check_plane(frame: Frame, index: int, plane: Any) -> None:
    samples = plane.samples if isinstance(plane, Plane) else None
    if not isinstance(samples, np.ndarray):
        raise UsageError(f"plane {index} of a frame is no Plane with an array of samples")
    steps: Any = plane.subsampling_xy
    if not isinstance(steps, tuple) or len(steps) != 2 or any(s not in (1, 2, 4) for s in steps):
        raise UsageError(f"plane {index} has a subsampling other than 1, 2 or 4, each way")
    if samples.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"plane {index} has samples of {samples.dtype}, not uint8 or uint16")
    expected = (-(-frame.height // steps[1]), -(-frame.width // steps[0]))
    if samples.ndim not in (2, 3) or samples.shape[:2] != expected:
        raise UsageError(
            f"plane {index} has the shape {samples.shape}, expected {expected} and maybe channels"
        )


def _check_layout(frame: Any) -> None:
    layout, channels = frame.layout, [plane.samples.shape[2:] for plane in frame.planes]
    bits = 8 * frame.planes[0].samples.itemsize
    numbers = (layout.depth, layout.shift, *layout.rgb_order)
    fits = all(isinstance(number, (int, np.integer)) and number >= 0 for number in numbers)
    fits = fits and layout.depth >= 1 and layout.depth + layout.shift <= bits
    if layout.kind == "rgb":
        count = channels[0][0] if channels[0] else len(channels)
        order = set(layout.rgb_order)
        fits = fits and count in (3, 4) and len(order) == 3 and max(order) < count
    elif layout.kind == "yuv":
        fits = fits and channels[0] == () and (len(channels) != 2 or channels[1] == (2,))
    else:
        fits = fits and layout.kind == "gray" and channels[0] in ((), (1,), (2,))
    if not fits:
        counts = [shape[0] if shape else 1 for shape in channels]
        raise UsageError(f"planes of {bits} bits with {counts} channels do not fit {layout}")


def side_by_side_order(frame: Frame) -> tuple[int, bool]:
    """How two pictures stored like `frame` are stored as one that shows them side by side.

    The axis of the samples (0 rows, 1 columns) along which they lie, and whether the one that is
    displayed left is stored first: it is stored left, bottom, right, top for 0, 1, 2, 3 clockwise
    quarter turns, and the other way about where the picture is mirrored.
    """
    return int(frame.rotation % 2 == 0), (frame.rotation in (0, 3)) != frame.mirrored
