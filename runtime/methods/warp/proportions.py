"""Movements of the mouth in proportion to it: wide mouths are stretched less, bared teeth held.

The network is taught by faces of its own size and sharpness; on a mouth that a smile has widened
already, the same movement tears it. Lips that show teeth are neither turned down nor narrowed as
far as closed ones: the teeth do not move, so the lips would be torn open over them in the middle.
All this is decided of the movement at strength 1, so that what is shown grows with the strength.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.faces.topology import INNER_LIPS, OUTER_LIPS
from mien.runtime.methods.warp.mouth import bared_teeth, lips_gap

LIPS: Final = (*OUTER_LIPS, *INNER_LIPS)
# Mouths wider than this share of the usual are stretched less, from WIDEST on by the least only.
WIDE, WIDEST, LEAST_STRETCH = 1.08, 1.25, 0.2
NARROWEST: Final = 0.62  # share of the usual width below which nothing more is told apart
FARTHEST = 0.2  # of the mouth's width, how far a corner may move outwards
LOWEST = 0.28  # of it, how far they may sink below the lips' middle; below, they hang in hooks
# Open lips, by their gap as a share of the mouth's width, are turned and narrowed less: from where,
# and where to the least, for lips over teeth and over the dark of a mouth.
OPEN, WIDE_OPEN, LEAST_TURN = (0.05, 0.085), (0.09, 0.14), 0.25
TURN = 0.02  # crop units between corners and middle from which a movement turns a mouth down
CALM_S: Final = 1.0  # time constant of the proportions, for speech changes them
WIDTH: Final = [action.name for action in ACTIONS].index("width")


class Proportions:
    """How wide the mouth of one person is against people in general, and how far it is open.

    bared: how much what shows between the lips looks like teeth, 0 to 1, after a call.
    """

    def __init__(self) -> None:
        self.bared = 0.0
        self._shares: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(
        self, face: AlignedFace, displacement: np.ndarray, strength: float, time_s: float
    ) -> np.ndarray:
        """The displacement in proportion to the mouth and at its strength: float32 (106, 2).

        displacement: (106, 2), as asked for at strength 1, crop units. Lips move apart to the sides
        less where the mouth is wide, and never far beyond it; where they are open, they are turned
        down and narrowed less, over teeth from the first.
        """
        landmarks = face.landmarks
        width, gap, self.bared = self._follow(face, time_s).tolist()
        held = held_share(gap, self.bared)
        fitted: np.ndarray = displacement.astype(np.float32) * np.float32(strength)
        lips = list(LIPS)
        mouth = float(np.ptp(landmarks[lips, 0]))
        fitted[lips, 1] *= turned_share(displacement, held)
        fitted[lips, 1] *= min(1.0, LOWEST * mouth / max(turn_of(fitted), 1e-6))
        stretch = float(np.interp(width, (WIDE, WIDEST), (1.0, LEAST_STRETCH)))
        aside = landmarks[lips, 0] - landmarks[lips, 0].mean()
        outward = fitted[lips, 0] * np.sign(aside)
        if (most := float(outward.max())) > 0:
            stretch = min(stretch, FARTHEST * mouth / most)
        fitted[lips, 0] *= np.where(outward > 0, stretch, held)
        return fitted

    def _follow(self, face: AlignedFace, time_s: float) -> np.ndarray:
        landmarks = face.landmarks
        width = float(actions_of(landmarks)[WIDTH]) / ACTIONS[WIDTH].neutral
        gap = lips_gap(landmarks) / max(float(np.ptp(landmarks[list(LIPS), 0])), 1e-6)
        bared = bared_teeth(face.pixels, landmarks)
        now = np.array([np.clip(width, NARROWEST, WIDEST), min(gap, WIDE_OPEN[1]), bared])
        now = now.astype(np.float32)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._shares is None or not 0 < step_s < 1:
            self._shares = now
        else:
            share = np.float32(1 - math.exp(-step_s / CALM_S))
            self._shares = self._shares + share * (now - self._shares)
        return self._shares


def turn_of(displacement: np.ndarray) -> float:
    """How far a displacement (106, 2) lowers the corners of the mouth against its middle."""
    corners = displacement[[OUTER_LIPS[0], OUTER_LIPS[6]], 1].mean()
    middle = displacement[[OUTER_LIPS[3], OUTER_LIPS[9]], 1].mean()
    return float(corners - middle)


def turned_share(displacement: np.ndarray, held: float) -> float:
    """How much of a movement of the lips is shown: `held`, and all where it lifts the corners.

    displacement: (106, 2), crop units.
    """
    turns_down = min(1.0, max(0.0, turn_of(displacement) / TURN))
    return 1 - turns_down * (1 - held)


def held_share(gap: float, bared: float) -> float:
    """How much is shown of what would turn open lips down or narrow them, their teeth with them.

    gap: between the lips, as a share of the mouth's width. bared: of `Proportions`.
    """
    bounds = [over[1] + bared * (over[0] - over[1]) for over in (OPEN, WIDE_OPEN)]
    return float(np.interp(gap, bounds, (1.0, LEAST_TURN)))
