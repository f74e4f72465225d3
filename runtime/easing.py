"""Values that glide to their target in real time."""

from __future__ import annotations

import math

import numpy as np


class Easing:
    """A number or vector that follows its target without a jump or an overshoot.

    A critically damped spring, solved exactly for each step, so that the way does not depend on
    the frame rate. After `settle_s` it has gone 95 percent of the way.
    """

    def __init__(self, settle_s: float = 0.4) -> None:
        # (1 + x) exp(-x) = 0.05 at x = 4.744
        self._frequency = 4.744 / settle_s
        self.reset()

    def reset(self, value: float | np.ndarray | None = None) -> None:
        """Nothing; goes on from `value` at rest, or from the next target where that is None."""
        self._value = None if value is None else np.asarray(value, np.float64)
        self._velocity: np.ndarray = np.zeros(())
        self._time_s: float | None = None

    def __call__(self, target: float | np.ndarray, time_s: float) -> np.ndarray:
        """Where the value is at `time_s`: float64 of the shape of `target`.

        Time that stands still or goes back moves nothing.
        """
        goal = np.asarray(target, np.float64)
        if self._value is None:
            self._value = goal
        step_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        distance = self._value - goal
        slope = self._velocity + self._frequency * distance
        decay = math.exp(-self._frequency * step_s)
        self._value = np.asarray(goal + (distance + slope * step_s) * decay)
        self._velocity = np.asarray((self._velocity - self._frequency * slope * step_s) * decay)
        return self._value
