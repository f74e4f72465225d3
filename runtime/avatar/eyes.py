"""Blinks and gaze of a still face: lids slide over the eyeball, the iris turns between them.

Each eye has a square of its own, laid along the line between its corners, in whose units an `Edit`
moves the picture. A lid covers and does not squeeze: the skin above stretches down to the lashes,
and what the lids leave open stays where it was.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mien.runtime.blending.blending import FaceEdit
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import fit_similarity, transform_points
from mien.runtime.faces.topology import LEFT_PUPIL, RIGHT_PUPIL
from mien.runtime.methods.warp.speech import LID_COLUMNS

# Of each eye: its corners from the viewer's left to right, points of the upper lid, of the lower,
# of the lower edge of the brow, and the pupil.
EYES: Final = (
    ((52, 55), (53, 72, 54), (57, 73, 56), (64, 65, 66, 67), LEFT_PUPIL),
    ((58, 61), (59, 75, 60), (63, 76, 62), (68, 69, 70, 71), RIGHT_PUPIL),
)
SIDE: Final = 1.9  # of the square, in widths of the eye
CORNER, LINE = 0.45, 1.05  # where in it the left corner and the line of the corners lie
MEETING: Final = 0.15  # of the opening, how far above the lower lid closed lids meet
IRIS: Final = 0.24  # widths of the eye, half of what moves as one body with the pupil
ASIDE, UP_DOWN = 0.16, 0.075  # widths of the eye that a gaze of 1 turns the iris by
LEAST_ROOM: Final = 0.3  # of the white beside the iris is left, however far it turns
BELOW: Final = 0.4  # widths of the eye below the lower lid that move with it
LASHES, LASH_WIDTH = 0.3, 0.035  # how dark the line of closed lids is, and how wide
CELLS: Final = (40, 160)  # of the square a side, at least and at most


class Eye:
    """One eye of a still face."""

    def __init__(self, landmarks: np.ndarray, side: int) -> None:
        """landmarks: float32 (106, 2), frame pixels. side: 0 the viewer's left, 1 the right."""
        corners, upper, lower, brow, pupil = EYES[side]
        ends = np.array([(CORNER, LINE), (CORNER + 1, LINE)]) / SIDE
        self._matrix = fit_similarity(landmarks[list(corners)], ends)
        points = transform_points(self._matrix, landmarks) * SIDE - [CORNER, LINE]
        side_px = 1 / float(np.hypot(*self._matrix[:, 0]))
        cells = int(np.clip(round(side_px), *CELLS))
        axis = (np.arange(cells) + 0.5) / cells * SIDE
        self._x, self._y = axis - CORNER, (axis - LINE)[:, None]
        self._lids = [_lid(points[list(lid)]) for lid in (upper, lower)]
        self._upper, self._lower = (_bow(lid, self._x) for lid in self._lids)
        self._lower = np.maximum(self._lower, self._upper)
        self._pupil = float(np.clip(points[pupil, 0], IRIS + 0.05, 0.95 - IRIS))
        above = float((points[list(upper), 1]).mean() - points[list(brow), 1].mean())
        self._room = float(np.clip(0.8 * above, 0.15, 0.6))

    def edit(self, closure: float, gaze: tuple[float, float]) -> FaceEdit | None:
        """What closes the eye and turns it, None where it is as in the picture.

        closure: 0 open as it was to 1 shut. gaze: -1..1, to the viewer's right and down.
        """
        if closure < 1e-3 and max(map(abs, gaze)) < 1e-3:
            return None
        flow, gain = self._moved(float(np.clip(closure, 0, 1)), gaze)
        return FaceEdit(self._matrix, Edit(flow=flow, gain=gain))

    def _moved(
        self, closure: float, gaze: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Flow (2, h, w) and, for closing lids, gain (h, w), in units of the square."""
        x, y, height = self._x, self._y, self._lower - self._upper
        inner = np.clip(height / max(0.7 * float(height.max()), 1e-6), 0, 1)
        down = gaze[1] * UP_DOWN * inner
        meeting = self._lower - MEETING * height
        raised = self._upper + down  # the upper lid goes along with the eyeball
        upper = raised + closure * (meeting - raised)
        lower = self._lower + closure * (meeting - self._lower)
        from_x = self._turned(gaze[0] * ASIDE)
        # An eye that looks up shows no more of what lies below: there the white is stretched.
        stretch = np.clip((self._lower - y) / np.maximum(0.4 * height, 1e-3), 0, 1)
        rim = 0.015 * min(1.0, 5 * max(map(abs, gaze)))
        top, bottom = (_bow(lid, from_x) for lid in self._lids)
        from_y = np.clip(y - down * stretch, top + rim, np.maximum(top, bottom - rim))
        skin_up = -(upper - self._upper) * _eased(
            (y - self._upper + self._room) / np.maximum(upper - self._upper + self._room, 1e-3)
        )
        skin_down = (self._lower - lower) * _eased((lower + BELOW - y) / BELOW)
        open_part = (y >= upper) & (y <= lower)
        flow_y = np.where(open_part, from_y - y, np.where(y < upper, skin_up, skin_down))
        flow_x = np.where(open_part, from_x - x, 0.0)
        flow = (np.stack([flow_x, flow_y]) / SIDE).astype(np.float32)
        flow[:, [0, -1]] = 0
        flow[:, :, [0, -1]] = 0
        if closure < 1e-3:
            return flow, None
        line = np.exp(-(((y - upper) / LASH_WIDTH) ** 2)) * np.minimum(inner, 1)
        gain = (-LASHES * closure * line).astype(np.float32)
        gain[[0, -1]] = 0
        gain[:, [0, -1]] = 0
        return flow, gain

    def _turned(self, shift: float) -> np.ndarray:
        """Where each column of the turned eye comes from: (w,), widths of the eye."""
        left, right = self._pupil - IRIS, self._pupil + IRIS
        free = (1 - LEAST_ROOM) * (left if shift < 0 else 1 - right)
        shift = float(np.clip(shift, -free, free))
        places = [0.0, left + shift, right + shift, 1.0]
        turned = np.interp(self._x, places, [0.0, left, right, 1.0])
        outside = (self._x <= 0) | (self._x >= 1)
        result: np.ndarray = np.where(outside, self._x, turned)
        return result


def closed_lids(landmarks: np.ndarray, closure: float) -> np.ndarray:
    """Landmarks (106, 2), upright, with their lids closed by 0..1 as `Eye` does: float32."""
    closed: np.ndarray = landmarks.astype(np.float32).copy()
    for eye in LID_COLUMNS:
        for upper, lower in eye:
            height = max(0.0, float(landmarks[lower, 1] - landmarks[upper, 1]))
            closed[upper, 1] += closure * (1 - MEETING) * height
            closed[lower, 1] -= closure * MEETING * height
    return closed


def _lid(points: np.ndarray) -> np.ndarray:
    """A lid between corners at (0, 0) and (1, 0): the factors of its bow, (2,).

    points: (3, 2) on it, widths of the eye. The lid is x (1 - x) (a + b x), by least squares.
    """
    x = np.clip(points[:, 0].astype(np.float64), 0.05, 0.95)
    base = x * (1 - x)
    columns = np.stack([base, base * x], 1)
    normal = columns.T @ columns + 1e-9 * np.eye(2)
    factors: np.ndarray = np.linalg.solve(normal, columns.T @ points[:, 1].astype(np.float64))
    return factors


def _bow(lid: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The lid's y at each x, 0 beyond the corners: (w,)."""
    inside = np.clip(x, 0, 1)
    bow: np.ndarray = inside * (1 - inside) * (lid[0] + lid[1] * inside)
    return bow


def _eased(share: np.ndarray) -> np.ndarray:
    """0 to 1 with level ends, and 1 over the last tenth, where the lashes are."""
    t = np.clip(share / 0.9, 0, 1)
    eased: np.ndarray = t * t * (3 - 2 * t)
    return eased
