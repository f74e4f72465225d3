"""What of a face belongs to the person who speaks: how far lips and lids are open.

An expression shapes the lips and narrows the eyes. How far the lips part is speech, and a closed
lid is a blink; both are taken from the frame itself, without smoothing and without delay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mien.runtime.faces.topology import CONTOUR, INNER_LIPS, OUTER_LIPS

# How much of the opening that an emotion asks for may be shown where lips rest, in the order of
# EMOTIONS: surprise and fear part them, nothing else does. Fear draws them to the sides: with all
# of the opening that the network asks for, it looks like surprise, or like a cry.
OPENS: Final = (0.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0)
# A mouth that opens like that is narrower; how much narrower the same emotion makes one that it may
# not open, which would look pursed.
NARROWER: Final = 0.25
# And how much of what is not shown of it the lower lip takes back. In fear that is most: both lips
# would hang in the middle under its drawn corners, like a smile's.
FROM_BELOW: Final = (0.5, 0.5, 0.5, 0.5, 0.8, 0.5, 0.5, 0.5)
SMILES_OPEN: Final = (0.05, 0.13)  # crop units between the lips of smiles, and of what is none
# Inner lip points over each other with the outer ones beyond them: upper outer, upper inner,
# lower inner, lower outer; from the viewer's left to right.
LIP_COLUMNS: Final = ((86, 97, 103, 94), (87, 98, 102, 93), (88, 99, 101, 92))
# Outer points beside the columns: upper, lower, and the column that they go with.
LIP_SIDES: Final = ((85, 95, 0), (89, 91, 2))
BESIDE: Final = 0.6  # how far they follow it
JAW: Final = tuple(CONTOUR[9:24])
# Lids over each other, upper first, of both eyes.
LID_COLUMNS: Final = (((53, 57), (72, 73), (54, 56)), ((59, 63), (75, 76), (60, 62)))
_JAW: Final = np.array(JAW)  # indices that NumPy takes without making them ones
_LIDS: Final = np.array(LID_COLUMNS)
_LIPS: Final = np.array((*OUTER_LIPS, *INNER_LIPS))
NARROWEST: Final = 0.4  # of an eye's opening may be taken: it is narrowed, never shut
WIDEST: Final = 0.52  # of it may be added; eyes opened further look drawn
OPEN_EYES: Final = 0.037  # crop units, how far the mean face's eyes are open


def keep_lips(
    displacement: np.ndarray,
    opening: float = 0.0,
    closing: Sequence[float] = (0.0, 0.0, 0.0),
    from_below: float = 0.5,
) -> np.ndarray:
    """The displacement that leaves the lips as far open as they are, but for `closing`.

    displacement: (106, 2), crop units; so is the result, float32. opening: how much of the opening
    that the displacement asks for is shown, 0 for none of it, 1 for all. closing: crop units by
    which the lips come nearer in each of LIP_COLUMNS. from_below: how much of an opening that is
    not shown the lower lip takes back, the upper one the rest. Lips move as wholes, so each keeps
    the thickness that the displacement gives it.
    """
    kept: np.ndarray = displacement.astype(np.float32)
    moves = displacement[:, 1].tolist()
    shifts = []
    for (_, upper, lower, _), nearer in zip(LIP_COLUMNS, closing, strict=True):
        asked = moves[lower] - moves[upper]
        shown = max(0.0, asked) * opening
        taken = asked - shown
        share = from_below if taken > 0 else 0.5
        shifts.append(((1 - share) * taken + nearer / 2, -share * taken - nearer / 2))
    for (up_outer, up, low, low_outer), (above, below) in zip(LIP_COLUMNS, shifts, strict=True):
        kept[up_outer, 1] += above
        kept[up, 1] += above
        kept[low, 1] += below
        kept[low_outer, 1] += below
    for above, below, column in LIP_SIDES:
        kept[above, 1] += shifts[column][0] * BESIDE
        kept[below, 1] += shifts[column][1] * BESIDE
    dropped = np.maximum(np.float32(0), kept[_JAW, 1])
    kept[_JAW, 1] -= dropped * np.float32(1 - min(1.0, opening))
    return kept


def taken_from_below(weights: np.ndarray) -> float:
    """FROM_BELOW of a mix of emotions, by its weights (8,); a half where there is none."""
    total = float(weights.sum())
    return float(weights @ np.array(FROM_BELOW)) / total if total > 0 else 0.5


def spoken_width(displacement: np.ndarray, landmarks: np.ndarray, unopened: float) -> np.ndarray:
    """The displacement that narrows lips less where they may not open: float32 (106, 2).

    displacement, landmarks: (106, 2), crop units. unopened: how much of the opening that narrows
    them is not shown, 0 to 1.
    """
    kept: np.ndarray = displacement.astype(np.float32)
    if unopened > 0:
        aside = landmarks[_LIPS, 0] - landmarks[_LIPS, 0].mean()
        inward = kept[_LIPS, 0] * aside < 0
        kept[_LIPS, 0] *= np.where(inward, np.float32(1 - (1 - NARROWER) * unopened), 1)
    return kept


def softened_lips(landmarks: np.ndarray, share: float, usual_gap: float) -> list[float]:
    """How far lips that a smile has parted come nearer where it is softened, for `keep_lips`.

    landmarks: (106, 2), crop units. share: of the opening, 0 to 1. usual_gap: of `RestingLips`, or
    every movement of the lips would show twice over. Lips that are wide open are left alone: that
    is a laugh or a vowel, and closing them would press a whole mouth flat.
    """
    gaps = [max(0.0, float(landmarks[c[2], 1] - landmarks[c[1], 1])) for c in LIP_COLUMNS]
    share *= float(np.interp(usual_gap, SMILES_OPEN, (1.0, 0.0)))
    return [share * gap for gap in gaps]


def lid_heights(landmarks: np.ndarray) -> np.ndarray:
    """How far the lids of both eyes are apart at three places: (2, 3), in the landmarks' units."""
    edges = landmarks[_LIDS, 1]  # (2, 3, 2)
    heights: np.ndarray = (edges[..., 1] - edges[..., 0]).astype(np.float64)
    return heights


