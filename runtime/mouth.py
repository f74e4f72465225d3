"""The mouth: where its box lies, how far its lips are open, and how thin they may get."""

from __future__ import annotations

import cv2
import numpy as np

from mien.runtime.topology import (
    INNER_LIPS,
    INNER_LIPS_LOWER,
    INNER_LIPS_UPPER,
    MOUTH_LEFT_CORNER,
    MOUTH_RIGHT_CORNER,
    OUTER_LIPS,
)

# Points of the outer lip and the inner ones behind them, upper lip, then lower.
UPPER_LIP = ((86, 97), (87, 98), (88, 99))
LOWER_LIP = ((94, 103), (93, 102), (92, 101))
LEAST_THICKNESS = 0.6  # of what a lip had: it may be drawn thin, and never opens through itself
BOX_WIDTH = 1.7  # of the distance between the mouth's corners
MIN_WIDTH = 0.22  # crop units: a puckered or turned mouth still gets its surroundings

LEAST_OPENING = 0.012  # crop units between the lips; below, no teeth are seen

Box = tuple[float, float, float, float]


def mouth_box(landmarks: np.ndarray) -> Box:
    """The mouth's box (x0, y0, x1, y1), twice as wide as high, in the units of `landmarks`.

    landmarks: (106, 2), crop units.
    """
    x, y = landmarks[list(OUTER_LIPS)].mean(0)
    corners = landmarks[MOUTH_RIGHT_CORNER] - landmarks[MOUTH_LEFT_CORNER]
    width = max(MIN_WIDTH, BOX_WIDTH * float(np.hypot(*corners)))
    return (
        float(x - width / 2),
        float(y - width / 4),
        float(x + width / 2),
        float(y + width / 4),
    )


def lips_gap(landmarks: np.ndarray) -> float:
    """The mean height between the inner lips, at least 0, in the units of `landmarks` (106, 2)."""
    upper = landmarks[list(INNER_LIPS_UPPER[1:-1]), 1]
    lower = landmarks[list(INNER_LIPS_LOWER[1:-1]), 1]
    return max(0.0, float((lower - upper).mean()))


def lips_opening(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The area between the inner lips on the crop: float32 (size, size), antialiased.

    landmarks: (106, 2), crop units.
    """
    hole = np.zeros((size, size), np.uint8)
    points = np.round((landmarks[list(INNER_LIPS)] * size - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(hole, [points], 255, cv2.LINE_AA, 4)
    return hole.astype(np.float32) / 255


def with_rigid_teeth(flow: np.ndarray, landmarks: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A flow under which the inside of an open mouth moves as one body: float32 (2, size, size).

    flow: (2, size, size), crop units. landmarks: (106, 2), crop units. moved: the displacement to
    show. Lips bend and stretch; the teeth between them only go along with the lips as a whole.
    """
    if lips_gap(landmarks) < LEAST_OPENING:
        return flow
    inner = list(INNER_LIPS)
    shift = moved[inner].mean(0)
    size = flow.shape[-1]
    both = np.minimum(lips_opening(landmarks + shift, size), lips_opening(landmarks + moved, size))
    share = cv2.GaussianBlur(both, (0, 0), 0.6)
    rigid: np.ndarray = flow + share * (-shift.astype(np.float32)[:, None, None] - flow)
    return rigid


def hold_lips(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The displacement under which every lip keeps most of its thickness: float32 (106, 2).

    landmarks, displacement: (106, 2), crop units. Only inner lip points are held back.
    """
    held: np.ndarray = displacement.astype(np.float32).copy()
    y = landmarks[:, 1] + displacement[:, 1]
    for pairs, side in ((UPPER_LIP, 1.0), (LOWER_LIP, -1.0)):
        outer, inner = (list(points) for points in zip(*pairs, strict=True))
        thickness = side * (landmarks[inner, 1] - landmarks[outer, 1])
        missing = np.maximum(0, LEAST_THICKNESS * thickness - side * (y[inner] - y[outer]))
        # The neighbours give way too, or the lip's edge would be a zigzag.
        missing[[0, 2]] = np.maximum(missing[[0, 2]], 0.8 * missing[1])
        missing[1] = max(missing[1], 0.9 * missing[[0, 2]].mean())
        held[inner, 1] += side * missing
    return held
