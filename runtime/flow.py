"""From moved landmarks to a dense flow: radial basis functions on the aligned crop.

A multiquadric interpolant through the landmarks' new places (Hardy 1971) is smooth, reproduces
every landmark, and needs no training; still points around the face and on the crop's border hold
everything else where it is.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from mien.runtime.topology import CONTOUR, LEFT_BROW, RIGHT_BROW

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
BROW_ROOM: Final = 0.36  # of the skin between a brow and its eye that is left; less folds the flow


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
