"""From moved landmarks to a dense flow on the aligned crop, and the folds of the skin.

The flow is a multiquadric interpolant (Hardy 1971) through the landmarks' new places: smooth, exact
at every landmark, and without training; still points around the face and on the crop's border keep
everything else where it is.

Skin that is pushed together folds where faces fold: from the wing of the nose to the corner of the
mouth, under the lower lid, beside the eye, between and above the brows, on the root of the nose.
Each fold is fine shading and never a stain: a groove with its two lit flanks, whose mean is zero,
so that cheeks and lips keep their brightness; how deep it is follows from how far the landmarks
beside it move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.runtime.faces.topology import CONTOUR, LEFT_BROW, LEFT_EYE_OUTER, MIRROR, RIGHT_BROW

SOFTNESS: Final = 0.03  # crop units: how round the interpolant is at a landmark
RIDGE: Final = 0.002  # keeps coinciding landmarks (closed lips, closed eyes) solvable
RING: Final = 0.13  # crop units beyond the contour at which nothing moves any more
FOREHEAD: Final = 0.20  # crop units above the brows likewise
OWN_THREAD_UNKNOWNS: Final = 99  # above, OpenCV hands a solve to LAPACK, and that to its threads
# The landmarks that carry the flow: every second one of the contour, and no eye centres or pupils,
# whose lids carry them. Fewer points make the system that is solved for every face smaller.
CARRIERS: Final = (*range(0, 33, 2), *range(33, 74), 75, 76, *range(78, 104))
BROW_TOPS: Final = (LEFT_BROW[0], LEFT_BROW[2], LEFT_BROW[4], *RIGHT_BROW[0:5:2])
BRIDGE_AND_TIP: Final = (43, 46)
BORDER: Final = np.array(
    [(a, b) for t in np.linspace(0, 1, 4) for a, b in ((t, 0.0), (t, 1.0), (0.0, t), (1.0, t))],
    np.float32,
)


# Points of the brows' lower edges, the lids or corners of the eyes below them, and the upper edges
# above, of both sides: what lies between is skin that a frown pushes together.
BROW_COLUMNS: Final = (
    (64, 53, 34), (65, 72, 35), (66, 54, 36), (67, 55, 37),
    (71, 60, 41), (70, 75, 40), (69, 59, 39), (68, 58, 38),
)  # fmt: skip
BROW_ROOM: Final = 0.3  # of the skin between a brow and its eye that is left; less folds the flow


def hold_brows(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The displacement under which brows keep off the eyes: float32 (106, 2).

    landmarks, displacement: (106, 2), crop units. Only brow points are held back.
    """
    held: np.ndarray = displacement.astype(np.float32).copy()
    lower, eye, upper = (list(points) for points in zip(*BROW_COLUMNS, strict=True))
    before = np.maximum(0, landmarks[eye, 1] - landmarks[lower, 1])
    after = landmarks[eye, 1] + displacement[eye, 1] - landmarks[lower, 1] - displacement[lower, 1]
    missing = np.maximum(0, BROW_ROOM * before - after)
    held[lower, 1] -= missing
    held[upper, 1] -= missing
    return held


class BrowRoom:
    """Keeps brows off the eyes through a video, without the tremble and the blinks of the lids."""

    CALM_S = 0.25  # time constant of how far brows are held back

    def __init__(self) -> None:
        self._held_back: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(
        self, landmarks: np.ndarray, displacement: np.ndarray, time_s: float
    ) -> np.ndarray:
        """As `hold_brows`, at a time: float32 (106, 2)."""
        now = hold_brows(landmarks, displacement) - displacement
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._held_back is None or not 0 < step_s < 1:
            self._held_back = now
        else:
            share = np.float32(1 - math.exp(-step_s / self.CALM_S))
            self._held_back = self._held_back + share * (now - self._held_back)
        held: np.ndarray = (displacement + self._held_back).astype(np.float32)
        return held


def still_points(landmarks: np.ndarray) -> np.ndarray:
    """Points that an edit must not move: (n, 2) in crop units, around the face and on the border.

    landmarks: (106, 2), crop units.
    """
    contour = landmarks[list(CONTOUR[::2])]
    outward = contour - landmarks[list(BRIDGE_AND_TIP)].mean(0)
    outward = outward / (np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6)
    forehead = landmarks[list(BROW_TOPS)] - np.array([0.0, FOREHEAD], np.float32)
    return np.concatenate([contour + RING * outward, forehead, BORDER]).astype(np.float32)


