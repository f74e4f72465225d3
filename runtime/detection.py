"""Faces in a whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.engines import Engine
from mien.runtime.alignment import invert_similarity, transform_points
from mien.runtime.luma import (
    LumaSource,
    display_from_stored,
    reduced_luma,
    rotation_of,
    size_of,
)

INPUT_SIDE: Final = 320
CANDIDATES: Final = 200  # the best cells that are compared with each other


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found in a whole picture.

    box: x0, y0, x1, y1 in pixels of the stored picture, close around the 106 landmarks.
    points: float32 (3, 2), left eye, right eye (viewer's left in the displayed picture) and mouth,
        in pixels of the stored picture.
    score: 0..1.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float


class FaceDetector:
    """Finds faces anywhere in a picture, in the orientation it is displayed in."""

    def __init__(self, engine: Engine, *, threshold: float = 0.6, overlap: float = 0.4) -> None:
        self._engine = engine
        self._threshold = threshold
        self._overlap = overlap

    def __call__(self, luma: LumaSource) -> list[Detection]:
        """The faces of a picture, best first.

        luma: uint8 (H, W), or a Frame, whose rotation is obeyed.
        """
        size_wh, rotation = size_of(luma), rotation_of(luma)
        shrink = INPUT_SIDE / max(size_wh)
        small_wh = (max(1, round(size_wh[0] * shrink)), max(1, round(size_wh[1] * shrink)))
        small = np.rot90(reduced_luma(luma, small_wh), -rotation)
        results = self._engine.infer({"image": letterbox(small)})
        scores = results["scores"][0]
        boxes = results["boxes"][0]
        kept = suppress_overlaps(boxes, scores, threshold=self._threshold, overlap=self._overlap)
        frame_from_input = _frame_from_small(size_wh, small_wh) @ _homogeneous(
            invert_similarity(display_from_stored(small_wh, rotation))
        )
        return [
            _detection(frame_from_input, boxes[i], results["points"][0, i], float(scores[i]))
            for i in kept
        ]


def letterbox(small: np.ndarray) -> np.ndarray:
    """The detector's input: float32 (1, 1, 320, 320) in [0, 1], content at the left top, rest 0.

    small: uint8 (h, w), both sides at most 320.
    """
    image = np.zeros((1, 1, INPUT_SIDE, INPUT_SIDE), np.float32)
    height, width = small.shape
    np.multiply(small, np.float32(1 / 255), out=image[0, 0, :height, :width])
    return image


def suppress_overlaps(
    boxes: np.ndarray, scores: np.ndarray, *, threshold: float, overlap: float
) -> list[int]:
    """Which of `boxes` (n, 4) stay when of two that overlap only the better one does: best first.

    Boxes that score below `threshold` or have no area are left out. overlap: the intersection over
    union above which two boxes show the same face.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    candidates = np.flatnonzero((scores >= threshold) & (sides > 0).all(1))
    rest = candidates[np.argsort(-scores[candidates], kind="stable")][:CANDIDATES]
    kept: list[int] = []
    while len(rest):
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[overlaps(boxes[best], boxes[rest]) <= overlap]
    return kept


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of `box` (4,) with each of `boxes` (n, 4): (n,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    area = (box[2:] - box[:2]).prod()
    union = area + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared
    shares: np.ndarray = shared / np.maximum(union, 1e-9)
    return shares


def _frame_from_small(size_wh: tuple[int, int], small_wh: tuple[int, int]) -> np.ndarray:
    step_x, step_y = size_wh[0] / small_wh[0], size_wh[1] / small_wh[1]
    return np.array([[step_x, 0, step_x / 2 - 0.5], [0, step_y, step_y / 2 - 0.5]], np.float32)


def _homogeneous(matrix: np.ndarray) -> np.ndarray:
    return np.vstack([matrix, np.array([[0, 0, 1]], np.float32)])


def _detection(
    frame_from_input: np.ndarray, box: np.ndarray, points: np.ndarray, score: float
) -> Detection:
    corners = transform_points(frame_from_input, box.reshape(2, 2))
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    moved = transform_points(frame_from_input, points)
    return Detection((float(x0), float(y0), float(x1), float(y1)), moved, score)
