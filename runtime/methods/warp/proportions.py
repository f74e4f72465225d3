"""Movements in proportion to the face: small mouths smile small, brows close to the eyes rise less.

The network answers with nearly the same amounts for everybody. On a mouth that is a third narrower
than most the same smile looks painted, a mouth that a smile has widened already tears when it is
stretched once more, and brows that lie close over deep-set eyes pull the lid's fold up into a
second brow. Lips that show teeth are not turned down as far as closed ones: the teeth do not move,
so the lips would be torn open over them in the middle.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.faces.topology import INNER_LIPS, LEFT_BROW, OUTER_LIPS, RIGHT_BROW
from mien.runtime.methods.warp.mouth import lips_gap

LIPS: Final = (*OUTER_LIPS, *INNER_LIPS)
BROWS: Final = (*LEFT_BROW, *RIGHT_BROW)
LEAST: Final = 0.62  # of a movement is shown, however small the part is
# Mouths wider than this share of the usual are stretched less, from WIDEST on by the least only.
WIDE, WIDEST, LEAST_STRETCH = 1.08, 1.25, 0.2
FARTHEST = 0.15  # of the mouth's width, how far a corner may move outwards
# Open lips, by their gap as a share of the mouth's width, are turned down less, to the least share.
OPEN, WIDE_OPEN, LEAST_TURN = 0.07, 0.15, 0.25
TURN = 0.02  # crop units between corners and middle from which a movement turns a mouth down
CALM_S: Final = 1.0  # time constant of the proportions, for speech and blinks change them
_NAMES: Final = tuple(action.name for action in ACTIONS)
WIDTH, BROW_HEIGHT = _NAMES.index("width"), _NAMES.index("inner_brows")


class Proportions:
    """How large the mouth of one person is, and how high their brows, against people in general."""

    def __init__(self) -> None:
        self._shares: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(
        self, landmarks: np.ndarray, displacement: np.ndarray, time_s: float
    ) -> np.ndarray:
        """The displacement in proportion to the face: float32 (106, 2).

        landmarks, displacement: (106, 2), crop units. The lips move as far as the mouth is wide,
        and brows rise as far as they lie above the eyes, where these are less than usual; lips
        move apart to the sides less where the mouth is wider, and never far beyond it.
        """
        width, brows, gap = self._follow(landmarks, time_s)
        brows = min(1.0, float(brows))
        fitted: np.ndarray = displacement.astype(np.float32).copy()
        lips = list(LIPS)
        fitted[lips] *= min(1.0, float(width))
        fitted[lips, 1] *= turned_share(displacement, float(gap))
        stretch = float(np.interp(width, (WIDE, WIDEST), (1.0, LEAST_STRETCH)))
        aside = landmarks[lips, 0] - landmarks[lips, 0].mean()
        outward = fitted[lips, 0] * np.sign(aside)
        if (most := float(outward.max())) > 0:
            stretch = min(stretch, FARTHEST * float(np.ptp(landmarks[lips, 0])) / most)
        fitted[lips, 0] *= np.where(outward > 0, np.float32(stretch), np.float32(1))
        raised = [point for point in BROWS if displacement[point, 1] < 0]
        fitted[raised, 1] *= brows
        return fitted

    def _follow(self, landmarks: np.ndarray, time_s: float) -> np.ndarray:
        does = actions_of(landmarks)
        usual = np.array([ACTIONS[WIDTH].neutral, ACTIONS[BROW_HEIGHT].neutral])
        now = np.clip(does[[WIDTH, BROW_HEIGHT]] / usual, LEAST, WIDEST)
        gap = lips_gap(landmarks) / max(float(np.ptp(landmarks[list(LIPS), 0])), 1e-6)
        now = np.append(now, min(gap, WIDE_OPEN)).astype(np.float32)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._shares is None or not 0 < step_s < 1:
            self._shares = now
        else:
            share = np.float32(1 - math.exp(-step_s / CALM_S))
            self._shares = self._shares + share * (now - self._shares)
        return self._shares


def turned_share(displacement: np.ndarray, gap: float) -> float:
    """How much of a movement of the lips is shown where they are open: all, where it lifts corners.

    displacement: (106, 2), crop units. gap: between the lips, as a share of the mouth's width.
    """
    corners = displacement[[OUTER_LIPS[0], OUTER_LIPS[6]], 1].mean()
    middle = displacement[[OUTER_LIPS[3], OUTER_LIPS[9]], 1].mean()
    turns_down = float(np.clip((corners - middle) / TURN, 0, 1))
    held = float(np.interp(gap, (OPEN, WIDE_OPEN), (1.0, LEAST_TURN)))
    return 1 - turns_down * (1 - held)
