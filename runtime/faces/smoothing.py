"""Values made smooth over time: the One-Euro filter, and easing towards a target.

The filter is calm while a signal rests and quick while it moves; easing glides in real time.
"""

from __future__ import annotations

import math

import numpy as np


class OneEuro:
    """Smooths an array of numbers or points over irregular timestamps.

    The cutoff of a low-pass rises with the speed of the signal, so what rests is smoothed most and
    what moves at speed v lags at most 1 / (2 pi beta) behind, whatever v.
    Source: Casiez, Roussel, Vogel, "1 Euro Filter", CHI 2012, algorithm 1.

    min_cutoff_hz: cutoff at rest. beta: rise of the cutoff in Hz for each unit of speed (units of
    the signal a second). speed_cutoff_hz: the cutoff for the speed itself.
    """

    def __init__(self, *, min_cutoff_hz: float, beta: float, speed_cutoff_hz: float = 1.0) -> None:
        self._min_cutoff_hz = min_cutoff_hz
        self._beta = beta
        self._speed_cutoff_hz = speed_cutoff_hz
        self.reset()

    def reset(self) -> None:
        """Forget the past; the next value starts the filter again."""
        self._value: np.ndarray | None = None
        self._velocity: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(self, value: np.ndarray, time_s: float) -> np.ndarray:
        """The smoothed value, float32 of the same shape.

        value: (..., d); the d numbers along the last axis are one point and share its speed.
        time_s: where it does not grow the filter starts again from `value`.
        """
        value = np.asarray(value, np.float32)
        step_s = time_s - self._time_s
        self._time_s = time_s
        if self._value is None or self._velocity is None or step_s <= 0:
            self._value, self._velocity = value, np.zeros_like(value)
            return value
        velocity = (value - self._value) / np.float32(step_s)
        share = np.float32(_share(self._speed_cutoff_hz, step_s))
        self._velocity = self._velocity + share * (velocity - self._velocity)
        speed = np.sqrt((self._velocity**2).sum(-1, keepdims=True))
        cutoff_hz = self._min_cutoff_hz + self._beta * speed
        rate = 2 * math.pi * step_s * cutoff_hz
        self._value = (self._value + rate / (1 + rate) * (value - self._value)).astype(np.float32)
        return self._value


def _share(cutoff_hz: float, step_s: float) -> float:
    rate = 2 * math.pi * cutoff_hz * step_s
    return rate / (1 + rate)


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
        """Restart at `value` at rest, or at the next target where that is None."""
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