def lids_opening(landmarks: np.ndarray) -> np.ndarray:
    """How far each eye is open, the mean over its lids: (2,), in the units of `landmarks`."""
    return _opening(lid_heights(landmarks))


def _opening(heights: np.ndarray) -> np.ndarray:
    """The means of (2, 3) heights over each eye: (2,)."""
    opening: np.ndarray = heights.sum(1) / heights.shape[1]
    return opening


def keep_blinks(
    landmarks: np.ndarray, displacement: np.ndarray, steady: np.ndarray, open_eyes: np.ndarray
) -> np.ndarray:
    """The displacement under which closed lids stay closed: float32 (106, 2).

    landmarks, displacement: (106, 2), crop units. steady: (2, 3) of `SteadyLids`. open_eyes: (2,),
    how far this person's eyes are open between blinks, crop units. What an expression adds to or
    takes from an opening is scaled with it, so the edited opening is the person's own times a
    number. Narrowed eyes follow the lids of the frame, which damps their noise; widened ones follow
    the steady lids, for those of the frame would have it doubled.
    """
    kept: np.ndarray = displacement.astype(np.float32)
    moves = displacement[:, 1].tolist()
    heights = lid_heights(landmarks)
    openings = _opening(heights).tolist()
    eyes = zip(LID_COLUMNS, heights.tolist(), steady.tolist(), strict=True)
    for (eye, own, calm), opening, usual in zip(eyes, openings, open_eyes.tolist(), strict=True):
        calm_opening = sum(calm) / len(calm)
        for (upper, lower), own_height, calm_height in zip(eye, own, calm, strict=True):
            change = moves[lower] - moves[upper]
            widens = change > 0
            height = max(0.0, calm_height if widens else own_height)
            ratio = (calm_opening if widens else opening) / max(usual, 0.015)
            change *= min(1.25, max(0.0, ratio))
            shown = min(WIDEST * height, max(-NARROWEST * height, change))
            middle = (moves[upper] + moves[lower]) / 2
            kept[upper, 1] = middle - shown / 2
            kept[lower, 1] = middle + shown / 2
    return kept


