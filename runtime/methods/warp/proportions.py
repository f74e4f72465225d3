"""Movements in proportion to the face: small mouths smile small, brows close to the eyes rise less.

The network answers with nearly the same amounts for everybody. On a mouth that is a third narrower
than most the same smile looks painted, a mouth that a smile has widened already tears when it is
stretched once more, and brows that lie close over deep-set eyes pull the lid's fold up into a
second brow. Brows sink as far as there is room above the eyes. Lips that show teeth are not turned
down as far as closed ones: the teeth do not move, so the lips would be torn open over them in the
middle. Corners never sink far below the lips beside them, or they end in a hook. Wings of a nose
rise a little, and its tip with them, or the nose is pinched to a V. All this is decided of the
movement at strength 1, so that what is shown grows with the strength.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.faces.topology import (
    INNER_LIPS,
    LEFT_BROW,
    NOSE_RIDGE,
    NOSE_SIDES,
    OUTER_LIPS,
    RIGHT_BROW,
)
from mien.runtime.methods.warp.flow import BROW_COLUMNS, BROW_ROOM
from mien.runtime.methods.warp.mouth import lips_gap

LIPS: Final = (*OUTER_LIPS, *INNER_LIPS)
BROWS: Final = (*LEFT_BROW, *RIGHT_BROW)
LEAST: Final = 0.62  # of a movement is shown, however small the part is
# Mouths wider than this share of the usual are stretched less, from WIDEST on by the least only.
WIDE, WIDEST, LEAST_STRETCH = 1.08, 1.25, 0.2
FARTHEST = 0.15  # of the mouth's width, how far a corner may move outwards
# Open lips, by their gap as a share of the mouth's width, are turned and narrowed less.
OPEN, WIDE_OPEN, LEAST_TURN = 0.05, 0.09, 0.25
# The strength at which brows have sunk as far as there is room, and the least share of it shown.
FULLY_SUNK, LEAST_SINK = 1.2, 0.3
WINGS, TIP = NOSE_SIDES[2:], NOSE_RIDGE[2:]
WINGS_UP, TIP_FOLLOWS = 0.045, 0.35  # crop units that wings rise at most, and the tip's share of it
# The corners of the mouth and the points beside each on both lips.
CORNERS: Final = ((84, (85, 95)), (90, (89, 91)), (96, (97, 103)), (100, (99, 101)))
CORNER_SINKS: Final = 0.015  # crop units that a corner may sink below them
SINKS: Final = 0.004  # crop units by which a brow that sinks comes nearer to its eye
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
        self, landmarks: np.ndarray, displacement: np.ndarray, strength: float, time_s: float
    ) -> np.ndarray:
        """The displacement in proportion to the face and at its strength: float32 (106, 2).

        landmarks: (106, 2), crop units. displacement: (106, 2), as asked for at strength 1. The
        lips move as far as the mouth is wide, and brows rise as far as they lie above the eyes,
        where these are less than usual; lips move apart to the sides less where the mouth is
        wider, and never far beyond it; brows sink into the room that there is by FULLY_SUNK.
        """
        width, brows, gap, sink = self._follow(
            landmarks, sinking_share(landmarks, displacement), time_s
        )
        displacement = without_hooks(with_gentle_nose(displacement))
        fitted: np.ndarray = displacement * np.float32(strength)
        lips = list(LIPS)
        fitted[lips] *= min(1.0, float(width))
        fitted[lips, 1] *= turned_share(displacement, float(gap))
        stretch = float(np.interp(width, (WIDE, WIDEST), (1.0, LEAST_STRETCH)))
        aside = landmarks[lips, 0] - landmarks[lips, 0].mean()
        outward = fitted[lips, 0] * np.sign(aside)
        if (most := float(outward.max())) > 0:
            stretch = min(stretch, FARTHEST * float(np.ptp(landmarks[lips, 0])) / most)
        fitted[lips, 0] *= np.where(outward > 0, stretch, held_share(float(gap)))
        brow_points = np.array(BROWS)
        is_up = displacement[brow_points, 1] < 0
        fitted[brow_points, 1] *= np.where(is_up, min(1.0, float(brows)), float(sink))
        return fitted

    def _follow(self, landmarks: np.ndarray, sink: float, time_s: float) -> np.ndarray:
        does = actions_of(landmarks)
        usual = np.array([ACTIONS[WIDTH].neutral, ACTIONS[BROW_HEIGHT].neutral])
        now = np.clip(does[[WIDTH, BROW_HEIGHT]] / usual, LEAST, WIDEST)
        gap = lips_gap(landmarks) / max(float(np.ptp(landmarks[list(LIPS), 0])), 1e-6)
        now = np.append(now, (min(gap, WIDE_OPEN), sink)).astype(np.float32)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._shares is None or not 0 < step_s < 1:
            self._shares = now
        else:
            share = np.float32(1 - math.exp(-step_s / CALM_S))
            self._shares = self._shares + share * (now - self._shares)
        return self._shares


def with_gentle_nose(displacement: np.ndarray) -> np.ndarray:
    """The displacement with wings of the nose that rise a little, and the tip with them.

    displacement: (106, 2), crop units. Returns float32 (106, 2).
    """
    held: np.ndarray = displacement.astype(np.float32).copy()
    wings, tip = list(WINGS), list(TIP)
    rise = float(-held[wings, 1].min())
    if rise > 0:
        held[wings, 1] *= min(1.0, WINGS_UP / rise)
        held[tip, 1] -= TIP_FOLLOWS * max(0.0, float(-held[wings, 1].mean()))
    return held


def without_hooks(displacement: np.ndarray) -> np.ndarray:
    """The displacement with corners of the mouth that sink together with the lips beside them.

    displacement: (106, 2), crop units. Returns float32 (106, 2).
    """
    held: np.ndarray = displacement.astype(np.float32).copy()
    for corner, beside in CORNERS:
        sinks = float(displacement[corner, 1] - displacement[list(beside), 1].mean())
        held[corner, 1] -= max(0.0, sinks - CORNER_SINKS)
    return held


def sinking_share(landmarks: np.ndarray, displacement: np.ndarray) -> float:
    """How much of what sinks the brows is shown, for them to reach the eyes at FULLY_SUNK only.

    landmarks, displacement: (106, 2), crop units.
    """
    lower, eye, _ = (list(points) for points in zip(*BROW_COLUMNS, strict=True))
    room = (1 - BROW_ROOM) * np.maximum(0, landmarks[eye, 1] - landmarks[lower, 1])
    needed = FULLY_SUNK * (displacement[lower, 1] - displacement[eye, 1])
    sinks = needed > SINKS
    if not sinks.any():
        return 1.0
    # the usual column: by the narrowest one, which `BrowRoom` holds, anger would hardly be seen
    return float(np.clip(np.median(room[sinks] / needed[sinks]), LEAST_SINK, 1.0))


def turned_share(displacement: np.ndarray, gap: float) -> float:
    """How much of a movement of the lips is shown where they are open: all, where it lifts corners.

    displacement: (106, 2), crop units. gap: between the lips, as a share of the mouth's width.
    """
    corners = displacement[[OUTER_LIPS[0], OUTER_LIPS[6]], 1].mean()
    middle = displacement[[OUTER_LIPS[3], OUTER_LIPS[9]], 1].mean()
    turns_down = float(np.clip((corners - middle) / TURN, 0, 1))
    return 1 - turns_down * (1 - held_share(gap))


def held_share(gap: float) -> float:
    """How much is shown of what would turn open lips down or narrow them, their teeth with them.

    gap: between the lips, as a share of the mouth's width.
    """
    return float(np.interp(gap, (OPEN, WIDE_OPEN), (1.0, LEAST_TURN)))
