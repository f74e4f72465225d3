"""What a face shows: its landmarks by name, and what its brows, lids and lips do.

The head's pose is taken out first. Points that an expression hardly moves are fitted by a mean face
in three dimensions, seen from afar (scaled orthographic projection); every other point is taken to
lie as deep in the head as the mean face has it, and is turned to look straight ahead.

Source of the mean face: FaceMesh's points of the neutral pictures of faces160, turned likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mien.runtime.faces.topology import (
    CONTOUR,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_EYE_OUTER,
    LEFT_PUPIL,
    LIP_BOTTOM,
    LIP_TOP,
    MOUTH_LEFT_CORNER,
    MOUTH_RIGHT_CORNER,
    NOSE_BASE,
    NOSE_RIDGE,
    NOSE_SIDES,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_EYE_OUTER,
    RIGHT_PUPIL,
)

# Corners of the eyes, ridge and tip of the nose, the middle of its base.
RIGID = (52, 55, 58, 61, 43, 44, 45, 46, 49)
# Where the mean face has them: x to the viewer's right, y down, z away from the viewer, from the
# middle between the outer corners of the eyes, in distances between these.
RIGID_MEAN = np.array(
    [
        (-0.5000, 0.0000, 0.0005),
        (-0.1999, 0.0201, -0.0578),
        (0.1999, 0.0201, -0.0578),
        (0.5000, 0.0000, 0.0005),
        (0.0000, 0.0779, -0.2860),
        (0.0000, 0.1633, -0.3340),
        (0.0000, 0.3304, -0.4404),
        (0.0000, 0.4282, -0.4592),
        (0.0000, 0.5510, -0.2522),
    ]
)
# How deep the mean face has each of the 106 landmarks.
DEPTHS = np.array(
    [
        0.554,
        0.599,
        0.626,
        0.637,
        0.629,
        0.605,
        0.566,
        0.500,
        0.427,
        0.355,
        0.294,
        0.244,
        0.195,
        0.146,
        0.111,
        0.088,
        0.075,
        0.088,
        0.111,
        0.146,
        0.195,
        0.244,
        0.294,
        0.355,
        0.427,
        0.500,
        0.566,
        0.605,
        0.629,
        0.637,
        0.626,
        0.599,
        0.554,
        -0.032,
        -0.102,
        -0.180,
        -0.244,
        -0.275,
        -0.275,
        -0.244,
        -0.180,
        -0.102,
        -0.032,
        -0.286,
        -0.334,
        -0.440,
        -0.459,
        -0.163,
        -0.234,
        -0.252,
        -0.234,
        -0.163,
        0.001,
        -0.076,
        -0.097,
        -0.058,
        -0.077,
        -0.057,
        -0.058,
        -0.097,
        -0.076,
        0.001,
        -0.057,
        -0.077,
        -0.131,
        -0.188,
        -0.225,
        -0.240,
        -0.240,
        -0.225,
        -0.188,
        -0.131,
        -0.093,
        -0.073,
        -0.029,
        -0.093,
        -0.073,
        -0.029,
        -0.199,
        -0.199,
        -0.252,
        -0.252,
        -0.130,
        -0.130,
        -0.010,
        -0.126,
        -0.222,
        -0.230,
        -0.222,
        -0.126,
        -0.010,
        -0.086,
        -0.115,
        -0.141,
        -0.115,
        -0.086,
        -0.031,
        -0.124,
        -0.156,
        -0.124,
        -0.031,
        -0.112,
        -0.142,
        -0.112,
        -0.060,
        -0.060,
    ]
)
OUTER_EYES = (LEFT_EYE_OUTER, RIGHT_EYE_OUTER)
EYE_CORNERS = (52, 55, 58, 61)
UPPER_LIDS, LOWER_LIDS = (72, 75), (73, 76)
UPPER_BROWS = tuple(range(33, 43))
INNER_BROWS = (37, 38, 67, 68)
CORNERS = (MOUTH_LEFT_CORNER, MOUTH_RIGHT_CORNER)
LIP_GAP = (LIP_TOP, LIP_BOTTOM)


@dataclass(frozen=True, slots=True)
class FaceParts:
    """The landmarks of a face by name: float32 (n, 2) each, (2,) of a pupil.

    In pixels of the frame as it is stored. Left and right are the viewer's. contour: from the left
    temple over the chin to the right one. Eyes and lips: around, from the left corner over the
    top. Brows: the upper edge, then the lower one. nose: its ridge, base and sides.
    """

    contour: NDArray[np.float32]
    left_brow: NDArray[np.float32]
    right_brow: NDArray[np.float32]
    left_eye: NDArray[np.float32]
    right_eye: NDArray[np.float32]
    left_pupil: NDArray[np.float32]
    right_pupil: NDArray[np.float32]
    nose: NDArray[np.float32]
    outer_lips: NDArray[np.float32]
    inner_lips: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measures:
    """What a face does, much as action units (FACS) say it, with the head's pose taken out.

    All in distances between the outer corners of the eyes. Each is measured against the mean calm
    face, which has 0, but people differ: what a face does is the difference to the same person at
    rest. A broad smile is about +0.1 in `smile`.

    smile: how far the corners of the mouth are up (AU12; AU15 where negative). brows_up: the whole
    brows (AU1 and AU2; AU4 where negative). inner_brows_up: their inner ends (AU1; AU4 where
    negative). upper_lids_up: AU5; a blink or a smile where negative. lower_lids_up: AU7 and AU6.
    lips_apart: the gap between the lips, 0 where they touch (AU25 to AU27). mouth_wide: how much
    wider the mouth is (AU20; AU18 where negative).
    """

    smile: float
    brows_up: float
    inner_brows_up: float
    upper_lids_up: float
    lower_lids_up: float
    lips_apart: float
    mouth_wide: float

    def minus(self, rest: Measures) -> Measures:
        """The difference to another moment, such as the same person at rest."""
        return Measures(*(a - b for a, b in zip(_values(self), _values(rest), strict=True)))


# The measures of the mean calm face: the medians over the neutral pictures of the held-out people
# of faces160; lips that touch are 0 apart.
CALM = Measures(-0.796, 0.200, 0.155, 0.053, -0.038, 0.0, 0.544)


def face_parts(landmarks: NDArray[np.float32]) -> FaceParts:
    """The landmarks (106, 2) by name; copies."""

    def points(indices: Sequence[int]) -> NDArray[np.float32]:
        return landmarks[list(indices)]

    return FaceParts(
        contour=points(CONTOUR),
        left_brow=points(LEFT_BROW),
        right_brow=points(RIGHT_BROW),
        left_eye=points(LEFT_EYE),
        right_eye=points(RIGHT_EYE),
        left_pupil=landmarks[LEFT_PUPIL].copy(),
        right_pupil=landmarks[RIGHT_PUPIL].copy(),
        nose=points(NOSE_RIDGE + NOSE_BASE + NOSE_SIDES),
        outer_lips=points(OUTER_LIPS),
        inner_lips=points(INNER_LIPS),
    )


def measure_face(landmarks: NDArray[np.float32]) -> Measures:
    """What the face of landmarks (106, 2), in any picture and pose, does."""
    face = frontal(landmarks)

    def height(*points: int) -> float:
        return -float(face[list(points), 1].mean())

    def distance(first: int, second: int) -> float:
        return float(np.linalg.norm(face[first] - face[second]))

    def lid(points: tuple[int, int]) -> float:
        """How far a lid is above the line between its eye's corners, the mean of both eyes."""
        return height(*points) - height(*EYE_CORNERS)

    found = Measures(
        smile=height(*CORNERS),
        brows_up=height(*UPPER_BROWS),
        inner_brows_up=height(*INNER_BROWS),
        upper_lids_up=lid(UPPER_LIDS),
        lower_lids_up=lid(LOWER_LIDS),
        lips_apart=distance(*LIP_GAP),
        mouth_wide=distance(*CORNERS),
    )
    return found.minus(CALM)


def frontal(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Landmarks (106, 2) without the head's pose: x to the right, y down, outer-eye distances."""
    points = landmarks.astype(np.float64)
    rigid = list(RIGID)
    centre, mean = points[rigid].mean(0), RIGID_MEAN.mean(0)
    affine = np.linalg.lstsq(RIGID_MEAN - mean, points[rigid] - centre, rcond=None)[0].T
    # The nearest projection that a camera far away can be: two rows of a rotation, and a scale.
    u, singular, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt  # (2, 3)
    seen = (points - centre) / max(float(singular.mean()), 1e-9) + rows @ mean
    moved = (seen - np.outer(DEPTHS, rows[:, 2])) @ np.linalg.pinv(rows[:, :2]).T
    first, second = moved[list(OUTER_EYES)]
    return np.asarray(moved / max(float(np.linalg.norm(second - first)), 1e-9))


def _values(measures: Measures) -> tuple[float, ...]:
    return tuple(getattr(measures, field.name) for field in fields(measures))
