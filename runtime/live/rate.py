"""Frames left out on purpose, where fewer are wanted than the camera gives."""

from __future__ import annotations

import math

from mien.engines.errors import UsageError


class RateLimit:
    """Lets at most `rate` frames a second through, evenly; None lets all through."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise UsageError(f"a rate of {rate:g} frames a second makes no sense")
        self._step_s = 0.0 if rate is None else 1 / rate
        self._due_s: float | None = None

    def passes(self, time_s: float) -> bool:
        """Whether the frame of this time is to be shown."""
        if not self._step_s:
            return True
        due_s = self._due_s
        if due_s is None or time_s < due_s - 2 * self._step_s:
            due_s = time_s  # the first one, or another clock
        # A camera's clock trembles: a frame a little early is not worth waiting for the next.
        if time_s < due_s - 0.2 * self._step_s:
            return False
        # The beat is kept, also over frames that are missing or late: the one after is not early.
        beats = math.floor((time_s - due_s) / self._step_s + 0.01) + 1
        self._due_s = due_s + max(1, beats) * self._step_s
        return True
