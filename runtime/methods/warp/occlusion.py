"""What lies in front of a face's skin: glasses, and hands, cups or hair, followed over time."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from mien.engines import Engine
from mien.runtime.faces.alignment import crop_matrix, transform_points
from mien.runtime.faces.region import FOREHEAD
from mien.runtime.faces.topology import CONTOUR
from mien.runtime.frame import Frame
from mien.runtime.luma import sample_luma
from mien.runtime.methods.warp.flow import BROW_TOPS
from mien.runtime.methods.warp.mouth import lips_opening

SIZE: Final = 128  # cells a side of the crop
GLASSES, COVER = 0, 1
# How old an answer may be: a hand moves, glasses stay where the crop holds them.
FRESH_S, MOVING_S = 0.2, 0.1
CALM_S: Final = 0.35  # time constant of glasses, whose rims must not shimmer
# From which share on a cell says that there is something, and from which on fully; and from where
# on it counts as covered if there is: the network doubts parts of a rim, and at times a whole one
# that is only the shadow of a brow.
SURE: Final = {GLASSES: (0.45, 0.70), COVER: (0.45, 0.75)}
DOUBT: Final = {GLASSES: (0.25, 0.50), COVER: (0.45, 0.75)}
GROWN: Final = {GLASSES: 3, COVER: 3}  # cells, the side of the square that a mask grows by
LEAST_AREA: Final = {GLASSES: 55.0, COVER: 60.0}  # cells; less is a mistake of the network
# What is not the face is a cover to the network, so a cover counts where it lies well within the
# outline of the face, and around there: a hand to its wrist, and not the background by a cheek.
WITHIN, AROUND = 11, 41  # cells, sides of the squares that take from the one and add to the other
BESIDE_LIPS: Final = 7  # likewise, that adds to the inside of the mouth


class Occlusion:
    """Sees and remembers what covers one face."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._glasses: np.ndarray | None = None
        self._covered: np.ndarray | None = None
        self._is_moving = False
        self._time_s = math.inf  # never

    def __call__(self, frame: Frame, landmarks: np.ndarray, time_s: float) -> np.ndarray | None:
        """How much of each cell of the crop is covered: float32 (128, 128), or None.

        landmarks: (106, 2), frame pixels.
        """
        if self._is_due(time_s, MOVING_S if self._is_moving else FRESH_S):
            self._look(frame, landmarks, time_s)
            self._time_s = time_s
        return self._covered

    def _is_due(self, time_s: float, period_s: float) -> bool:
        """Whether a beat of the clock has come since the last look.

        Not so long after the last look, which would depend on the first: who begins in the middle
        of a clip sees the same frames as who began with it.
        """
        if not 0 <= time_s - self._time_s < period_s:
            return True
        return math.floor(time_s / period_s) != math.floor(self._time_s / period_s)

    def _look(self, frame: Frame, landmarks: np.ndarray, time_s: float) -> None:
        matrix = crop_matrix(landmarks, SIZE)
        face = sample_luma(frame, matrix, SIZE).astype(np.float32) / 255
        found = self._engine.infer({"face": face[None, None]})["covered"][0]
        step_s = time_s - self._time_s
        if self._glasses is None or not 0 <= step_s < 1:
            self._glasses = found[GLASSES]
        else:
            keep = np.float32(math.exp(-step_s / CALM_S))
            self._glasses = found[GLASSES] + keep * (self._glasses - found[GLASSES])
        points = (transform_points(matrix, landmarks) + 0.5) / SIZE
        layers = [
            _mask(self._glasses * face_outline(points, 1), GLASSES),
            _mask(on_the_face(found[COVER], points), COVER),
        ]
        self._is_moving = layers[COVER] is not None
        there = [layer for layer in layers if layer is not None]
        self._covered = np.maximum.reduce(there) if there else None


def face_outline(landmarks: np.ndarray, taken: int) -> np.ndarray:
    """The face and its forehead on the crop: float32 (128, 128), 0 or 1.

    landmarks: (106, 2), crop units. taken: cells, the side of a square by which it is smaller.
    """
    forehead = landmarks[list(BROW_TOPS)] - np.array([0.0, FOREHEAD], np.float32)
    outline = np.concatenate([landmarks[list(CONTOUR)], forehead[::-1]])
    points = np.round((outline * SIZE - 0.5) * 16).astype(np.int32)
    face = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(face, [cv2.convexHull(points)], 1, cv2.LINE_8, 4)
    inner: np.ndarray = cv2.erode(face, np.ones((taken, taken), np.uint8))
    return inner.astype(np.float32)


def on_the_face(cover: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Of what is not skin, what lies in front of the face: float32 (128, 128).

    cover: (128, 128) shares. landmarks: (106, 2), crop units.
    """
    core = (cover > 0.5) & (face_outline(landmarks, WITHIN) > 0) & ~_between_lips(landmarks)
    seen = _beyond_least(float(core.sum()), COVER)
    if seen <= 0:
        return np.zeros_like(cover)
    near = cv2.dilate(core.astype(np.uint8), np.ones((AROUND, AROUND), np.uint8))
    soft = cv2.blur(near.astype(np.float32), (9, 9))
    front: np.ndarray = cover * soft * np.float32(seen)
    return front


def _between_lips(landmarks: np.ndarray) -> np.ndarray:
    """The inside of the mouth and the edges of the lips around it: bool (128, 128).

    What covers a mouth reaches beyond it. The dark of one that is wide open looks like a
    microphone to the network, and is none.
    """
    inside = lips_opening(landmarks, SIZE) > 0
    around = cv2.dilate(inside.astype(np.uint8), np.ones((BESIDE_LIPS, BESIDE_LIPS), np.uint8))
    between: np.ndarray = around > 0
    return between


def _mask(share: np.ndarray, kind: int) -> np.ndarray | None:
    """A soft mask of what a network is sure enough of, grown by a cell: float32, or None."""
    seen = _beyond_least(float(_risen(share, *SURE[kind]).sum()), kind)
    if seen <= 0:
        return None
    covered = _risen(share, *DOUBT[kind])
    grown = cv2.dilate(covered, np.ones((GROWN[kind], GROWN[kind]), np.uint8))
    soft: np.ndarray = cv2.GaussianBlur(grown, (0, 0), 0.6)
    shown: np.ndarray = np.clip(soft * 1.15, 0, 1) * np.float32(seen)
    return shown


def _risen(share: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low` and 1 from `high` on: float32 of the shape of `share`."""
    risen: np.ndarray = np.clip((share - low) / (high - low), 0, 1).astype(np.float32)
    return risen


def _beyond_least(area: float, kind: int) -> float:
    """How much an area of cells counts: not at all at the least, wholly at twice that.

    Between two looks at the same face an area differs a little, and must not come and go with it.
    """
    return min(1.0, max(0.0, area / LEAST_AREA[kind] - 1))
