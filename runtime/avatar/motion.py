"""The idle motion of a face at rest: blinks, gaze, breath and sway, all from one seed.

The same seed and the same times give the same motion. Sway and breath are functions of time; blinks
and gaze are events drawn one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.engines.errors import UsageError
from mien.runtime.target import finite_number, shortened

CLOSE_S, SHUT_S, OPEN_S = 0.08, 0.05, 0.16  # a blink takes about a third of a second
SACCADE_S: Final = 0.06
GLANCE: Final = 0.45  # how far a glance goes, of a full turn of the eyes
MOST_BLINKS: Final = 60.0  # a minute
MOST: Final = 3.0  # times the usual amount
BREATH_S: Final = 4.2
# Periods in seconds of what the sway is made of, and the share of each.
PERIODS: Final = ((11.3, 0.5), (6.7, 0.32), (3.9, 0.18))


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """How a face at rest moves.

    seed: of all chance. sway, breath, gaze: 0 for none, 1 for the usual amount, up to 3.
    blinks: a minute, 0..60. Raises UsageError outside of these.
    """

    seed: int = 7
    sway: float = 1.0
    breath: float = 1.0
    gaze: float = 1.0
    blinks: float = 14.0

    def __post_init__(self) -> None:
        for name, most in (
            ("sway", MOST),
            ("breath", MOST),
            ("gaze", MOST),
            ("blinks", MOST_BLINKS),
        ):
            amount = finite_number(getattr(self, name))
            if amount is None or not 0 <= amount <= most:
                told = shortened(getattr(self, name))
                raise UsageError(f"{name} must lie in 0..{most:g}, not {told}")
            object.__setattr__(self, name, amount)
        given: object = self.seed
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 1 << 63:
            raise UsageError(f"the seed is a whole number from 0 on, not {shortened(given)}")


@dataclass(frozen=True, slots=True)
class Pose:
    """How the head lies and the eyes look at one moment.

    shift: x to the right and y down, crop units. roll: radians, clockwise. scale: relative, 0 for
    none. breath: 0 out to 1 in. closure: 0 open lids to 1 shut. gaze: -1..1, right and down.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    scale: float = 0.0
    breath: float = 0.0
    closure: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


class Idle:
    """The motion of one face; times must not go back."""

    def __init__(self, settings: IdleSettings) -> None:
        self.settings = settings
        self._chance = np.random.default_rng(settings.seed)
        self._phases = self._chance.uniform(0, 2 * math.pi, (4, len(PERIODS)))
        periods, self._shares = (np.array(column) for column in zip(*PERIODS, strict=True))
        self._periods = periods * np.array([[1.0], [1.13], [0.91], [1.37]])
        self._blink_s = -math.inf  # when the last one began
        self._next_blink_s: float | None = None
        self._next_glance_s: float | None = None
        self._glance = (0.0, 0.0)
        self._held: tuple[float, float] | None = None
        self._from, self._moved_s = (0.0, 0.0), -math.inf

    def blink(self, time_s: float) -> None:
        """Blink now, unless a blink is under way."""
        if time_s - self._blink_s >= CLOSE_S + SHUT_S + OPEN_S:
            self._blink_s = time_s

    def look(self, at: tuple[float, float] | None, time_s: float) -> None:
        """Look there, or None: about again. at: -1..1, to the viewer's right and down."""
        self._turn_from(time_s)
        self._held = at
        self._moved_s = time_s

    def __call__(self, time_s: float) -> Pose:
        """The pose at a time."""
        self._draw_events(time_s)
        sway = np.float64(self.settings.sway) * self._waves(time_s)
        breath = 0.5 - 0.5 * math.cos(2 * math.pi * time_s / BREATH_S + float(self._phases[0, 0]))
        return Pose(
            shift=(0.014 * float(sway[0]), 0.007 * float(sway[1])),
            roll=math.radians(1.1) * float(sway[2]),
            scale=0.006 * float(sway[3]),
            breath=self.settings.breath * breath,
            closure=_closure(time_s - self._blink_s),
            gaze=self._gaze(time_s),
        )

    def _waves(self, time_s: float) -> np.ndarray:
        """Four slow waves in -1..1: (4,)."""
        waves = np.sin(2 * np.pi * time_s / self._periods + self._phases)
        result: np.ndarray = waves @ self._shares
        return result

    def _draw_events(self, time_s: float) -> None:
        rate = self.settings.blinks / 60
        if rate > 0:
            if self._next_blink_s is None:
                self._next_blink_s = time_s + self._wait(1 / rate)
            if time_s >= self._next_blink_s:
                self.blink(time_s)
                self._next_blink_s = time_s + self._wait(1 / rate)
        if self._next_glance_s is None:
            self._next_glance_s = time_s + self._wait(2.0)
        if time_s >= self._next_glance_s:
            self._turn_from(time_s)
            self._moved_s = time_s
            away = self._chance.random() < 0.45 and self._glance == (0.0, 0.0)
            x, y = self._chance.uniform(-GLANCE, GLANCE, 2)
            self._glance = (float(x), 0.6 * float(y)) if away else (0.0, 0.0)
            self._next_glance_s = time_s + self._wait(0.9 if away else 2.6)

    def _wait(self, mean_s: float) -> float:
        """Seconds until the next event, never much shorter than the mean."""
        return mean_s * (0.4 + 0.6 * float(self._chance.exponential()))

    def _turn_from(self, time_s: float) -> None:
        self._from = self._gaze(time_s)

    def _gaze(self, time_s: float) -> tuple[float, float]:
        amount = self.settings.gaze
        goal = self._held or (amount * self._glance[0], amount * self._glance[1])
        t = min(1.0, max(0.0, (time_s - self._moved_s) / SACCADE_S))
        share = t * t * (3 - 2 * t)
        x, y = (a + share * (b - a) for a, b in zip(self._from, goal, strict=True))
        return (min(1.0, max(-1.0, x)), min(1.0, max(-1.0, y)))


def _closure(since_s: float) -> float:
    """How far lids are closed so long after a blink began, 0..1."""
    if since_s < 0 or since_s >= CLOSE_S + SHUT_S + OPEN_S:
        return 0.0
    if since_s < CLOSE_S:
        t = since_s / CLOSE_S
    elif since_s < CLOSE_S + SHUT_S:
        return 1.0
    else:
        t = 1 - (since_s - CLOSE_S - SHUT_S) / OPEN_S
    return t * t * (3 - 2 * t)
