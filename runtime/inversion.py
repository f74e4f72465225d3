"""Inversion: the latent code under which a generator shows a face, kept on the face's track.

A generator is asked for `generate(code)` and `generate(edited code)`; what the inversion cannot
reproduce stays as it is in the camera, for only the difference of the two is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.topology import CONTOUR

# How old what was made of a face may be: where it moves, and where it rests. At 25 and at 30 frames
# a second that is every third frame, and every eighth or ninth.
FRESH_S, RESTING_S = 0.09, 0.28
WAITS: Final = 1.7  # times as old at least where it waits for another frame
# By how much a part of a face has moved when it has: crop units, that a fifth of the points within
# the outline exceed, for the lips are a quarter of them. Half a pixel of 128: what rests trembles
# by a third of that.
MOVED: Final = 0.004
WITHIN: Final = slice(len(CONTOUR), None)  # the points of the outline slide along it
# The time constant over which the code in use follows the encoder's: crops are never twice the
# same, and the pictures of codes flicker with them.
CALM_S: Final = 0.1
# A gap from which nothing of the face before is kept: a cut, or another part of the file.
GAP_S: Final = 1.0


class Freshness:
    """Says when what was made of a face is made again: soon where it moves, late where it rests.

    fresh_s, resting_s: how old it may be then.
    """

    def __init__(self, fresh_s: float = FRESH_S, resting_s: float = RESTING_S) -> None:
        self._fresh_s, self._resting_s = fresh_s, max(fresh_s, resting_s)
        self._landmarks: np.ndarray | None = None
        self._made_s = math.inf  # never

    def is_due(
        self, landmarks: np.ndarray, time_s: float, *, changes: bool = False, waits: bool = False
    ) -> bool:
        """Whether to make it again now; True at first, and where time falls.

        landmarks: (106, 2), crop units. changes: whether what is asked for does, which is as much
        as a movement. waits: whether it had better be done in another frame, for in this one
        something else is.
        """
        age_s = time_s - self._made_s
        if self._landmarks is None or not 0 <= age_s < self._resting_s:
            return True
        least_s = self._fresh_s * (WAITS if waits else 1)
        return age_s >= least_s and (changes or has_moved(self._landmarks, landmarks))

    def made(self, landmarks: np.ndarray, time_s: float) -> None:
        """Remember that it was made of these landmarks."""
        self._landmarks, self._made_s = landmarks, time_s


def has_moved(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether a part of a face has moved on its crop; landmarks (106, 2), crop units."""
    away = np.linalg.norm(now[WITHIN] - before[WITHIN], axis=1)
    return bool(np.quantile(away, 0.8) > MOVED)


class Inversion:
    """The code of one face through a video: encoded now and then, and smoothed over time.

    encode: an aligned face to its code, float32 of one shape, such as (layers, width) in W+.
    fresh_s: how old the encoded code of a face that moves may be. calm_s: the time constant it is
        followed with.

    has_encoded: whether the last call has asked the encoder.
    """

    def __init__(
        self,
        encode: Callable[[AlignedFace], np.ndarray],
        *,
        fresh_s: float = FRESH_S,
        calm_s: float = CALM_S,
    ) -> None:
        self._encode = encode
        self._freshness, self._calm_s = Freshness(fresh_s), calm_s
        self._encoded: np.ndarray | None = None
        self._code: np.ndarray | None = None
        self._time_s = math.inf
        self.has_encoded = False

    def __call__(self, face: AlignedFace, time_s: float) -> np.ndarray:
        """The code to use for this frame: float32, of the encoder's shape.

        time_s: grows from call to call; where it falls, or leaps by GAP_S, all begins again.
        """
        step_s = time_s - self._time_s
        if not 0 <= step_s < GAP_S:
            self._encoded = self._code = None
        self.has_encoded = self._encoded is None or self._freshness.is_due(face.landmarks, time_s)
        if self._encoded is None or self.has_encoded:
            self._encoded = self._encode(face)
            self._freshness.made(face.landmarks, time_s)
        if self._code is None:
            self._code = self._encoded
        elif step_s > 0:
            kept = np.float32(math.exp(-step_s / self._calm_s))
            self._code = self._encoded + kept * (self._code - self._encoded)
        self._time_s = time_s
        return self._code
