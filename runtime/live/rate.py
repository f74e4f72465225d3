"""Frames left out on purpose, where fewer are wanted than the camera gives."""

from __future__ import annotations

import math
from typing import Final

from mien.engines.errors import UsageError

# Of a beat. A camera's clock trembles: a frame this early is not worth waiting for the next.
_EARLY: Final = 0.2


class RateLimit:
    """Lets at most `rate` frames a second through, evenly; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise UsageError(f"a rate of {rate:g} frames a second makes no sense")
        self._step_s = 0.0 if rate is None else 1 / rate
        self._due_s: float | None = None

    def beats(self, time_s: float) -> float:
        """0 where the frame of this time is left out, else how many frames the rate had room for.

        That is since the last one that was let through, this one included; more than 1 means that
        frames are missing, as far as the camera gave any. Without a rate there is room for all.
        """
        if not self._step_s:
            return math.inf
        due_s = self._due_s
        if due_s is None or time_s < due_s - 2 * self._step_s:
            due_s = time_s  # the first one, or another clock
        late = (time_s - due_s) / self._step_s
        if late < -_EARLY:
            return 0
        # The beat is kept, also over frames that are missing or late: the one after is not early.
        self._due_s = due_s + (max(0, math.floor(late + 0.01)) + 1) * self._step_s
        return math.floor(late + _EARLY) + 1
