"""What a face shows, in the few numbers that other programs move a face by.

A face that is edited, or an avatar's, shows the expression that it has reached. Of any other face
the expression is read from a few lengths (`actions_of`), turned to look straight ahead, against
those of the neutral face of people in general: roughly, for people differ. Lids, mouth, gaze and
head are always read from the landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.runtime.avatar.eyes import ASIDE, EYES, UP_DOWN
from mien.runtime.faces.expression import frontal
from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.faces.visibility import head_pose
from mien.runtime.live.values import LiveFrame
from mien.runtime.target import EMOTIONS

# In outer-eye distances: from where on a movement is an expression, and where it is one in full.
# Set on six portraits, two of them smiling, as they are and with the edits of the method warp.
SMILE: Final = (0.06, 0.20)  # corners of the mouth up, and half of what it is wider
FROWN: Final = (0.04, 0.12)  # corners of the mouth down
BROWS: Final = (0.03, 0.09)  # outer brows up or down
KNIT: Final = (0.04, 0.12)  # brows nearer to each other
WIDE: Final = 0.10  # by which a mouth is spread or rounded in full
GAPE: Final = 0.30  # between lips that are wide apart
OPEN: Final = 0.22  # of the width of an eye, its height where nothing is known of the person
SHUT: Final = 0.35  # of a person's own opening, at which lids count as shut
FORGET: Final = 0.999  # a frame, of how wide a person's eyes have been


@dataclass(frozen=True, slots=True)
class FaceReading:
    """One face at one moment. Left and right are the viewer's, and gaze is as of `Command.look`.

    weights: of EMOTIONS, each 0..1. closed: of the left and the right lids, 0..1. opening, width:
    of the mouth, as of `Mouth`. smile, brows: -1..1. yaw_deg, pitch_deg, roll_deg: of the head, to
    the viewer's right, down and clockwise.
    """

    weights: tuple[float, ...] = (0.0,) * len(EMOTIONS)
    closed: tuple[float, float] = (0.0, 0.0)
    opening: float = 0.0
    width: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    smile: float = 0.0
    brows: float = 0.0
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


class FaceReader:
    """Reads the largest face of each frame, and remembers how wide its eyes were."""

    def __init__(self) -> None:
        self._widest = [OPEN, OPEN]

    def __call__(self, frame: LiveFrame) -> FaceReading | None:
        """What the face shows, None where there is none."""
        if not frame.faces:
            return None
        face = max(frame.faces, key=lambda each: float(np.ptp(each.landmarks[:, 1])))
        measures, pose = face.measures, head_pose(face.landmarks)
        points = face.landmarks.astype(np.float64)
        across = points[EYES[1][0][1]] - points[EYES[0][0][0]]
        eyes = [self._eye(points, side) for side in (0, 1)]
        smile, brows, weights = _expression(face.landmarks)
        wanted = dict(frame.applied.goals).get(face.track_id)
        if wanted is not None:
            weights = {
                name: float(wanted.strength * w)
                for name, w in zip(EMOTIONS, wanted.weights, strict=True)
            }
        return FaceReading(
            weights=tuple(min(1.0, max(0.0, weights.get(name, 0.0))) for name in EMOTIONS),
            closed=(eyes[0][0], eyes[1][0]),
            opening=min(1.0, measures.lips_apart / GAPE),
            width=float(np.clip(measures.mouth_wide / WIDE, -1, 1)),
            gaze=((eyes[0][1] + eyes[1][1]) / 2, (eyes[0][2] + eyes[1][2]) / 2),
            smile=smile,
            brows=brows,
            yaw_deg=pose.yaw_deg,
            pitch_deg=pose.pitch_deg,
            roll_deg=math.degrees(math.atan2(across[1], across[0])),
        )

    def _eye(self, points: np.ndarray, side: int) -> tuple[float, float, float]:
        """How far one eye's lids are closed, and where it looks, right and down."""
        (first, last), upper, lower, _, pupil = EYES[side]
        along = points[last] - points[first]
        width = max(float(np.hypot(*along)), 1e-6)
        down = np.array([-along[1], along[0]]) / width
        height = float((points[list(lower)] - points[list(upper)]).mean(0) @ down) / width
        self._widest[side] = max(height, FORGET * self._widest[side], 0.5 * OPEN)
        open_share = (height / self._widest[side] - SHUT) / (0.8 - SHUT)
        off = points[pupil] - (points[first] + points[last]) / 2
        right, below = float(off @ along) / width**2, float(off @ down) / width
        return (
            float(np.clip(1 - open_share, 0, 1)),
            float(np.clip(right / ASIDE, -1, 1)),
            float(np.clip((below + 0.25 * height) / (2 * UP_DOWN), -1, 1)),
        )


def _expression(landmarks: np.ndarray) -> tuple[float, float, dict[str, float]]:
    """Smile and brows, -1..1, and the emotions that a face's movements are typical of."""
    found = zip(ACTIONS, actions_of(frontal(landmarks)), strict=True)
    off = {action.name: float(length) - action.neutral for action, length in found}
    smile = _share(max(0.0, off["lift"] + 0.5 * off["width"]), SMILE)
    frown = _share(max(0.0, -off["lift"]), FROWN)
    brows, knit = _share(off["outer_brows"], BROWS), _share(max(0.0, -off["brows_apart"]), KNIT)
    calm = 1 - smile
    weights = {
        "happy": smile,
        "sad": frown * calm * (1 - knit),
        "surprised": max(0.0, brows) * calm * (1 - frown),
        "angry": knit * calm,
    }
    return smile - frown * calm, brows, weights


def _share(moved: float, bounds: tuple[float, float]) -> float:
    """A movement as a share of a full one, -1..1."""
    low, high = bounds
    return math.copysign(min(1.0, max(0.0, (abs(moved) - low) / (high - low))), moved)
