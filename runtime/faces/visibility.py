"""How much of an edit a face can take: from plainly seen (1) to not at all (0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.runtime.faces.landmarks import Landmarks
from mien.runtime.faces.topology import OUTER_LIPS, RIGID

# The rigid points in space, looking at the camera, x right, y down, z away from it, in eye
# distances: the symmetric mean over 4,672 near-frontal pictures, turned by their median
# pitch. `python -m mien.training.data.head_shape` prints this table.
RIGID_SHAPE: Final = np.array(
    [
        (-0.7137, -0.0124, 0.0409),
        (-0.2863, 0.0124, -0.0409),
        (0.2863, 0.0124, -0.0409),
        (0.7137, -0.0124, 0.0409),
        (-0.5000, 0.0000, 0.0000),
        (0.5000, 0.0000, 0.0000),
        (0.0000, 0.0703, -0.3721),
        (0.0000, 0.1876, -0.4474),
        (0.0000, 0.4159, -0.6135),
        (0.0000, 0.5544, -0.6469),
        (-0.2919, 0.6955, -0.2313),
        (-0.1348, 0.7326, -0.3317),
        (0.0000, 0.7408, -0.3582),
        (0.1348, 0.7326, -0.3317),
        (0.2919, 0.6955, -0.2313),
        (-0.1223, -0.0458, -0.2407),
        (0.1223, -0.0458, -0.2407),
        (-0.2298, 0.4122, -0.3435),
        (0.2298, 0.4122, -0.3435),
        (-0.3502, 0.5849, -0.1767),
        (0.3502, 0.5849, -0.1767),
    ],
    np.float64,
)
_CENTRED: Final = RIGID_SHAPE - RIGID_SHAPE.mean(0)
_RIGID_POINTS: Final = np.array(RIGID)
_INNER_POINTS: Final = np.array((*RIGID, *OUTER_LIPS))
_FIT: Final = np.linalg.pinv(_CENTRED)  # (3, 21)


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Where a head looks, by a weak-perspective fit to its rigid points.

    yaw_deg, pitch_deg: 0 looks at the camera; pitch is rough, noses differ.
    eye_distance_px: between the eye centres, as if the face looked at the camera.
    misfit: root mean square distance of the rigid points from a head's, in eye distances; a real
        face stays below 0.07.
    """

    yaw_deg: float
    pitch_deg: float
    eye_distance_px: float
    misfit: float


def head_pose(points: np.ndarray) -> HeadPose:
    """The pose of landmarks (106, 2), whatever their roll."""
    rigid = points[_RIGID_POINTS].astype(np.float64)
    rigid -= rigid.sum(0) / len(rigid)
    turn, scale = _nearest_turn(rigid.T @ _FIT.T)
    rest = (rigid - scale * (_CENTRED @ turn.T)) / scale
    # where the head's x, y and z axes point in the picture
    (across_x, down_x, depth_x), (across_y, down_y, depth_y) = turn.tolist()
    along = max(1e-9, math.hypot(across_x, across_y))
    ahead_x = (depth_x * across_x + depth_y * across_y) / along
    ahead_y = (across_x * depth_y - across_y * depth_x) / along
    ahead_z = across_x * down_y - down_x * across_y
    return HeadPose(
        yaw_deg=math.degrees(math.atan2(ahead_x, ahead_z)),
        pitch_deg=math.degrees(math.atan2(ahead_y, math.hypot(ahead_x, ahead_z))),
        eye_distance_px=scale,
        misfit=math.sqrt(float((rest * rest).sum()) / len(rest)),
    )


def _nearest_turn(affine: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two rows of the rotation nearest to a map (2, 3), and its mean scale.

    The factor of a polar decomposition: with A = M M^T, which is 2 x 2, the root of A and its
    inverse have a closed form (Higham, "Functions of Matrices", 2008, section 6.2).
    """
    (a, b), (_, d) = (affine @ affine.T).tolist()
    trace = max(a + d, 1e-18)
    # of points on a line the second singular value is 0, and any turn about it as near
    product = math.sqrt(max(a * d - b * b, (1e-6 * trace) ** 2))
    total = math.sqrt(trace + 2 * product)  # of the singular values
    p, q, r = (a + product) / total, b / total, (d + product) / total  # the root of A
    inverse_root = np.array([[r, -q], [-q, p]]) / product
    return inverse_root @ affine, max(1e-9, total / 2)


def visibility(found: Landmarks, size_wh: tuple[int, int]) -> float:
    """How much of an edit the face can take in this one frame, 0..1.

    It falls with turning away, with few pixels, with the landmark score (a hand before the face),
    in darkness, with landmarks that form no head, and beyond the border of the frame.
    size_wh: of the frame.
    """
    pose = head_pose(found.points)
    inside = _share_inside(found.points[_INNER_POINTS], size_wh)
    return (
        fade(abs(pose.yaw_deg), gone=40, full=25)
        * fade(abs(pose.pitch_deg), gone=45, full=30)
        * fade(pose.eye_distance_px, gone=8, full=14)
        * fade(pose.misfit, gone=0.16, full=0.09)
        * fade(found.score, gone=0.4, full=0.7)
        * fade(found.brightness, gone=0.03, full=0.08)
        * fade(found.contrast, gone=0.02, full=0.05)
        * fade(inside, gone=0.5, full=0.9)
    )


def _share_inside(points: np.ndarray, size_wh: tuple[int, int]) -> float:
    """How many of points (n, 2) lie within a frame."""
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    if x0 >= 0 and y0 >= 0 and x1 <= size_wh[0] - 1 and y1 <= size_wh[1] - 1:
        return 1.0
    inside = ((points >= 0) & (points <= np.array(size_wh) - 1)).all(1)
    return float(inside.mean())


def fade(value: float, *, gone: float, full: float) -> float:
    """0 at `gone`, 1 at `full`, linear between; either may be the larger."""
    return min(1.0, max(0.0, (value - gone) / (full - gone)))


class Presence:
    """Visibility smoothed over time: it rises in about 0.3 s and falls in about 0.12 s.

    full: whether a face starts with what is visible of it (it was there when the scene began)
        instead of rising from nothing (it came in later).
    """

    def __init__(self, *, full: bool = False, rise_s: float = 0.3, fall_s: float = 0.12) -> None:
        self._rise_s = rise_s
        self._fall_s = fall_s
        self._value = 0.0
        self._time_s: float | None = None
        self._is_given = full

    def __call__(self, wanted: float, time_s: float) -> float:
        """The presence at `time_s`, 0..1, on its way to `wanted`; a step back moves nothing."""
        if self._is_given:
            self._value, self._is_given = wanted, False
        step_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        low, high = step_s / self._fall_s, step_s / self._rise_s
        self._value += min(high, max(-low, wanted - self._value))
        return self._value