def dense_flow(landmarks: np.ndarray, displacement: np.ndarray, size: int = 64) -> np.ndarray:
    """The backward flow that moves each landmark by its displacement: float32 (2, size, size).

    landmarks, displacement: (106, 2), crop units. The value at a cell centre says where that point
    of the output comes from, relative to itself; it falls to exactly 0 at the border.
    """
    still = still_points(landmarks)
    carriers = list(CARRIERS)
    moved = landmarks[carriers] + displacement[carriers]
    centres = np.concatenate([moved, still]).astype(np.float32)
    values = np.zeros((len(centres), 2))
    values[: len(carriers)] = -displacement[carriers]
    weights = _weights(centres.astype(np.float64), values).astype(np.float32)
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    # row by row, each too small a product for BLAS to spread over threads (see `_solved`)
    flow = _grid_distances(axis, centres) @ weights[:-1] + weights[-1]
    taper = np.clip(np.minimum(axis, 1 - axis) / 0.06 - 0.15, 0, 1).astype(np.float32)
    field = flow.transpose(2, 0, 1) * (taper[:, None] * taper[None])
    return np.ascontiguousarray(field, np.float32)


def _weights(centres: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights (n + 1, 2) of the interpolant; the last row is its constant."""
    n = len(centres)
    offsets = centres[:, None] - centres[None]
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = -np.sqrt((offsets**2).sum(2) + SOFTNESS**2)
    system[np.arange(n), np.arange(n)] += RIDGE
    system[:n, n] = system[n, :n] = 1
    weights = _solved(system, np.concatenate([values, np.zeros((1, 2))]))
    weights[:n] *= -1  # so that the grid may use the distances as they are
    return weights


def _solved(system: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The solution (n, m) of a linear system (n, n) with right-hand sides (n, m).

    By blocks: up to 99 unknowns are solved in the calling thread, and products of 63 x 63 made
    there. Above, both OpenCV and NumPy hand the work to threads of their BLAS: with both cores busy
    a solve of these 126 unknowns took 18 ms so and 0.2 ms by blocks, and a fork in another thread,
    which ends the threads of OpenCV's BLAS, left the solve waiting for them for ever.
    """
    n, half = len(system), len(system) // 2
    if n <= OWN_THREAD_UNKNOWNS:
        return cv2.solve(system, values, flags=cv2.DECOMP_LU)[1]
    across = _solved(system[:half, :half], np.hstack([system[:half, half:], values[:half]]))
    upper, own = across[:, : n - half], across[:, n - half :]
    lower = system[half:, :half]
    rest = _solved(system[half:, half:] - lower @ upper, values[half:] - lower @ own)
    return np.concatenate([own - upper @ rest, rest])


def _grid_distances(axis: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Softened distances of every cell of the grid to every centre: (size, size, n)."""
    dx = (axis[:, None] - centres[None, :, 0]) ** 2
    dy = (axis[:, None] - centres[None, :, 1]) ** 2 + np.float32(SOFTNESS**2)
    squared = dy[:, None] + dx[None]
    distances: np.ndarray = np.sqrt(squared, out=squared)
    return distances


SIZE: Final = 128  # cells a side of the crop
GROOVE: Final = 1.5  # cells, standard deviation of a groove
FLANKS: Final = 4.0  # and of what its flanks give back
MAX_DEPTH: Final = 0.22  # relative luma at the bottom of the deepest groove
LEAST_DEPTH: Final = 0.004
STEPS: Final = 1000  # of a byte to a depth of 1
# Depth for a movement of one crop unit. Set by looking at clips at full size.
NASOLABIAL, LOWER_LID, CROWS_FEET, FROWN, FOREHEAD_CREASES, NOSE_ROOT = (
    1.5, 2.0, 1.2, 2.2, 1.5, 3.4,
)  # fmt: skip
NOSE_TO_CHEEK: Final = 1.2  # how much deeper a wrinkled nose folds the cheek than a raised corner
HALF_WIDTH: Final = 0.243  # crop units, from the ridge of the nose to the corner of an eye
RAMP: Final = 16  # points of a drawn curve


@dataclass(frozen=True, slots=True)
class _Side:
    """One half of the face: its landmarks by their numbers on the viewer's left."""

    points: np.ndarray
    moves: np.ndarray
    index: np.ndarray
    sign: float  # outward is sign * -x
    wide: float  # how wide this half appears, 1 where the face looks ahead

    def at(self, point: int) -> np.ndarray:
        """Where a landmark of the viewer's left half, or its mirror, is."""
        place: np.ndarray = self.points[self.index[point]]
        return place

    def up(self, *points: int) -> float:
        """How far landmarks move up, on average."""
        return -float(self.moves[self.index[list(points)], 1].mean())

    def outward(self, *points: int) -> float:
        """How far landmarks move away from the middle of the face."""
        return -self.sign * float(self.moves[self.index[list(points)], 0].mean())

    def off(self, x: float, y: float) -> np.ndarray:
        """An offset in crop units, x towards the outside, y down."""
        return np.array([-self.sign * x * self.wide, y], np.float32)


def folds(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray | None:
    """The relative change of brightness: float32 (128, 128), None where nothing folds.

    landmarks: (106, 2), crop units, where they are shown. displacement: (106, 2), by which they
    were moved there.
    """
    drawn = np.zeros((SIZE, SIZE), np.uint8)  # antialiasing is for bytes only
    same = np.arange(len(MIRROR))
    for index, sign in ((same, 1.0), (MIRROR, -1.0)):
        half = abs(float(landmarks[43, 0] - landmarks[index[LEFT_EYE_OUTER], 0]))
        wide = float(np.clip(half / HALF_WIDTH, 0.2, 1.2))
        _draw_half(drawn, _Side(landmarks, displacement, index, sign, wide))
    if drawn.max() < LEAST_DEPTH * STEPS:
        return None
    lines = drawn.astype(np.float32) / np.float32(STEPS)
    groove = cv2.GaussianBlur(lines, (0, 0), GROOVE)
    flanks = cv2.GaussianBlur(lines, (0, 0), FLANKS)
    # A line one cell wide keeps 0.4 / sigma of its value when it is blurred.
    gain: np.ndarray = (flanks - groove) * np.float32(GROOVE / 0.4)
    gain[[0, -1]] = 0
    gain[:, [0, -1]] = 0
    bounded: np.ndarray = np.clip(gain, -MAX_DEPTH, MAX_DEPTH)
    return bounded


def _draw_half(drawn: np.ndarray, side: _Side) -> None:
    corner_up, corner_out = side.up(84, 96), side.outward(84, 96)
    nose_up = side.up(82, 80)
    smile = max(0.0, corner_up) + 0.5 * max(0.0, corner_out)
    smile += NOSE_TO_CHEEK * max(0.0, nose_up)
    smile *= min(1.0, side.wide) ** 2  # a half that is turned away shows its fold edge on
    _draw(
        drawn,
        (side.at(82) + side.off(0.018, -0.018), side.off(0.03, 0.0)),
        side.at(84) + side.off(0.04, -0.012),
        NASOLABIAL * smile,
    )
    lid_up = side.up(57, 73, 56)
    _draw(
        drawn,
        (side.at(57) + side.off(0.012, 0.018), side.off(0.0, 0.018)),
        side.at(55) + side.off(0.004, 0.022),
        LOWER_LID * max(0.0, lid_up),
    )
    feet = CROWS_FEET * max(0.0, lid_up + 0.3 * max(0.0, corner_up))
    for rise in (-0.028, 0.0, 0.026):
        start = side.at(LEFT_EYE_OUTER) + side.off(0.022, 0.2 * rise + 0.004)
        _draw(drawn, (start, side.off(0.0, 0.004)), start + side.off(0.04, rise), feet * 0.7)
    knit = side.up(37, 67)
    frown = max(0.0, -knit) + max(0.0, -side.outward(37, 67)) * 0.8
    inner = (side.at(37) + side.at(67)) / 2 + side.off(-0.022, 0.0)
    _draw(drawn, (inner - [0, -0.02], side.off(0.004, 0.0)), inner - [0, 0.045], FROWN * frown)
    for height, share in ((0.055, 1.0), (0.09, 0.7)):
        depth = FOREHEAD_CREASES * share
        _draw(
            drawn,
            (side.at(34) - [0, height], side.off(0.0, -0.012)),
            side.at(36) - [0, height],
            depth * max(0.0, side.up(34, 35)),
        )
        _draw(
            drawn,
            (side.at(36) - [0, height], side.off(0.0, -0.004)),
            np.array([side.points[43, 0], float(side.at(37)[1])], np.float32) - [0, height],
            depth * max(0.0, knit),
        )
    root = NOSE_ROOT * max(0.0, nose_up)
    for down in (0.0, 0.03):
        start = side.points[43] + np.array([0, 0.012 + down], np.float32)
        _draw(drawn, (start, side.off(0.0, -0.006)), start + side.off(0.035, 0.022), root)


def _draw(
    drawn: np.ndarray, start_and_bow: tuple[np.ndarray, np.ndarray], end: np.ndarray, depth: float
) -> None:
    """Draw a bowed line that fades at both ends; points in crop units."""
    if depth < 0.002:
        return
    start, bow = start_and_bow
    t = np.linspace(0, 1, RAMP, dtype=np.float32)[:, None]
    curve = start + (end - start) * t + 4 * t * (1 - t) * bow
    fixed = np.round((curve * SIZE - 0.5) * 16).astype(np.int32)
    faded = depth * np.sin(np.pi * (t[:-1, 0] + 0.5 / RAMP)) ** 0.7
    for begin, finish, value in zip(fixed[:-1], fixed[1:], faded, strict=True):
        cv2.line(
            drawn,
            begin.tolist(),
            finish.tolist(),
            min(255.0, float(value) * STEPS),
            1,
            cv2.LINE_AA,
            4,
        )
