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
from collections.abc import Sequence
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
_CARRIERS: Final = np.array(CARRIERS)  # indices that NumPy takes without making them ones
_EVERY_SECOND: Final = np.array(CONTOUR[::2])
BROW_TOPS: Final = (LEFT_BROW[0], LEFT_BROW[2], LEFT_BROW[4], *RIGHT_BROW[0:5:2])
_BROW_TOPS: Final = np.array(BROW_TOPS)
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
_LOWER_BROWS, _EYES, _UPPER_BROWS = np.array(BROW_COLUMNS).T
BROW_ROOM: Final = 0.3  # of the skin between a brow and its eye that is left; less folds the flow


def hold_brows(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The displacement under which brows keep off the eyes: float32 (106, 2).

    landmarks, displacement: (106, 2), crop units. Only brow points are held back.
    """
    held: np.ndarray = displacement.astype(np.float32)
    lower, eye, upper = _LOWER_BROWS, _EYES, _UPPER_BROWS
    before = np.maximum(0, landmarks[eye, 1] - landmarks[lower, 1])
    after = landmarks[eye, 1] + displacement[eye, 1] - landmarks[lower, 1] - displacement[lower, 1]
    missing = np.maximum(0, BROW_ROOM * before - after)
    held[lower, 1] -= missing
    held[upper, 1] -= missing
    return held


class BrowRoom:
    """Keeps brows off the eyes through a video, without the tremble and the blinks of the lids.

    Brows are held back by what they need without an emotion, what they need at its strongest, and
    in proportion between: they move evenly with the emotion and do not stop halfway.
    """

    CALM_S = 0.25  # time constant of how far brows are held back

    def __init__(self) -> None:
        self._held_back: np.ndarray | None = None
        self._share = 0.0
        self._time_s = 0.0

    def __call__(
        self,
        landmarks: np.ndarray,
        own: np.ndarray,
        strongest: np.ndarray,
        share: float,
        time_s: float,
    ) -> np.ndarray:
        """The displacement that holds brows back at a time: float32 (106, 2).

        landmarks, own, strongest: (106, 2), crop units; the latter two are the person's own
        movement and what the emotion adds to it at the most. share: of that which is shown, 0 to 1.
        """
        moves = own, own + strongest
        now = np.stack([hold_brows(landmarks, move) - move for move in moves]).astype(np.float32)
        step_s = time_s - self._time_s
        if self._held_back is None or not 0 < step_s < 1:
            self._held_back = now
        else:
            follow = np.float32(1 - math.exp(-step_s / self.CALM_S))
            self._held_back = self._held_back + follow * (now - self._held_back)
            if self._share == 0:  # what nothing showed yet need not come slowly
                self._held_back[1] = now[1]
        self._share, self._time_s = share, time_s
        least, most = self._held_back
        shown: np.ndarray = least + np.float32(share) * (most - least)
        return shown


def still_points(landmarks: np.ndarray) -> np.ndarray:
    """Points that an edit must not move: (n, 2) in crop units, around the face and on the border.

    landmarks: (106, 2), crop units.
    """
    contour = landmarks[_EVERY_SECOND]
    bridge, tip = BRIDGE_AND_TIP
    outward = contour - (landmarks[bridge] + landmarks[tip]) / 2
    lengths = np.hypot(outward[:, 0], outward[:, 1]) + 1e-6
    ring = contour + outward * (RING / lengths)[:, None]
    forehead = landmarks[_BROW_TOPS] - np.array([0.0, FOREHEAD], np.float32)
    return np.concatenate([ring, forehead, BORDER]).astype(np.float32)


def dense_flow(landmarks: np.ndarray, displacement: np.ndarray, size: int = 64) -> np.ndarray:
    """The backward flow that moves each landmark by its displacement: float32 (2, size, size).

    landmarks, displacement: (106, 2), crop units. The value at a cell centre says where that point
    of the output comes from, relative to itself; it falls to exactly 0 at the border.
    """
    carried = displacement[_CARRIERS]
    centres = np.concatenate([landmarks[_CARRIERS] + carried, still_points(landmarks)])
    centres = centres.astype(np.float32)
    values = np.zeros((len(centres), 2))
    values[: len(carried)] = -carried
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
    x, y = centres[:, 0], centres[:, 1]
    squared, aside = x[:, None] - x, y[:, None] - y
    squared *= squared
    aside *= aside
    squared += aside
    squared += SOFTNESS**2
    system = np.zeros((n + 1, n + 1))
    np.negative(np.sqrt(squared, out=squared), out=system[:n, :n])
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
LEAST_CURVE: Final = 0.002  # depth of a curve below which nothing is seen of it
# Depth for a movement of one crop unit. Set by looking at clips at full size.
NASOLABIAL, LOWER_LID, CROWS_FEET, FROWN, FOREHEAD_CREASES, NOSE_ROOT = (
    1.5, 2.0, 1.2, 2.2, 1.5, 3.4,
)  # fmt: skip
NOSE_TO_CHEEK: Final = 1.2  # how much deeper a wrinkled nose folds the cheek than a raised corner
_MIRRORED: Final = tuple(MIRROR.tolist())
HALF_WIDTH: Final = 0.243  # crop units, from the ridge of the nose to the corner of an eye
POINTS: Final = 48  # that draw a curve, each at most a cell from the next
ENDS: Final = 1.5  # cells by which a drawn line is longer than its curve
_ALONG: Final = ((np.arange(POINTS) + 0.5) / POINTS)[:, None]  # 0 at a curve's start, 1 at its end
_BOWED: Final = 4 * _ALONG * (1 - _ALONG)
_FADING: Final = np.sin(np.pi * _ALONG[:, 0]) ** 0.7

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Side:
    """One half of the face: its landmarks by their numbers on the viewer's left.

    points, moves: all landmarks and their displacement, crop units. Plain numbers, for they are
    taken one by one.
    """

    points: list[list[float]]
    moves: list[list[float]]
    index: Sequence[int]
    sign: float  # outward is sign * -x
    wide: float  # how wide this half appears, 1 where the face looks ahead

    def at(self, point: int) -> Point:
        """Where a landmark of the viewer's left half, or its mirror, is."""
        x, y = self.points[self.index[point]]
        return x, y

    def up(self, *points: int) -> float:
        """How far landmarks move up, on average."""
        return -sum(self.moves[self.index[point]][1] for point in points) / len(points)

    def outward(self, *points: int) -> float:
        """How far landmarks move away from the middle of the face, on average."""
        aside = sum(self.moves[self.index[point]][0] for point in points) / len(points)
        return -self.sign * aside

    def off(self, x: float, y: float) -> Point:
        """An offset in crop units, x towards the outside, y down."""
        return -self.sign * x * self.wide, y


@dataclass(frozen=True, slots=True)
class _Curve:
    """A bowed line that fades at both ends; places in crop units."""

    start: Point
    end: Point
    bow: Point  # how far its middle lies off the straight line
    depth: float


def folds(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray | None:
    """The relative change of brightness: float32 (128, 128), None where nothing folds.

    landmarks: (106, 2), crop units, where they are shown. displacement: (106, 2), by which they
    were moved there.
    """
    points, moves = landmarks.tolist(), displacement.tolist()
    curves: list[_Curve] = []
    for index, sign in ((range(len(MIRROR)), 1.0), (_MIRRORED, -1.0)):
        half = abs(points[43][0] - points[index[LEFT_EYE_OUTER]][0])
        wide = min(1.2, max(0.2, half / HALF_WIDTH))
        curves += _curves(_Side(points, moves, index, sign, wide))
    curves = [curve for curve in curves if curve.depth >= LEAST_CURVE]
    if not curves:
        return None
    lines = _drawn(curves)
    groove = cv2.GaussianBlur(lines, (0, 0), GROOVE)
    flanks = cv2.GaussianBlur(lines, (0, 0), FLANKS)
    # A line one cell wide keeps 0.4 / sigma of its value when it is blurred.
    gain: np.ndarray = (flanks - groove) * np.float32(GROOVE / 0.4)
    gain[[0, -1]] = 0
    gain[:, [0, -1]] = 0
    np.clip(gain, -MAX_DEPTH, MAX_DEPTH, out=gain)
    return gain


def _curves(side: _Side) -> list[_Curve]:
    """The folds of one half of the face, of any depth."""
    corner_up, corner_out = side.up(84, 96), side.outward(84, 96)
    nose_up, lid_up, knit = side.up(82, 80), side.up(57, 73, 56), side.up(37, 67)
    smile = max(0.0, corner_up) + 0.5 * max(0.0, corner_out) + NOSE_TO_CHEEK * max(0.0, nose_up)
    smile *= min(1.0, side.wide) ** 2  # a half that is turned away shows its fold edge on
    feet = CROWS_FEET * max(0.0, lid_up + 0.3 * max(0.0, corner_up))
    frown = max(0.0, -knit) + max(0.0, -side.outward(37, 67)) * 0.8
    (brow_x, brow_y), (under_x, under_y) = side.at(37), side.at(67)
    inner = _plus(((brow_x + under_x) / 2, (brow_y + under_y) / 2), side.off(-0.022, 0.0))
    ridge_x, ridge_y = side.points[43]
    curves = [
        _Curve(
            _plus(side.at(82), side.off(0.018, -0.018)),
            _plus(side.at(84), side.off(0.04, -0.012)),
            side.off(0.03, 0.0),
            NASOLABIAL * smile,
        ),
        _Curve(
            _plus(side.at(57), side.off(0.012, 0.018)),
            _plus(side.at(55), side.off(0.004, 0.022)),
            side.off(0.0, 0.018),
            LOWER_LID * max(0.0, lid_up),
        ),
        _Curve(
            _plus(inner, (0.0, 0.02)),
            _plus(inner, (0.0, -0.045)),
            side.off(0.004, 0.0),
            FROWN * frown,
        ),
    ]
    for rise in (-0.028, 0.0, 0.026):
        start = _plus(side.at(LEFT_EYE_OUTER), side.off(0.022, 0.2 * rise + 0.004))
        end = _plus(start, side.off(0.04, rise))
        curves.append(_Curve(start, end, side.off(0.0, 0.004), feet * 0.7))
    for height, share in ((0.055, 1.0), (0.09, 0.7)):
        depth, middle = FOREHEAD_CREASES * share, _plus(side.at(36), (0.0, -height))
        outer, ridge = _plus(side.at(34), (0.0, -height)), (ridge_x, brow_y - height)
        raised = depth * max(0.0, side.up(34, 35))
        curves.append(_Curve(outer, middle, side.off(0.0, -0.012), raised))
        curves.append(_Curve(middle, ridge, side.off(0.0, -0.004), depth * max(0.0, knit)))
    for down in (0.0, 0.03):
        start = (ridge_x, ridge_y + 0.012 + down)
        end = _plus(start, side.off(0.035, 0.022))
        curves.append(_Curve(start, end, side.off(0.0, -0.006), NOSE_ROOT * max(0.0, nose_up)))
    return curves


def _plus(point: Point, offset: Point) -> Point:
    return point[0] + offset[0], point[1] + offset[1]


def _drawn(curves: Sequence[_Curve]) -> np.ndarray:
    """The curves as lines of about a cell's width: float32 (SIZE, SIZE), depths.

    All at once: every point of every curve gives its depth to the four cells around it.
    """
    numbers = [(*curve.start, *curve.end, *curve.bow, curve.depth) for curve in curves]
    table = np.array(numbers)[:, None]  # (n, 1, 7)
    starts, ends, bows, depths = table[..., :2], table[..., 2:4], table[..., 4:6], table[..., 6]
    places = (starts + (ends - starts) * _ALONG + bows * _BOWED) * SIZE - 0.5
    steps = places[:, 1:] - places[:, :-1]
    lengths = np.hypot(steps[..., 0], steps[..., 1]).sum(1, keepdims=True)
    ink = (lengths + ENDS) / POINTS * depths * _FADING
    # with cells around, which take what falls beyond the crop
    first = np.clip(np.floor(places), -2, SIZE)
    right, below = np.moveaxis(np.clip(places - first, 0, 1), 2, 0)
    wide = SIZE + 4
    corner = ((first[..., 1] + 2) * wide + first[..., 0] + 2).astype(np.int64)
    upper, lower = ink * (1 - below), ink * below
    cells = np.stack([corner, corner + 1, corner + wide, corner + wide + 1])
    shares = np.stack([upper * (1 - right), upper * right, lower * (1 - right), lower * right])
    drawn = np.bincount(cells.ravel(), shares.ravel(), wide * wide).reshape(wide, wide)
    return np.ascontiguousarray(drawn[2:-2, 2:-2], np.float32)
