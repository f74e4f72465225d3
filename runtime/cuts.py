"""Cuts: where a video goes on with another picture."""

from __future__ import annotations

from typing import Final

import numpy as np

from mien.runtime.luma import LumaSource, thinned_luma

SIZE_WH: Final = (32, 18)
FLAT: Final = 4.0  # standard deviation (of 255) below which a picture shows nothing to compare
# Correlation of two thumbnails below which they show two scenes. Neighbouring frames of nine real
# clips stay above 0.66 (a camera that swings), frames of two clips below 0.54.
DIFFERENT: Final = 0.55


class CutDetector:
    """Tells whether a frame begins another scene, from small copies of the frames.

    Only the pattern is compared, so a flash or a change of exposure is no cut; a picture without
    a pattern (black, white) is passed over and what follows compared with what came before.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing; the next frame has none before it."""
        self._pattern: np.ndarray | None = None

    def __call__(self, luma: LumaSource) -> bool:
        """Whether this frame shows another scene than the one before; False for the first."""
        small = thinned_luma(luma, SIZE_WH).astype(np.float32)
        spread = float(small.std())
        if spread < FLAT:
            return False
        pattern = (small - small.mean()) / np.float32(spread)
        before, self._pattern = self._pattern, pattern
        return before is not None and float((before * pattern).mean()) < DIFFERENT
