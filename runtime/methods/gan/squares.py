"""The squares that generators see and make: cut from the wide crop, in colour, and put back.

The wide crop, in which the parts paper's methods work, is that of `alignment.roi_matrix`. That and
the canonical crop are fitted to templates that are a similarity apart, so one follows from the
other without the landmarks in the frame. A face is converted to colour only where it is looked at.

Squares are put back by the parts paper's paste, or by masks for changes that are added. Source:
"Let's put a smile on your face", section 3: the mean brightness of what was generated is adjusted
to that of the original picture, then pixel values are interpolated linearly over each edge. The
paper gives no widths; its figures 2 and 3 show them by example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from mien.runtime.faces.alignment import AlignedFace, transform_points
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma, sample_rgb
from mien.runtime.methods.gan.parts import Box
from mien.runtime.methods.motion import edge_ramp

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


GRID: Final = 192  # cells a side of the wide crop: a mouth's 64 pixels are at most about 180 of it
DARK: Final = 1 / 64  # a picture darker than this in the mean is not scaled to another brightness

Brightness = Literal["offset", "gain"]
Part = tuple[slice, slice]  # rows and columns of the grid


@dataclass(frozen=True, slots=True)
class Piece:
    """A square on its way back.

    box: in units of the wide crop. values: float32 (c, s, s), pixels or a change of them.
    share: how much of it, 0..1.
    """

    box: Box
    values: np.ndarray
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pieces on one grid over the whole wide crop.

    values: float32 (c, GRID, GRID). alpha: float32 (GRID, GRID) in [0, 1]; 0 in the border cells.
    """

    values: np.ndarray
    alpha: np.ndarray


def match_brightness(
    generated: np.ndarray, original: np.ndarray, how: Brightness = "offset"
) -> np.ndarray:
    """`generated` with the mean brightness of `original` along the border: float32 (c, s, s).

    Both float32 (c, s, s) in [0, 1]. how: `offset` adds the same to every pixel, `gain` scales.
    Only there do the two meet. Over the whole square, teeth that appear would darken the cheeks.
    """
    wanted, found = border_mean(original), border_mean(generated)
    if how == "gain" and found > DARK:
        scaled: np.ndarray = generated * np.float32(wanted / found)
        return scaled
    shifted: np.ndarray = generated + np.float32(wanted - found)
    return shifted


def border_mean(square: np.ndarray) -> float:
    """The mean of (c, s, s) where `edge_ramp` fades, the border itself counting most."""
    weights = 1 - edge_ramp(square.shape[1])
    return float((square * weights).sum() / (weights.sum() * square.shape[0]))


def laid_over(pieces: Sequence[Piece], region: np.ndarray | None = None) -> Sheet:
    """Pieces one over the other, the later on top, each fading at its edge.

    region: float32 (side, side) over the wide crop, what may be covered; None for all of it.
    """
    channels = pieces[0].values.shape[0]
    values = np.zeros((channels, GRID, GRID), np.float32)
    alpha = np.zeros((GRID, GRID), np.float32)
    for piece in pieces:
        rows, columns = part = _part_under(piece.box)
        shown, own = _on_grid(piece, part)
        values[:, rows, columns] += (shown - values[:, rows, columns]) * own
        alpha[part] += own - alpha[part] * own
    inside = 1.0 if region is None else _region_on_grid(region)
    return Sheet(_unmixed(values, alpha), _closed(alpha * inside))


def added_up(pieces: Sequence[Piece], region: np.ndarray) -> Sheet:
    """Changes next to each other; where squares overlap, the nearer middle counts more.

    Squares leave their part room, so a nose's reaches over the lips, which it changes little: a sum
    would say things twice, a plain mean would halve what the mouth's own square says.
    region: float32 (side, side) over the wide crop, where a change is wanted.
    """
    channels = pieces[0].values.shape[0]
    values = np.zeros((channels, GRID, GRID), np.float32)
    weights = np.zeros((GRID, GRID), np.float32)
    alpha = np.zeros((GRID, GRID), np.float32)
    for piece in pieces:
        rows, columns = part = _part_under(piece.box)
        shown, own = _on_grid(piece, part)
        to_middle = edge_ramp(piece.values.shape[1], 0.5)
        nearness = _warped(to_middle, piece.box, part, cv2.INTER_LINEAR)
        weight = nearness * nearness * np.float32(piece.share)
        values[:, rows, columns] += shown * weight
        weights[part] += weight
        alpha[part] = np.maximum(alpha[part], own)
    return Sheet(_unmixed(values, weights), _closed(alpha * _region_on_grid(region)))


def _region_on_grid(region: np.ndarray) -> np.ndarray:
    return cv2.resize(region, (GRID, GRID), interpolation=cv2.INTER_LINEAR)


def _part_under(box: Box) -> Part:
    """The rows and columns of the grid that a square reaches; beyond it all shares are 0."""
    rows, columns = (
        slice(
            min(GRID - 1, max(0, math.floor((middle - box.side / 2) * GRID))),
            max(1, min(GRID, math.ceil((middle + box.side / 2) * GRID))),
        )
        for middle in (box.y, box.x)
    )
    return rows, columns


def _on_grid(piece: Piece, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """A piece's values (c, h, w) in a part of the grid and how much of them (h, w)."""
    shown = [_warped(channel, piece.box, part, cv2.INTER_CUBIC) for channel in piece.values]
    ramp = _warped(edge_ramp(piece.values.shape[1]), piece.box, part, cv2.INTER_LINEAR)
    return np.stack(shown), ramp * np.float32(piece.share)


def _warped(square: np.ndarray, box: Box, part: Part, method: int) -> np.ndarray:
    """A square (s, s) in a part of the grid, its border repeated beyond it: (h, w)."""
    rows, columns = part
    matrix = box.crop_from_wide(square.shape[0]).astype(np.float64)
    # the grid's cells have their centres at (cell + 0.5) / GRID of the wide crop
    first = (np.array([columns.start, rows.start]) + 0.5) / GRID
    matrix[:, 2] += matrix[:, :2] @ first
    matrix[:, :2] /= GRID
    return cv2.warpAffine(
        np.ascontiguousarray(square),
        matrix,
        (columns.stop - columns.start, rows.stop - rows.start),
        flags=method | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _unmixed(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    unmixed: np.ndarray = values / np.maximum(alpha, np.float32(1e-6))
    return unmixed


def _closed(alpha: np.ndarray) -> np.ndarray:
    inner = np.zeros_like(alpha)
    inner[1:-1, 1:-1] = alpha[1:-1, 1:-1]
    return inner