class SteadyLids:
    """How far lids are apart, without the noise of landmarks and without delay in a blink.

    An edit that widens an eye by half widens what the landmarks tremble by half as well.
    """

    CALM_S = 0.2  # time constant of what is taken for noise
    NOISE = 0.1  # of an open eye; twice as much is followed at once

    def __init__(self) -> None:
        self._heights: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(self, landmarks: np.ndarray, open_eyes: np.ndarray, time_s: float) -> np.ndarray:
        """The heights (2, 3) to go by in this frame, crop units.

        landmarks: (106, 2), crop units. open_eyes: (2,) of `OpenEyes`.
        """
        now = lid_heights(landmarks)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._heights is None or not 0 < step_s < 1:
            self._heights = now
            return now
        away = np.abs(_opening(now - self._heights)) / np.maximum(open_eyes, 0.015)
        slow = 1 - math.exp(-step_s / self.CALM_S)
        share = slow + (1 - slow) * np.clip(away / self.NOISE - 1, 0, 1)
        self._heights = self._heights + share[:, None] * (now - self._heights)
        return self._heights


class OpenEyes:
    """How far a person's eyes are open between blinks, learnt while they are looked at."""

    def __init__(self) -> None:
        self._opening = np.full(2, OPEN_EYES)
        self._seen_s = 0.0
        self._time_s: float | None = None

    def __call__(self, landmarks: np.ndarray, time_s: float) -> np.ndarray:
        """The opening of both in crop units (2,) after a frame; landmarks (106, 2), crop units."""
        now = lids_opening(landmarks)
        step_s = 0.0 if self._time_s is None else min(0.1, max(0.0, time_s - self._time_s))
        self._time_s = time_s
        if self._seen_s == 0.0:
            self._opening = np.where(now > 0.5 * OPEN_EYES, now, OPEN_EYES)
        self._seen_s += step_s + 1e-6
        # Up quickly, down slowly: a blink takes a sixth of a second, a squint lasts.
        rate = np.where(now > self._opening, 2.0, 0.25)
        self._opening = self._opening + (now - self._opening) * np.minimum(1.0, step_s * rate)
        return self._opening


class RestingLips:
    """How far lips that rest may be opened by an expression, and not while they speak.

    At rest for a while they may open slowly; at the first movement they are the speaker's again.
    Lips that are open already show what a mouth holds, and are not stretched over it; how far they
    are is taken over a while, for the opening would show the noise of a frame's lips twice over.

    usual_gap: how far they are, so taken, crop units.
    """

    WAIT_S = 1.5
    OPEN_S = 0.35
    SHUT_S = 0.06
    STILL = 0.22  # crop units a second
    COMPARE_S = 0.03  # over less, the noise of landmarks is faster than lips that speak
    CALM_S = 0.25  # time constant of the gap that lips rest at
    # Crop units between the lips from which nothing opens them further: over the dark of a mouth,
    # and over teeth, which would hang in it.
    OPEN_ALREADY, TEETH_ALREADY = 0.085, 0.04

    def __init__(self) -> None:
        self.usual_gap = 0.0
        self._compared: tuple[float, float] | None = None  # a gap, and when it was
        self._rests = True
        self._time_s = 0.0
        self._still_s = 0.0
        self._value = 1.0  # a picture, and the start of a scene: at rest until they move

    @property
    def at_rest(self) -> float:
        """0 while they speak to 1 where they rest, open or not; as of the last call."""
        return self._value

    def __call__(self, gap: float, time_s: float, bared: float = 0.0) -> float:
        """0 while they speak or are open to 1 where they rest closed.

        gap: crop units. bared: how much what shows between them looks like teeth, 0 to 1.
        """
        if self._compared is None:
            self.usual_gap, self._compared = gap, (gap, time_s)
            self._time_s, self._still_s = time_s, self.WAIT_S
        step_s = time_s - self._time_s
        if step_s > 0:
            self._time_s = time_s
            self._follow(gap, step_s, *self._compared)
        open_already = self.OPEN_ALREADY + bared * (self.TEETH_ALREADY - self.OPEN_ALREADY)
        return self._value * max(0.0, 1 - self.usual_gap / open_already)

    def _follow(self, gap: float, step_s: float, compared: float, compared_s: float) -> None:
        since_s = self._time_s - compared_s
        if since_s >= self.COMPARE_S:
            self._rests = abs(gap - compared) / since_s < self.STILL
            self._compared = gap, self._time_s
        self.usual_gap += (gap - self.usual_gap) * (1 - math.exp(-step_s / self.CALM_S))
        self._still_s = self._still_s + step_s if self._rests else 0.0
        if self._still_s >= self.WAIT_S:
            self._value = min(1.0, self._value + step_s / self.OPEN_S)
        elif self._still_s < 0.2:
            self._value = max(0.0, self._value - step_s / self.SHUT_S)
