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

# How old a code may be: a face that speaks changes within a few frames.
FRESH_S: Final = 0.06
# The time constant over which the code in use follows the encoder's: crops are never twice the
# same, and the pictures of codes flicker with them.
CALM_S: Final = 0.1
# A gap from which nothing of the face before is kept: a cut, or another part of the file.
GAP_S: Final = 1.0


class Inversion:
    """The code of one face through a video: encoded now and then, and smoothed over time.

    encode: an aligned face to its code, float32 of one shape, such as (layers, width) in W+.
    fresh_s: how old an encoded code may be. calm_s: the time constant it is followed with.
    """

    def __init__(
        self,
        encode: Callable[[AlignedFace], np.ndarray],
        *,
        fresh_s: float = FRESH_S,
        calm_s: float = CALM_S,
    ) -> None:
        self._encode = encode
        self._fresh_s, self._calm_s = fresh_s, calm_s
        self._encoded: np.ndarray | None = None
        self._code: np.ndarray | None = None
        self._encoded_s = self._time_s = math.inf

    def __call__(self, face: AlignedFace, time_s: float) -> np.ndarray:
        """The code to use for this frame: float32, of the encoder's shape.

        time_s: grows from call to call; where it falls, or leaps by GAP_S, all begins again.
        """
        step_s = time_s - self._time_s
        if not 0 <= step_s < GAP_S:
            self._encoded = self._code = None
        if self._encoded is None or not 0 <= time_s - self._encoded_s < self._fresh_s:
            self._encoded = self._encode(face)
            self._encoded_s = time_s
        if self._code is None:
            self._code = self._encoded
        elif step_s > 0:
            kept = np.float32(math.exp(-step_s / self._calm_s))
            self._code = self._encoded + kept * (self._code - self._encoded)
        self._time_s = time_s
        return self._code
