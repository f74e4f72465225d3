"""The wide crop of a face, in which the parts paper's methods work.

It is the crop of `alignment.roi_matrix`. That and the canonical crop are fitted to templates that
are a similarity apart, so one follows from the other without the landmarks in the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.runtime.alignment import AlignedFace, transform_points
from mien.runtime.colour import sample_rgb
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma
from mien.runtime.parts import Box

# Wide from canonical units: scaled about the point between the eyes, which lies at 0.34 of the
# canonical crop's height and at 0.40 of the wide one's (`alignment.ROI_TEMPLATE`).
SCALE: Final = 0.28 / 0.34
WIDE_FROM_CROP: Final = np.array(
    [[SCALE, 0.0, 0.5 - 0.5 * SCALE], [0.0, SCALE, 0.40 - 0.34 * SCALE]]
)


@dataclass(frozen=True, slots=True)
class WideFace:
    """One face in a frame, seen through its wide crop.

    wide_from_frame: float64 (2, 3), units of the wide crop from stored frame pixels.
    landmarks: float32 (106, 2), units of the wide crop.
    """

    frame: Frame
    wide_from_frame: np.ndarray
    landmarks: np.ndarray

    def look(self, box: Box, size: int, colour: str) -> np.ndarray:
        """What lies in a square: float32 (1, size, size) of `luma`, or 3 channels of `rgb`.

        Values in [0, 1]; beyond the frame its border is repeated.
        """
        crop_from_wide = box.crop_from_wide(size).astype(np.float64)
        linear = crop_from_wide[:, :2] @ self.wide_from_frame[:, :2]
        shift = crop_from_wide[:, :2] @ self.wide_from_frame[:, 2] + crop_from_wide[:, 2]
        matrix = np.hstack([linear, shift[:, None]]).astype(np.float32)
        if colour == "rgb":
            return sample_rgb(self.frame, matrix, size)
        luma = sample_luma(self.frame, matrix, size)[None].astype(np.float32)
        seen: np.ndarray = luma / np.float32(255)
        return seen


def wide_face(frame: Frame, face: AlignedFace) -> WideFace:
    """The wide crop of an aligned face."""
    size = face.pixels.shape[0]
    units = np.array(face.crop_from_frame, np.float64)
    units[:, 2] += 0.5
    units /= size
    linear = WIDE_FROM_CROP[:, :2] @ units[:, :2]
    shift = WIDE_FROM_CROP[:, :2] @ units[:, 2] + WIDE_FROM_CROP[:, 2]
    matrix = np.hstack([linear, shift[:, None]])
    return WideFace(frame, matrix, transform_points(WIDE_FROM_CROP, face.landmarks))


def crop_box(box: Box) -> tuple[float, float, float, float]:
    """A square of the wide crop in units of the canonical one: x0, y0, x1, y1."""
    half = box.side / 2
    (x0, y0), (x1, y1) = (
        (np.array([box.x + side * half, box.y + side * half]) - WIDE_FROM_CROP[:, 2]) / SCALE
        for side in (-1, 1)
    )
    return float(x0), float(y0), float(x1), float(y1)


def on_crop(grid: np.ndarray, size: int) -> np.ndarray:
    """A grid over the wide crop on the canonical one: float32 (c, size, size), 0 in border cells.

    grid: float32 (c, side, side).
    """
    side = grid.shape[1]
    # cells have their centres at (cell + 0.5) / side
    linear = WIDE_FROM_CROP[:, :2] * (side / size)
    shift = (WIDE_FROM_CROP[:, :2] @ np.full(2, 0.5 / size) + WIDE_FROM_CROP[:, 2]) * side - 0.5
    matrix = np.hstack([linear, shift[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = np.stack([cv2.warpAffine(c, matrix, (size, size), flags=flags) for c in grid])
    shown[:, [0, -1]] = 0
    shown[:, :, [0, -1]] = 0
    return shown
