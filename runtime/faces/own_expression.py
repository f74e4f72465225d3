"""A person's own expression, more of it or less: scaled around what is their neutral face.

What a face does of its own is read from a few lengths that speech and turning the head hardly
change, and is taken against the neutral face: that of people in general at first, moved towards
this person's own while they are looked at, by as much as faces differ and no further, so that
somebody who smiles all the time is not taken for neutral.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.runtime.faces.action_units import action_unit
from mien.runtime.faces.topology import (
    INNER_LIPS,
    LEFT_EYE_CENTRE,
    LEFT_EYE_OUTER,
    OUTER_LIPS,
    RIGHT_EYE_CENTRE,
    RIGHT_EYE_OUTER,
)

LEAST, MOST = 0.25, 1.5  # of what may be asked for
LEARN_S: Final = 6.0  # time constant of the neutral face
CALM_S: Final = 0.06  # and of what a face does, for landmarks are noisy
STEP: Final = 1e-3
# How far a smile raises the lips as a whole for each unit that it lifts their corners above them:
# over 243 people with pictures of both, corners rose by 0.067, of which the upper lip did 0.039.
LIPS_TOO: Final = 1.6
# What a smile does to lift and width, and how far neutral faces of people lie apart in them, as
# standard deviations over 2,500 press faces. The width is that of as many smiles, beyond neutral.
# With this lift, FaceMesh sees as much of a smile as is asked for on 52 people of the training
# split. A smile is far wider than people differ by, and hardly higher: in a face that is not known,
# the width tells of the lift.
SMILE: Final = np.array([0.04, 0.128])
PEOPLE: Final = np.array([0.046, 0.051])
SURE: Final = (0.2, 0.6)  # smiles of a face that is not known: less is none, more is all of it


@dataclass(frozen=True, slots=True)
class Action:
    """Something that faces do.

    neutral: the median over 6,167 neutral press faces, outer-eye distances. spread: how far this
    person's may lie from it. unit, axes: the action unit that moves it, and in which axes.
    """

    name: str
    neutral: float
    spread: float
    unit: str
    axes: tuple[float, float]


ACTIONS: Final = (
    Action("lift", -0.047, 0.030, "12", (0.0, 1.0)),
    Action("width", 0.546, 0.040, "12", (1.0, 0.0)),
    Action("inner_brows", 0.184, 0.035, "1", (0.0, 1.0)),
    Action("outer_brows", 0.204, 0.030, "2", (0.0, 1.0)),
    Action("brows_apart", 0.323, 0.022, "4", (1.0, 0.0)),
)


_PRIOR: Final = np.array([action.neutral for action in ACTIONS])
_SPREAD: Final = np.array([action.spread for action in ACTIONS])
# The landmarks that they are read from.
_POINTS: Final = (
    *(98, 87, 84, 90, 37, 38, 67, 68, 34, 41, 64, 71),
    *(RIGHT_EYE_OUTER, LEFT_EYE_OUTER, LEFT_EYE_CENTRE, RIGHT_EYE_CENTRE),
)
_MEASURED: Final = np.array(_POINTS)


def actions_of(landmarks: np.ndarray) -> np.ndarray:
    """What a face does, in the order of ACTIONS: float64 (5,), outer-eye distances.

    landmarks: (106, 2), upright, in any unit.
    """
    places = landmarks[_MEASURED].tolist()
    x, y = (
        {point: place[axis] for point, place in zip(_POINTS, places, strict=True)}
        for axis in (0, 1)
    )
    unit = math.hypot(
        x[RIGHT_EYE_OUTER] - x[LEFT_EYE_OUTER], y[RIGHT_EYE_OUTER] - y[LEFT_EYE_OUTER]
    )
    eyes = (y[LEFT_EYE_CENTRE] + y[RIGHT_EYE_CENTRE]) / 2
    does = (
        (y[98] + y[87] - y[84] - y[90]) / 2,
        math.hypot(x[90] - x[84], y[90] - y[84]),
        eyes - (y[37] + y[38] + y[67] + y[68]) / 4,
        eyes - (y[34] + y[41] + y[64] + y[71]) / 4,
        math.hypot(x[38] - x[37], y[38] - y[37]),
    )
    return np.array(does) / max(unit, 1e-6)


class OwnExpression:
    """Scales the own expression of one face through a video.

    smile: how much of a whole smile the face shows, 0 to 1, after a call that scaled it.
    """

    def __init__(self) -> None:
        self.smile = 0.0
        self._neutral = _PRIOR.copy()
        self._known = 0.0  # of its neutral face
        self._shown: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(self, landmarks: np.ndarray, scale: float, time_s: float) -> np.ndarray:
        """The displacement that scales what the face does by `scale`: float32 (106, 2).

        landmarks: (106, 2), crop units. It learns whatever `scale` is; 1 moves nothing.
        """
        now = actions_of(landmarks)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._shown is None or not 0 < step_s < 1:
            self._shown = now
        else:
            self._shown = self._shown + (now - self._shown) * (1 - math.exp(-step_s / CALM_S))
            self._learn(step_s)
        if scale == 1:
            return np.zeros((106, 2), np.float32)
        return _movement(landmarks, (scale - 1) * self._own())

    def _own(self) -> np.ndarray:
        """What the face does of its own: (5,), the smile as a whole where little else is known."""
        assert self._shown is not None
        own: np.ndarray = self._shown - self._neutral
        weights = SMILE / PEOPLE**2
        smile = float(own[:2] @ weights / (SMILE @ weights))
        sure = float(np.interp(abs(smile), SURE, (0.0, 1.0)))
        shown = smile * (self._known + (1 - self._known) * sure)
        self.smile = min(1.0, max(0.0, shown))
        own[:2] = shown * SMILE + self._known * (own[:2] - smile * SMILE)
        return own

    def _learn(self, step_s: float) -> None:
        assert self._shown is not None
        prior, spread = _PRIOR, _SPREAD
        # What lies far from any neutral face says little of this one's.
        away = np.clip(self._shown - prior, -spread, spread)
        trust = np.exp(-0.5 * ((self._shown - prior) / (2 * spread)) ** 2)
        share = (1 - math.exp(-step_s / LEARN_S)) * trust
        self._known += (
            (1 - math.exp(-step_s / LEARN_S)) * float(trust[:2].mean()) * (1 - self._known)
        )
        self._neutral += share * (prior + away - self._neutral)


def _movement(landmarks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The displacement that changes the actions of a face by `wanted` (5,): float32 (106, 2).

    The units overlap (a smile widens and lifts), so the amounts of all are solved for together.
    """
    eyes = landmarks[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER]].astype(np.float64)
    size = float(np.hypot(*(eyes[1] - eyes[0])))
    moves = [action_unit(action.unit) * np.array(action.axes) * size for action in ACTIONS]
    start = actions_of(landmarks)
    points = landmarks.astype(np.float64)
    response = np.stack([(actions_of(points + STEP * m) - start) / STEP for m in moves], 1)
    amounts = np.linalg.solve(response, wanted)
    total = np.tensordot(amounts, np.stack(moves), 1)
    total[list(OUTER_LIPS + INNER_LIPS), 1] -= LIPS_TOO * wanted[0] * size
    # Cheeks and lower lids go with the corners of the mouth.
    total += 0.4 * amounts[0] * action_unit("6") * size
    return np.asarray(total, np.float32)
