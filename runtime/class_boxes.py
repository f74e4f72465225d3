"""Where the parts of a face lie, by a face parser's class map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np

from mien.runtime.parts import FACE_ROOM, PARTS, ROOM, Box, square_around

# The classes of a face parser that make up a part; words as in CelebAMask-HQ. Of a pair, sources
# disagree on whose left is left, so each pair is taken together and parted by place.
EYE_CLASSES: Final = frozenset(("l_eye", "r_eye"))
BROW_CLASSES: Final = frozenset(("l_brow", "r_brow"))
CLASSES_OF_PART: Final = {
    "nose": frozenset(("nose",)),
    "mouth": frozenset(("mouth", "u_lip", "l_lip")),
}
SEEN: Final = 0.0006  # share of the wide crop's pixels that a nose, lips, an eye and brow must have
EYES_APART: Final = 0.1  # of the wide crop; closer centres are one eye that is called both
SPECK: Final = 0.08  # a piece with less than this share of a part's largest is a parser's mistake


def class_mask(indices: np.ndarray, classes: tuple[str, ...], names: frozenset[str]) -> np.ndarray:
    """Where a class map shows one of `names`: bool (side, side)."""
    found: np.ndarray = np.array([name in names for name in classes])[indices]
    return found


def part_extents(indices: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The bounding box of each of PARTS that a class map shows: float32 (2, 2), low and high x, y.

    indices: uint8 (side, side) over the wide crop, index into `classes`; boxes are in its units.
    A part with too few pixels has none.
    """
    least = max(1.0, SEEN * indices.size)
    masks = _part_masks(indices, classes, least)
    extents = {}
    for part in PARTS:
        points = _whole_pieces(masks[part])
        if len(points) >= least:
            low_high = np.stack([points.min(0), points.max(0) + 1]) / indices.shape[0]
            extents[part] = low_high.astype(np.float32)
    return extents


def boxes_of(extents: Mapping[str, np.ndarray]) -> dict[str, Box]:
    """The square of each part that has an extent."""
    return {part: square_around(extent, ROOM[part]) for part, extent in extents.items()}


def face_box_of(extents: Mapping[str, np.ndarray]) -> Box | None:
    """The square over all parts together; None where one is missing."""
    if any(part not in extents for part in PARTS):
        return None
    return square_around(np.concatenate([extents[part] for part in PARTS]), FACE_ROOM)


def _part_masks(
    indices: np.ndarray, classes: tuple[str, ...], least: float
) -> dict[str, np.ndarray]:
    """Where each part is: bool (side, side). An eye that is not seen has no brow either."""
    masks = {part: class_mask(indices, classes, names) for part, names in CLASSES_OF_PART.items()}
    middle = _middle(indices, classes)
    is_left = (np.arange(indices.shape[1]) + 0.5) / indices.shape[1] < middle
    eyes, brows = (class_mask(indices, classes, names) for names in (EYE_CLASSES, BROW_CLASSES))
    for part, side in (("left_eye", is_left), ("right_eye", ~is_left)):
        eye = eyes & side
        masks[part] = eye | (brows & side) if eye.sum() >= least / 2 else np.zeros_like(eye)
    return masks


def _middle(indices: np.ndarray, classes: tuple[str, ...]) -> float:
    """The x between the two eyes: midway between their classes, where both are seen."""
    width = indices.shape[1]
    centres: list[float] = []
    for name in EYE_CLASSES:
        places = np.flatnonzero(class_mask(indices, classes, frozenset((name,))))
        if len(places):
            centres.append((float(np.median(places % width)) + 0.5) / width)
    if len(centres) == 2 and abs(centres[0] - centres[1]) > EYES_APART:
        return 0.5 * sum(centres)
    return 0.5


def _whole_pieces(mask: np.ndarray) -> np.ndarray:
    """The pixels (n, 2) of a mask, x first, without specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros((0, 2))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas >= SPECK * areas.max()
    rows, columns = np.nonzero(keep[labels])
    return np.stack([columns, rows], 1).astype(np.float64)
